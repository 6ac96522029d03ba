"""Adjudication: how many majority verdicts were overturned."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.domain.answers import Answers
from analysis.domain.measures import MEASURES
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
from analysis.statistics.adjudication import agreement_figure, agreement_with_verdicts, share_overturned
from analysis.statistics.figures import Figure
from analysis.statistics.measured import make_measured
from analysis.statistics.wording import Words

AXIS = Axis(0.0, 1.0, Words("share overturned, 95 % interval"))


def overturned(scope: Scope, name: str) -> Figure:
    return share_overturned(
        scope.measured("overturned"), rng(), of=Words("share of majority verdicts overturned: %(name)s", name=name)
    )


def headlines(sections: list[Section], subject: Subject) -> list[Headline]:
    return headlines_from(sections, [(Words("of the majority verdicts were overturned"), "", "overall", "all")])


def sections(answers: Answers, subject: Subject) -> list[Section]:
    scope = scope_of(answers)
    statement = Words("Of the verdicts that a majority gave, how many the adjudicator settled otherwise.")
    overall = Section(
        "overall", Words("Share overturned"), statement, AXIS, [Line("", Words("all"), overturned(scope, Words("all")))]
    )
    return [
        overall,
        *sections_by_part(scope, overturned, what=Words("Share overturned"), statement=statement, axis=AXIS),
    ]


def settled_section(subject: Subject) -> Section | None:
    """For the report of the study that was judged: majorities overturned, and each annotator against the verdicts."""
    if not subject.settled:
        return None
    score = MEASURES["adjudication"].of
    rows = [
        (one.item, one.judge, numbers[0])
        for one in subject.settled
        if (numbers := score({"verdict": one.verdict}, {"majority": one.majority}, "", {})) is not None
    ]
    items, judges, values = zip(*rows, strict=True) if rows else ((), (), ())
    measured = make_measured(np.array(items, dtype=np.int64), np.array(judges, dtype=str), np.array(values))
    of = Words("share of majority verdicts overturned")
    lines = [Line("", Words("majorities overturned"), share_overturned(measured, rng(), of=of))]
    answers: dict[str, list[tuple[Any, Any]]] = {}
    for one in subject.settled:
        for annotator, value in one.answers:
            answers.setdefault(annotator, []).append((value, one.verdict))
    for agreed in agreement_with_verdicts(answers):
        figure = agreement_figure(
            agreed, Words("share of answers as settled: %(annotator)s", annotator=agreed.annotator)
        )
        lines.append(Line("", Words("as settled: %(annotator)s", annotator=agreed.annotator), figure))
    statement = Words(
        "Reviewers settled %(n)s items on which answers differed: how many of the majorities were "
        "overturned, and how many of each annotator's answers on these items are as settled.",
        n=len(subject.settled),
    )
    return Section(
        "settled", Words("What reviewers settled"), statement, Axis(0.0, 1.0, Words("share, 95 % interval")), lines
    )


def agreement(real: Scope, subject: Subject) -> None:
    """Each disagreement is settled once."""


def notes(scope: Scope) -> list[tuple[str, str]]:
    return []
