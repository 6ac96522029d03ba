"""Alignment: do two features of two dictionaries show the same thing? Pairs are drawn by bins of decoder similarity."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from annotation.domain.protocols.base import Options, Panel, Protocol
from annotation.domain.protocols.choices import CANNOT_TELL, yes_no_choices
from annotation.domain.protocols.questions import Kind, Question


def questions(options: Options) -> tuple[Question, ...]:
    choices = yes_no_choices(_("the same"), _("something else"), CANNOT_TELL)
    return (Question("same", Kind.CHOICE, _("Do both sides show the same thing?"), choices, column="choice"),)


PROTOCOL = Protocol(
    name="alignment",
    version="1.0",
    title=_("Match two dictionaries"),
    summary=_("A feature of one dictionary beside its nearest in another: say whether both show the same thing."),
    layout="pair",
    builder="pair",
    quantity=_("share of pairs matched, by bin of the cosine between their decoder directions"),
    panels=(Panel("left", _("Left")), Panel("right", _("Right"))),
    questions=questions,
    chance=lambda options: None,
    needs=frozenset({"two dictionaries", "alignment"}),
    submits_at_once=True,
    answers_needed=_("10 pairs in each of 10 bins, 3 people each."),
)
