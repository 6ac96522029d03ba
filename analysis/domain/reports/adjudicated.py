"""Adjudication: how many majority verdicts were overturned."""

from __future__ import annotations

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
from analysis.plots import Axis
from analysis.statistics.adjudication import share_overturned
from analysis.statistics.figures import Figure

AXIS = Axis(0.0, 1.0, "share overturned, 95 % interval")


def overturned(scope: Scope, name: str) -> Figure:
    return share_overturned(scope.measured("overturned"), rng(), of=f"share of majority verdicts overturned: {name}")


def headlines(sections: list[Section], subject: Subject) -> list[Headline]:
    return headlines_from(sections, [("of the majority verdicts were overturned", "", "overall", "all")])


def sections(answers: Answers, subject: Subject) -> list[Section]:
    scope = scope_of(answers)
    statement = "Of the verdicts that a majority gave, how many the adjudicator settled otherwise."
    overall = Section("overall", "Share overturned", statement, AXIS, [Line("", "all", overturned(scope, "all"))])
    return [overall, *sections_by_part(scope, overturned, what="Share overturned", statement=statement, axis=AXIS)]


def agreement(real: Scope, subject: Subject) -> None:
    """Each disagreement is settled once."""


def notes(scope: Scope) -> list[tuple[str, str]]:
    return []
