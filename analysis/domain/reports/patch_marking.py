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
from analysis.statistics.wording import Words
from annotation.models import Condition

AREA_AXIS = Axis(-0.5, 0.5, Words("AUC less that of shifted maps, 95 % interval"), 0.0, Words("chance"))
STATEMENT = Words(
    "P(the map is higher at a marked patch than at another) less what the same marks reach on the map "
    "shifted around the grid; 0 is chance, 0.5 the most."
)


def area(scope: Scope, name: str) -> Figure:
    return mean_value(
        scope.measured("area"), rng(), of=Words("AUC of marks less chance: %(name)s", name=name), bounds=(-0.5, 0.5)
    )


def precision(scope: Scope, name: str) -> Figure:
    of = Words("average precision of marks less chance: %(name)s", name=name)
    return mean_value(scope.measured("precision"), rng(), of=of, bounds=(-1.0, 1.0))


def headlines(sections: list[Section], subject: Subject) -> list[Headline]:
    wanted = [(Words("AUC of marks less that of shifted maps"), "", "overall", Words("AUC less chance"))]
    return headlines_from(sections, wanted)


def sections(answers: Answers, subject: Subject) -> list[Section]:
    scope = scope_of(answers)
    real = scope.real()
    lines = [
        Line("", Words("AUC less chance"), area(real, Words("every feature"))),
        Line("", Words("average precision less chance"), precision(real, Words("every feature"))),
    ]
    axis = Axis(-0.5, 1.0, Words("less chance, 95 % interval"), 0.0, Words("chance"))
    found = [Section("overall", Words("Marks against maps"), STATEMENT, axis, lines)]
    found += sections_by_part(scope, area, what=Words("AUC of marks less chance"), statement=STATEMENT, axis=AREA_AXIS)
    found.append(_controls(scope))
    repeats = repeats_section(answers, {"area": Words("AUC within .05")}, tolerance=0.05)
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
        figure = difference(
            measured, rng(), of=Words("AUC on features less controls"), is_first=measured.values[1] != 0
        )
        lines.append(Line("", Words("all controls"), figure))
    words = Words("AUC of marks on features less that on controls.")
    axis = Axis(-0.5, 0.5, Words("difference of AUC, 95 % interval"), 0.0, Words("no difference"))
    return Section("controls", Words("Features against controls"), words, axis, lines)
