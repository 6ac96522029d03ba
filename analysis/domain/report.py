"""The report of a study of the first protocol: shares, contrast with controls, agreement, with intervals.

Every number is a `Figure`. The same function serves the page, the API and `recompute_report`; the seed is fixed, so
that the same answers give the same numbers, intervals included.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.domain.answers import LEVELS, Answers, Tally, collect, rows_of_study
from analysis.statistics.agreement import Agreement, Scale, agreement
from analysis.statistics.bootstrap import n_resamples_for
from analysis.statistics.contrast import auc_over_controls
from analysis.statistics.figures import Figure
from analysis.statistics.ratings import INTERPRETABLE_FROM, Ratings, make_ratings
from analysis.statistics.shares import Share, share_interpretable
from annotation.domain.unblinding import unblinding_of
from annotation.models import Condition, Study

SEED = 0
N_CATEGORIES = 4
CONDITIONS = list(Condition)
CONTROLS = (
    Condition.RANDOM_DIRECTIONS,
    Condition.RESIDUAL_BASIS,
    Condition.UNTRAINED_DICTIONARY,
    Condition.SHUFFLED,
)


class StillBlindError(Exception):
    """The study is not closed and unblinded; the message says what to do."""


class Part(NamedTuple):
    """One row of a partition: a block, a condition, a dictionary."""

    name: str
    share: Share


class LevelReport(NamedTuple):
    """At patch level or at image level."""

    level: str
    overall: Part
    by_block: list[Part]
    by_condition: list[Part]
    by_dictionary: list[Part]
    auc: Figure
    auc_by_control: list[tuple[str, Figure]]
    on_ratings: Agreement  # ordinal, answers 1 to 4
    on_verdicts: Agreement  # nominal, interpretable or not
    n_cannot_tell: int


class Report(NamedTuple):
    levels: list[LevelReport]
    tally: Tally
    n_annotators: int
    n_items: int
    n_resamples: int
    include_simulated: bool


def report_of_study(study: Study, *, include_simulated: bool) -> Report:
    if unblinding_of(study) is None:
        raise StillBlindError(f"'{study.name}' is blind: close it and unblind it to see results.")
    return make_report(collect(rows_of_study(study), include_simulated=include_simulated), include_simulated)


def make_report(answers: Answers, include_simulated: bool) -> Report:
    return Report(
        [_level_report(answers, level) for level in LEVELS],
        answers.tally,
        answers.n_annotators,
        len(answers.facts),
        n_resamples_for(answers.item.size),
        include_simulated,
    )


def figures_of(report: Report) -> list[tuple[str, str, str, Figure]]:
    """Every figure of a report: (level, group of figures, name, figure); the rows of its tables and CSV files."""
    rows = []
    for level in report.levels:
        partitions = {
            "overall": [level.overall],
            "block": level.by_block,
            "condition": level.by_condition,
            "dictionary": level.by_dictionary,
        }
        for group, parts in partitions.items():
            for part in parts:
                rows.append((level.level, group, part.name, part.share.features))
                rows.append((level.level, f"{group}, judgements", part.name, part.share.judgements))
        rows.append((level.level, "auc", "all controls", level.auc))
        rows.extend((level.level, "auc", name, figure) for name, figure in level.auc_by_control)
        for name, measured in (("answers 1 to 4", level.on_ratings), ("interpretable or not", level.on_verdicts)):
            rows.extend((level.level, "agreement", name, figure) for figure in measured[:3])
    return rows


class _Scope(NamedTuple):
    """The answers of one level, with what is known of each feature they are on, as codes."""

    level: str
    ratings: Ratings
    condition: npt.NDArray[np.int16]  # place in CONDITIONS
    block: npt.NDArray[np.int16]
    dictionary: npt.NDArray[np.int16]  # place in names
    names: list[str]

    def where(self, keep: npt.NDArray[np.bool_]) -> _Scope:
        """`keep` [feature]."""
        return self._replace(
            ratings=self.ratings.where(keep[self.ratings.feature]),
            condition=self.condition[keep],
            block=self.block[keep],
            dictionary=self.dictionary[keep],
        )

    def is_condition(self, *conditions: Condition) -> npt.NDArray[np.bool_]:
        return np.isin(self.condition, [CONDITIONS.index(one) for one in conditions])


def _level_report(answers: Answers, level: str) -> LevelReport:
    everything = _scope(answers, level)
    real = everything.where(everything.is_condition(Condition.REAL))
    return LevelReport(
        level,
        _overall(real),
        _parts(real, real.block, [f"block {block}" for block in np.unique(real.block)]),
        _parts(everything, everything.condition, [CONDITIONS[one].label for one in np.unique(everything.condition)]),
        _parts(real, real.dictionary, [real.names[one] for one in np.unique(real.dictionary)]),
        _auc(everything, CONTROLS, "all controls"),
        [(control.label, _auc(everything, (control,), control.label)) for control in _controls_in(everything)],
        _agreement_on_ratings(real),
        _agreement_on_verdicts(real),
        int(np.sum(everything.ratings.value == 0)),
    )


def _scope(answers: Answers, level: str) -> _Scope:
    ratings = make_ratings(answers.item, answers.annotator, answers.ratings[level])
    distinct = sorted(set(answers.facts.values()))
    names = sorted({fact.dictionary for fact in distinct})
    coded = {
        fact: (CONDITIONS.index(Condition(fact.condition)), fact.block, names.index(fact.dictionary))
        for fact in distinct
    }
    items = np.unique(answers.item)
    codes = np.zeros((3, items.size), dtype=np.int16)
    for index, item in enumerate(items):
        codes[:, index] = coded[answers.facts[int(item)]]
    return _Scope(level, ratings, codes[0], codes[1], codes[2], names)


def _rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


def _overall(real: _Scope) -> Part:
    name = Condition.REAL.label
    group = np.zeros(real.ratings.n_features, dtype=np.int64)
    [share] = share_interpretable(real.ratings, _rng(), group=group, names=[f"every {name}, {real.level} level"])
    return Part(f"every {name}", share)


def _parts(scope: _Scope, key: npt.NDArray[np.int16], names: list[str]) -> list[Part]:
    """One part per distinct key, in its order; `names` in the same order."""
    if not names:
        return []
    _, group = np.unique(key, return_inverse=True)
    of = [f"{name}, {scope.level} level" for name in names]
    shares = share_interpretable(scope.ratings, _rng(), group=group, names=of)
    return [Part(name, share) for name, share in zip(names, shares, strict=True)]


def _controls_in(scope: _Scope) -> list[Condition]:
    return [control for control in CONTROLS if scope.is_condition(control).any()]


def _auc(scope: _Scope, controls: tuple[Condition, ...], name: str) -> Figure:
    compared = scope.where(scope.is_condition(Condition.REAL, *controls))
    told = compared.ratings.value != 0
    features = np.unique(compared.ratings.feature[told])
    return auc_over_controls(
        compared.ratings.where(told),
        _rng(),
        is_control=~compared.is_condition(Condition.REAL)[features],
        n_categories=N_CATEGORIES,
        of=f"P(real rated above {name}), {scope.level} level",
    )


def _agreement_on_ratings(real: _Scope) -> Agreement:
    of = f"answers 1 to 4 on features, {real.level} level"
    return agreement(real.ratings.told(), _rng(), n_categories=N_CATEGORIES, scale=Scale.ORDINAL, of=of)


def _agreement_on_verdicts(real: _Scope) -> Agreement:
    """Interpretable (2) or not (1); "cannot tell" is not."""
    verdicts = (1 + (real.ratings.value >= INTERPRETABLE_FROM)).astype(np.int8)
    of = f"interpretable or not, features, {real.level} level"
    return agreement(real.ratings._replace(value=verdicts), _rng(), n_categories=2, scale=Scale.NOMINAL, of=of)
