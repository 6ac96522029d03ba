"""Two-alternative forced choice: shown what activates a feature, which of two new images activates it too?

*easy*: an activating image against a silent one; *hard*: against the silent one that looks most like it; *graded*: a
strong image against a middling one; *no-reference*: the same question with no references, which measures what can be
guessed without seeing the feature (most of it: research/annotation.md §3).
"""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_noop as _

from annotation.domain.protocols.base import DICTIONARY_CONTROLS, Option, Options, Panel, Payload, Protocol, Truth
from annotation.domain.protocols.choices import cell_choices, confidence
from annotation.domain.protocols.questions import Kind, Question

VARIANTS = ("easy", "hard", "graded", "no-reference")


def questions(options: Options) -> tuple[Question, ...]:
    asked = Question(
        "query", Kind.CELL, _("Which of the two belongs with the images that activate it?"), cell_choices(2),
        panel="queries", n_cells=2, column="choice",
    )  # fmt: skip
    return asked, confidence()


def score(payload: Payload, truth: Truth, options: Options) -> float | None:
    return float(payload["query"] == truth["query"]) if "query" in truth else None


def accepted(truth: Truth, options: Options) -> dict[str, list[Any]]:
    return {"query": [truth["query"]]} if "query" in truth else {}


PROTOCOL = Protocol(
    name="two-alternative",
    version="1.0",
    title=_("Two alternatives"),
    summary=_("From images that activate a feature, say which of two new images activates it as well."),
    layout="two-alternative",
    builder="two-alternative",
    quantity=_("share of right choices; lift over the same choice without references"),
    panels=(
        Panel("reference", _("These activate it")),
        Panel("contrast", _("These do not")),
        Panel("queries", _("Which of these two does?")),
    ),
    questions=questions,
    chance=lambda options: 0.5,
    options=(
        Option("variants", ("easy", "hard", "no-reference"), VARIANTS, _("Contrasts"), _("Each in equal parts.")),
        Option("n_references", 9, (4, 6, 9), _("References")),
        Option("items_per_feature", 1, (), _("Items per feature")),
    ),
    score=score,
    accepted=accepted,
    conditions=DICTIONARY_CONTROLS,
    answers_needed=_("37, 18 or 8 answers tell one feature of true accuracy .7, .8 or .9 from chance."),
)
