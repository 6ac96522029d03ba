"""Patch marking: how well marks on unseen images agree with the feature's own map, over shifted maps."""

from __future__ import annotations

import numpy as np

from analysis.domain.answers import Answers
from analysis.domain.reports.frame import (
    Headline,
    Line,
    Scope,
    Section,
    Subject,
    headlines_from,
    rng,
    scope_of,
    sections_by_part,
)
from analysis.domain.reports.quality import repeats_section
from analysis.plots import Axis
from analysis.statistics.accuracy import difference, mean_value
from analysis.statistics.figures import Figure
from annotation.models import Condition

AREA_AXIS = Axis(-0.5, 0.5, "AUC less that of shifted maps, 95 % interval", 0.0, "chance")
STATEMENT = (
    "P(the map is higher at a marked patch than at another) less what the same marks reach on the map shifted around "
    "the grid; 0 is chance, 0.5 the most."
)


def area(scope: Scope, name: str) -> Figure:
    return mean_value(scope.measured("area"), rng(), of=f"AUC of marks less chance: {name}", bounds=(-0.5, 0.5))


def precision(scope: Scope, name: str) -> Figure:
    of = f"average precision of marks less chance: {name}"
    return mean_value(scope.measured("precision"), rng(), of=of, bounds=(-1.0, 1.0))


def headlines(sections: list[Section], subject: Subject) -> list[Headline]:
    wanted = [("AUC of marks less that of shifted maps", "", "overall", "AUC less chance")]
    return headlines_from(sections, wanted)


def sections(answers: Answers, subject: Subject) -> list[Section]:
    scope = scope_of(answers)
    real = scope.real()
    lines = [
        Line("", "AUC less chance", area(real, "every feature")),
        Line("", "average precision less chance", precision(real, "every feature")),
    ]
    axis = Axis(-0.5, 1.0, "less chance, 95 % interval", 0.0, "chance")
    found = [Section("overall", "Marks against maps", STATEMENT, axis, lines)]
    found += sections_by_part(scope, area, what="AUC of marks less chance", statement=STATEMENT, axis=AREA_AXIS)
    found.append(_controls(scope))
    repeats = repeats_section(answers, {"area": "AUC within .05"}, tolerance=0.05)
    return found + ([repeats] if repeats else [])


def agreement(real: Scope, subject: Subject) -> None:
    """Marks are compared with the map, not with each other."""


def notes(scope: Scope) -> list[tuple[str, str]]:
    return []


def _controls(scope: Scope) -> Section:
    is_control = ~scope.is_condition(Condition.REAL, Condition.CATCH, Condition.GOLD)
    lines = []
    if is_control.any():
        both = scope.where(is_control | scope.is_condition(Condition.REAL))
        is_real = both.is_condition(Condition.REAL)
        numbers = np.stack([both.number("area"), is_real.astype(np.float32)])
        measured = both._replace(numbers=numbers, names=("area", "real")).measured("area", "real")
        figure = difference(measured, rng(), of="AUC on features less controls", is_first=measured.values[1] != 0)
        lines.append(Line("", "all controls", figure))
    words = "AUC of marks on features less that on controls."
    axis = Axis(-0.5, 0.5, "difference of AUC, 95 % interval", 0.0, "no difference")
    return Section("controls", "Features against controls", words, axis, lines)
