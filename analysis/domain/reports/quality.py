"""Sections that every report has: agreement, catch and gold items, repeats."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.domain.answers import Answers
from analysis.domain.measures import UNTOLD
from analysis.domain.reports.frame import Line, Scope, Section, rng
from analysis.plots import Axis
from analysis.statistics.agreement import Agreement, Scale, agreement
from analysis.statistics.categories import share
from analysis.statistics.measured import make_measured
from analysis.statistics.repeats import expected_by_chance, self_agreement
from analysis.statistics.wording import Several, Words
from annotation.models import Condition

AGREEMENT_NAMES = {
    Scale.ORDINAL: (Words("raw"), Words("alpha, ordinal"), Words("AC2, ordinal")),
    Scale.NOMINAL: (Words("raw"), Words("alpha, nominal"), Words("AC1")),
}


def level_words(level: str) -> Words:
    """The levels of rate, describe, categorise."""
    return {"patch": Words("patch"), "image": Words("image")}.get(level, Words(level))


class Asked(NamedTuple):
    """One question whose answers are compared: codes [answer] from 1 up, 0 cannot tell (left out)."""

    series: str
    what: str
    codes: npt.NDArray[np.int8]
    n_categories: int
    scale: Scale
    second: str = ""  # what the second of two categories is, whose prevalence is told


def agreement_section(scope: Scope, asked: list[Asked]) -> Section:
    lines: list[Line] = []
    prevalence = []
    for one in asked:
        of = Words("%(what)s on features", what=one.what)
        if one.series:
            of = Words("%(name)s, %(level)s level", name=of, level=level_words(one.series))
        ratings = scope.ratings(one.codes).told()
        found = agreement(ratings, rng(), n_categories=one.n_categories, scale=one.scale, of=of)
        lines += _agreement_lines(one, found, is_alone=len({other.what for other in asked}) == 1)
        if one.second:
            told = Words("%(what)s %(percent)s %%", what=one.second, percent=f"{100 * found.prevalence[1]:.0f}")
            level = level_words(one.series)
            prevalence.append(Words("%(level)s level: %(told)s", level=level, told=told) if one.series else told)
    in_brackets = Words(" (%(told)s of judgements)", told=Several(prevalence)) if prevalence else ""
    statement = Words(
        "Agreement of different annotators on the same item. Alpha falls where nearly all answers are alike, "
        "raw agreement and AC1 do not: read them with the prevalence%(told)s.",
        told=in_brackets,
    )
    lowest = min((line.figure.low for line in lines if line.figure.low is not None), default=0.0)
    axis = Axis(0.0 if lowest >= 0 else -0.5 if lowest >= -0.5 else -1.0, 1.0, Words("agreement, 95 % interval"))
    return Section("agreement", Words("Agreement between annotators"), statement, axis, lines)


def _agreement_lines(asked: Asked, found: Agreement, *, is_alone: bool) -> list[Line]:
    names = AGREEMENT_NAMES[asked.scale]
    return [
        Line(asked.series, name if is_alone else Words("%(name)s, %(what)s", name=name, what=asked.what), figure)
        for name, figure in zip(names, found[:3], strict=True)
    ]


def reference_section(scope: Scope) -> Section | None:
    """Answers as accepted on catch and gold items."""
    lines = []
    for condition in (Condition.CATCH, Condition.GOLD):
        part = scope.where(scope.is_condition(condition) & (scope.gold != UNTOLD))
        if part.item.size:
            measured = make_measured(part.item, part.annotator, part.gold)
            name = Words(str(condition.label))
            lines.append(
                Line("", name, share(measured, rng(), of=Words("share answered as accepted: %(name)s", name=name)))
            )
    if not lines:
        return None
    statement = Words("Items whose right answer is known: how many answers were among the accepted ones.")
    axis = Axis(0.0, 1.0, Words("share answered as accepted, 95 % interval"))
    return Section("gold", Words("Catch and gold items"), statement, axis, lines)


def repeats_section(answers: Answers, names: dict[str, str], tolerance: float = 0.0) -> Section | None:
    """`names`: which numbers are compared, and what they are called."""
    lines = []
    for number, name in names.items():
        pairs = answers.repeats.get(number)
        if pairs is None:
            continue
        chance = expected_by_chance(pairs)
        note = "" if chance is None else Words("%(chance)s would agree by chance", chance=f"{chance:.2f}")
        figure = self_agreement(
            pairs, rng(), of=Words("share of repeats answered as before: %(name)s", name=name), tolerance=tolerance
        )
        lines.append(Line("", name, figure._replace(note=Several([figure.note, note]))))
    if not lines:
        return None
    statement = Words("Items shown to the same person again: how many were answered as the first time.")
    axis = Axis(0.0, 1.0, Words("share answered as before, 95 % interval"))
    return Section("repeats", Words("Agreement with oneself"), statement, axis, lines)
