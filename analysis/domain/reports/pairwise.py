"""Comparison of dictionaries: log-strengths by Bradley and Terry with ties, and whether a side is preferred."""

from __future__ import annotations

import numpy as np

from analysis.domain.answers import Answers
from analysis.domain.measures import UNTOLD
from analysis.domain.reports.frame import Headline, Line, Scope, Section, Subject, rng, scope_of
from analysis.domain.reports.quality import Asked, agreement_section, repeats_section
from analysis.plots import Axis
from analysis.statistics.agreement import Scale
from analysis.statistics.bradley_terry import (
    Strengths,
    clusters_of_pairs,
    comparisons_of,
    strengths,
)
from analysis.statistics.categories import choice_shares, share
from analysis.statistics.figures import Figure
from analysis.statistics.measured import make_measured
from analysis.statistics.wording import Words


def sets_of(scope: Scope) -> list[str]:
    names = {scope.facts[code].dictionary for code in np.unique(scope.fact)}
    return sorted(names | {scope.facts[code].other_dictionary for code in np.unique(scope.fact)})


def fitted(scope: Scope) -> Strengths:
    names = sets_of(scope)
    comparisons = comparisons_of(len(names))
    place = {name: index for index, name in enumerate(names)}
    cells = np.full((len(scope.facts), 3), -1)
    for code in np.unique(scope.fact):
        first, second = place[scope.facts[code].dictionary], place[scope.facts[code].other_dictionary]
        if first != second:
            cells[code] = [comparisons.cell(first, second, outcome) for outcome in range(3)]
    cell = cells[scope.fact, scope.number("outcome").astype(np.int64)] if scope.item.size else np.zeros(0, np.int64)
    kept = scope.where(cell >= 0)
    clusters = clusters_of_pairs(kept.feature.astype(np.int64), kept.other_feature.astype(np.int64))
    return strengths(make_measured(clusters, kept.annotator, cell[cell >= 0]), rng(), names=names)


def headlines(sections: list[Section], subject: Subject) -> list[Headline]:
    differences = [line for section in sections if section.group == "difference" for line in section.lines]
    return [Headline(line.figure.of, "", line.figure) for line in differences[:3]]


def sections(answers: Answers, subject: Subject) -> list[Section]:
    real = scope_of(answers).real()
    found = fitted(real)
    names = sets_of(real)
    axis = _axis([*found.of_sets, *found.differences])
    words = Words(
        "How easily the features of a dictionary are described, against the mean of all dictionaries; ties count."
    )
    between = Words("Log-strength of the first less that of the second; 0.41 is 60 to 40 among decided answers.")
    strong = Section(
        "strength", Words("Log-strength by dictionary"), words, axis,
        [Line("", name, figure) for name, figure in zip(names, found.of_sets, strict=True)],
    )  # fmt: skip
    pairs = [f"{names[a]} − {names[b]}" for a, b in comparisons_of(len(names)).pairs]
    different = Section(
        "difference", Words("Differences of log-strength"), between, axis,
        [Line("", name, figure) for name, figure in zip(pairs, found.differences, strict=True)],
    )  # fmt: skip
    agreed = agreement(real, subject)
    repeats = repeats_section(answers, {"outcome": Words("outcome")})
    return [strong, different, *_blocks(real, names), _ties(real), agreed] + ([repeats] if repeats else [])


def agreement(real: Scope, subject: Subject) -> Section:
    codes = (1 + real.number("outcome")).astype(np.int8)
    return agreement_section(real, [Asked("", Words("outcome"), codes, 3, Scale.NOMINAL)])


def notes(scope: Scope) -> list[tuple[str, str]]:
    return []


def _blocks(real: Scope, names: list[str]) -> list[Section]:
    """For two dictionaries, their difference block by block."""
    blocks = real.present(lambda fact: fact.block)
    if len(names) != 2 or len(blocks) < 2:
        return []
    lines = []
    for block in blocks:
        part = real.where(real.is_fact(lambda fact, block=block: fact.block == block))  # type: ignore[misc]
        lines += [Line("", Words("block %(block)s", block=block), one) for one in fitted(part).differences]
    title = Words("Log-strength of %(first)s less %(second)s, by block", first=names[0], second=names[1])
    axis = _axis([line.figure for line in lines])
    return [Section("block", title, Words("The same difference within each block."), axis, lines)]


def _axis(figures: list[Figure]) -> Axis:
    """Wide enough for every interval."""
    ends = [abs(end) for one in figures for end in (one.low, one.high, one.value) if end is not None]
    reach = float(np.ceil(2 * max(ends, default=1.0)) / 2)
    return Axis(-reach, reach, Words("log-strength, 95 % interval"), 0.0, Words("no difference"))


def _ties(real: Scope) -> Section:
    measured = real.measured("outcome")
    shares = choice_shares(measured, rng(), choices={2: Words("ties")}, of=Words("comparisons"))
    decided = real.where(real.number("left") != UNTOLD)
    left = share(decided.measured("left"), rng(), of=Words("share of decided comparisons won by the left side"))
    lines = [Line("", Words("ties"), shares[0]), Line("", Words("left chosen"), left)]
    words = Words(
        "Sides are drawn at random: people who look at the pictures choose the left in half of the decided answers."
    )
    return Section(
        "ties",
        Words("Ties and sides"),
        words,
        Axis(0.0, 1.0, Words("share, 95 % interval"), 0.5, Words("one half")),
        lines,
    )
