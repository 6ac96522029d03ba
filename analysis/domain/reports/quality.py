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
from annotation.models import Condition

AGREEMENT_NAMES = {
    Scale.ORDINAL: ("raw", "alpha, ordinal", "AC2, ordinal"),
    Scale.NOMINAL: ("raw", "alpha, nominal", "AC1"),
}


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
        of = ", ".join(filter(None, [f"{one.what} on features", f"{one.series} level" if one.series else ""]))
        ratings = scope.ratings(one.codes).told()
        found = agreement(ratings, rng(), n_categories=one.n_categories, scale=one.scale, of=of)
        lines += _agreement_lines(one, found, is_alone=len({other.what for other in asked}) == 1)
        if one.second:
            level = f"{one.series} level: " if one.series else ""
            prevalence.append(f"{level}{one.second} {100 * found.prevalence[1]:.0f} %")
    told = f" ({'; '.join(prevalence)} of judgements)" if prevalence else ""
    statement = (
        "Agreement of different annotators on the same item. Alpha falls where nearly all answers are alike, raw "
        f"agreement and AC1 do not: read them with the prevalence{told}."
    )
    lowest = min((line.figure.low for line in lines if line.figure.low is not None), default=0.0)
    axis = Axis(0.0 if lowest >= 0 else -0.5 if lowest >= -0.5 else -1.0, 1.0, "agreement, 95 % interval")
    return Section("agreement", "Agreement between annotators", statement, axis, lines)


def _agreement_lines(asked: Asked, found: Agreement, *, is_alone: bool) -> list[Line]:
    suffix = "" if is_alone else f", {asked.what}"
    names = AGREEMENT_NAMES[asked.scale]
    return [Line(asked.series, f"{name}{suffix}", figure) for name, figure in zip(names, found[:3], strict=True)]


def reference_section(scope: Scope) -> Section | None:
    """Answers as accepted on catch and gold items."""
    lines = []
    for condition in (Condition.CATCH, Condition.GOLD):
        part = scope.where(scope.is_condition(condition) & (scope.gold != UNTOLD))
        if part.item.size:
            measured = make_measured(part.item, part.annotator, part.gold)
            name = str(condition.label)
            lines.append(Line("", name, share(measured, rng(), of=f"share answered as accepted: {name}")))
    if not lines:
        return None
    statement = "Items whose right answer is known: how many answers were among the accepted ones."
    axis = Axis(0.0, 1.0, "share answered as accepted, 95 % interval")
    return Section("gold", "Catch and gold items", statement, axis, lines)


def repeats_section(answers: Answers, names: dict[str, str], tolerance: float = 0.0) -> Section | None:
    """`names`: which numbers are compared, and what they are called."""
    lines = []
    for number, name in names.items():
        pairs = answers.repeats.get(number)
        if pairs is None:
            continue
        chance = expected_by_chance(pairs)
        note = "" if chance is None else f"{chance:.2f} would agree by chance"
        figure = self_agreement(pairs, rng(), of=f"share of repeats answered as before: {name}", tolerance=tolerance)
        lines.append(Line("", name, figure._replace(note="; ".join(filter(None, [figure.note, note])))))
    if not lines:
        return None
    statement = "Items shown to the same person again: how many were answered as the first time."
    axis = Axis(0.0, 1.0, "share answered as before, 95 % interval")
    return Section("repeats", "Agreement with oneself", statement, axis, lines)
