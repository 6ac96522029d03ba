"""The frame of every report: sections of lines, the answers in scope, and figures for each part of them.

Every line is a `Figure`. The seed is fixed, so that the same answers give the same numbers, intervals included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.domain.answers import Answers, Fact, Tally
from analysis.plots import Axis
from analysis.statistics.figures import Figure
from analysis.statistics.measured import Measured, make_measured
from analysis.statistics.ratings import Ratings, make_ratings
from analysis.statistics.wording import Words
from annotation.models import Condition

SEED = 0
CONTROLS = (
    Condition.RANDOM_DIRECTIONS,
    Condition.RESIDUAL_BASIS,
    Condition.UNTRAINED_DICTIONARY,
    Condition.RANDOM_TRANSFORMER,
    Condition.SHUFFLED,
    Condition.SHUFFLED_EXPLANATION,
)
Keep = npt.NDArray[np.bool_]


class Line(NamedTuple):
    """`series`: what is drawn in one color across the rows of a chart, such as the level; may be empty."""

    series: str
    name: str
    figure: Figure


class Section(NamedTuple):
    """`axis` None: a table without a plot."""

    group: str  # what the CSV link asks for
    title: str
    statement: str
    axis: Axis | None
    lines: list[Line]


class Headline(NamedTuple):
    words: str
    series: str
    figure: Figure


class Settled(NamedTuple):
    """An item that a reviewer settled; a majority of None cannot be overturned."""

    item: int
    judge: str
    verdict: Any
    majority: Any
    answers: Sequence[tuple[str, Any]]  # (annotator, value of the answer)


class Subject(NamedTuple):
    """What a report is of, as the study or the card of an export tells it."""

    protocol: str
    options: Mapping[str, Any]
    ineligible: Sequence[Mapping[str, Any]] = ()  # {feature, reason}
    departures: Sequence[str] = ()  # from the pre-registration
    settled: Sequence[Settled] = ()


class Report(NamedTuple):
    subject: Subject
    headlines: list[Headline]
    sections: list[Section]
    notes: list[tuple[str, str]]  # counts that are no figures: (what, how many)
    tally: Tally
    n_annotators: int
    n_items: int
    n_resamples: int
    include_simulated: bool


class Scope(NamedTuple):
    """Some of the answers; see `Answers`."""

    item: npt.NDArray[Any]
    feature: npt.NDArray[Any]
    other_feature: npt.NDArray[Any]
    annotator: npt.NDArray[Any]
    fact: npt.NDArray[Any]
    gold: npt.NDArray[np.int8]
    numbers: npt.NDArray[Any]
    names: tuple[str, ...]
    facts: list[Fact]

    def where(self, keep: Keep) -> Scope:
        if keep.all():
            return self
        item = self.item[keep]
        feature = item if self.feature is self.item else self.feature[keep]
        columns = [column[keep] for column in self[2:6]]
        return Scope._make(
            (item, feature, *columns, np.stack([row[keep] for row in self.numbers]), self.names, self.facts)
        )

    def number(self, name: str) -> npt.NDArray[Any]:
        row: npt.NDArray[Any] = self.numbers[self.names.index(name)]
        return row

    def is_fact(self, test: Callable[[Fact], bool]) -> Keep:
        """[answer]"""
        if not self.facts:
            return np.zeros(0, dtype=bool)
        passed: Keep = np.array([test(fact) for fact in self.facts], dtype=bool)[self.fact]
        return passed

    def is_condition(self, *conditions: str) -> Keep:
        return self.is_fact(lambda fact: fact.condition in conditions)

    def real(self) -> Scope:
        return self.where(self.is_condition(Condition.REAL))

    def present(self, key: Callable[[Fact], Any]) -> list[Any]:
        """The distinct keys among the answers, sorted."""
        return sorted({key(self.facts[code]) for code in np.unique(self.fact)})

    def measured(self, *names: str) -> Measured:
        """Features are what is resampled: all items of a feature together."""
        rows = [self.names.index(name) for name in names]
        return make_measured(self.feature, self.annotator, self.numbers[rows])

    def ratings(self, values: npt.ArrayLike) -> Ratings:
        """Items are what is judged; `values` [answer] from 1 up, 0 cannot tell."""
        return make_ratings(self.item, self.annotator, values)


def scope_of(answers: Answers) -> Scope:
    return Scope(
        answers.item, answers.feature, answers.other_feature, answers.annotator, answers.fact, answers.gold,
        answers.numbers, answers.names, answers.facts,
    )  # fmt: skip


def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


class Partition(NamedTuple):
    group: str
    title: str
    key: Callable[[Fact], Any]
    name: Callable[[Any], str]
    is_of_real: bool = True


def pick(sections: Sequence[Section], group: str, name: str, series: str = "") -> Figure | None:
    """One figure of a report; None where there is none such."""
    for section in sections:
        for line in section.lines:
            if (section.group, line.name, line.series) == (group, name, series):
                return line.figure
    return None


def headlines_from(sections: Sequence[Section], wanted: Sequence[tuple[str, str, str, str]]) -> list[Headline]:
    """`wanted`: (words, series, group, name) of figures that stand at the top."""
    found = [(words, series, pick(sections, group, name, series)) for words, series, group, name in wanted]
    return [Headline(words, series, figure) for words, series, figure in found if figure is not None]


def _condition_order(fact: Fact) -> int:
    return list(Condition).index(Condition(fact.condition))


PARTITIONS = (
    Partition("block", Words("by block"), lambda fact: fact.block, lambda block: Words("block %(block)s", block=block)),
    Partition(
        "condition",
        Words("of features and controls"),
        _condition_order,
        lambda one: Words(str(list(Condition)[one].label)),
        False,
    ),
    Partition("dictionary", Words("by dictionary"), lambda fact: fact.dictionary, str),
    Partition(
        "variant", Words("by kind of item"), lambda fact: fact.variant, lambda variant: variant or Words("plain")
    ),
)
FigureOf = Callable[[Scope, str], Figure]
"""(answers of one part, name of the part) -> its figure."""


def lines_by(partition: Partition, scope: Scope, figure_of: FigureOf, series: str = "") -> list[Line]:
    chosen = scope.real() if partition.is_of_real else scope
    lines = []
    for key in chosen.present(partition.key):
        part = chosen.where(chosen.is_fact(lambda fact, key=key: partition.key(fact) == key))  # type: ignore[misc]
        lines.append(Line(series, partition.name(key), figure_of(part, partition.name(key))))
    return lines


def sections_by_part(scope: Scope, figure_of: FigureOf, *, what: str, statement: str, axis: Axis) -> list[Section]:
    """By block always, by condition, dictionary and variant where there are several."""
    sections = []
    for partition in PARTITIONS:
        lines = lines_by(partition, scope, figure_of)
        if partition.group == "block" or len(lines) > 1:
            sections.append(
                Section(
                    partition.group, Words("%(what)s %(part)s", what=what, part=partition.title), statement, axis, lines
                )
            )
    return sections


def controls_in(scope: Scope) -> list[Condition]:
    present = set(scope.present(lambda fact: fact.condition))
    return [control for control in CONTROLS if control in present]
