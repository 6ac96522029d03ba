"""Adjudication: a reviewer sees the answers that disagree side by side, settles the matter and says why.

It judges the items of a study of another protocol, by that protocol's questions and a rationale; it has no items of
its own (annotation.domain.adjudication).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from django.utils.translation import gettext_noop as _

from annotation.domain.protocols.base import Options, Protocol
from annotation.domain.protocols.choices import label
from annotation.domain.protocols.questions import Question

RATIONALE = label(_("Why?"), name="rationale", is_required=True)


def questions(options: Options) -> tuple[Question, ...]:
    return (RATIONALE,)


def questions_about(judged: Sequence[Question]) -> tuple[Question, ...]:
    """The judged protocol's questions and the rationale; what is typed in columns there is not here."""
    return (*(replace(question, column="") for question in judged), RATIONALE)


PROTOCOL = Protocol(
    name="adjudication",
    version="1.0",
    title=_("Adjudicate"),
    summary=_("Answers that disagree, side by side: settle the matter and say why."),
    layout="adjudication",
    builder="",
    quantity=_("share of majority verdicts overturned"),
    panels=(),
    questions=questions,
    chance=lambda options: None,
    answers_needed=_("Every disagreement once; a tenth twice, by two reviewers."),
)
