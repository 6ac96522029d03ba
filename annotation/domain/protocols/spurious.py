"""Spurious for a class: is what the feature shows part of the class, or only often beside it? Debiasing uses it."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from annotation.domain.protocols.base import SHEET_CONTROLS, Options, Protocol
from annotation.domain.protocols.choices import CANNOT_TELL, label, yes_no_choices
from annotation.domain.protocols.questions import Kind, Question
from annotation.domain.protocols.rate_describe import SHEET_PANELS


def questions(options: Options) -> tuple[Question, ...]:
    choices = yes_no_choices(_("only beside it"), _("part of the class"), CANNOT_TELL)
    asked = _("Is what it shows part of the class, or only beside it?")
    return Question("spurious", Kind.CHOICE, asked, choices, column="choice"), label(_("In a few words"))


PROTOCOL = Protocol(
    name="spurious",
    version="1.0",
    title=_("Spurious for a class?"),
    summary=_(
        "A feature and a class that it promotes: say whether it shows the class itself or only what is beside it."
    ),
    layout="sheet",
    builder="sheet",
    quantity=_("share of features that most people call spurious for their class"),
    panels=SHEET_PANELS,
    questions=questions,
    chance=lambda options: None,
    conditions=SHEET_CONTROLS,
    needs=frozenset({"classes"}),
    answers_needed=_("3 people on every feature that debiasing may remove."),
)
