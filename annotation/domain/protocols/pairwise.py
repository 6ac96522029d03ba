"""Pairwise comparison of feature sets: which of two features is easier to describe? Ties are allowed.

The two come from different dictionaries and are matched by block and density; sides are drawn at random.
"""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from annotation.domain.protocols.base import Options, Panel, Protocol
from annotation.domain.protocols.choices import digit
from annotation.domain.protocols.questions import Choice, Kind, Question

CHOICES = (
    Choice("left", _("the left"), digit(1), "1"),
    Choice("right", _("the right"), digit(2), "2"),
    Choice("tie", _("no difference"), digit(0), "0"),
)
PAIR_PANELS = (Panel("left", _("Left")), Panel("right", _("Right")))


def questions(options: Options) -> tuple[Question, ...]:
    return (Question("easier", Kind.CHOICE, _("Which is easier to describe?"), CHOICES, column="choice"),)


PROTOCOL = Protocol(
    name="pairwise",
    version="1.0",
    title=_("Compare two features"),
    summary=_("Two features from different dictionaries side by side: say which is easier to describe."),
    layout="pair",
    builder="pair",
    quantity=_("difference of log-strength between dictionaries (Bradley–Terry with ties)"),
    panels=PAIR_PANELS,
    questions=questions,
    chance=lambda options: 0.5,
    needs=frozenset({"two dictionaries"}),
    submits_at_once=True,
    answers_needed=_("50 comparisons per pair of dictionaries order five neighbours (60:40) rightly 93 % of the time."),
)
