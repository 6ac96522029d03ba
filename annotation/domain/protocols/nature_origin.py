"""Superficial, conceptual or uninterpretable, and a guess of the origin: is it a feature or a control?

The guess tests whether the study is blind: where people cannot tell, it lies at chance. Controls should be half of the
items (research/ffkv_saebench.md §1.4).
"""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from annotation.domain.protocols.base import SHEET_CONTROLS, Options, Panel, Payload, Protocol, Truth
from annotation.domain.protocols.choices import digit
from annotation.domain.protocols.questions import Choice, Kind, Question
from annotation.domain.protocols.rate_describe import SHEET_PANELS

NATURES = (_("superficial"), _("conceptual"), _("uninterpretable"))
NATURE_HELP = (
    _("a color, an edge, a texture, a place"),
    _("an idea that spans several appearances"),
    _("nothing shared"),
)


def questions(options: Options) -> tuple[Question, ...]:
    natures = tuple(
        Choice(nature, nature, digit(n), str(n), words)
        for n, (nature, words) in enumerate(zip(NATURES, NATURE_HELP, strict=True), start=1)
    )
    origins = (
        Choice("feature", _("learned by the dictionary"), ("code:KeyQ",), "q"),
        Choice("control", _("made up as a control"), ("code:KeyW",), "w"),
    )
    return (
        Question("nature", Kind.CHOICE, _("What do they share?"), natures, column="choice"),
        Question("origin", Kind.CHOICE, _("Where does it come from?"), origins),
    )


def score(payload: Payload, truth: Truth, options: Options) -> float | None:
    """Whether the origin was guessed; `truth` is made from the condition once the study is unblinded."""
    return float(payload["origin"] == truth["origin"]) if "origin" in truth else None


PANELS: tuple[Panel, ...] = SHEET_PANELS
PROTOCOL = Protocol(
    name="nature-origin",
    version="1.0",
    title=_("Nature and origin"),
    summary=_("Superficial, conceptual or uninterpretable; then guess: learned by a dictionary, or a control?"),
    layout="sheet",
    builder="sheet",
    quantity=_("share of each nature; balanced accuracy of the guess of the origin"),
    panels=PANELS,
    questions=questions,
    chance=lambda options: 0.5,
    score=score,
    conditions=SHEET_CONTROLS,
    answers_needed=_("50 features judged once give a share within .13; 400 items tell .5 from .57."),
)
