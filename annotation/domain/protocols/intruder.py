"""Intruder: four images activate the feature in one range of strength, one does not; which one is it?

Every image has one highlighted patch from the same distribution of places, so that the highlight tells nothing. Needs
the fewest answers per feature and no words.
"""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_noop as _

from annotation.domain.protocols.base import DICTIONARY_CONTROLS, Option, Options, Panel, Payload, Protocol, Truth
from annotation.domain.protocols.choices import cell_choices
from annotation.domain.protocols.questions import Kind, Question


def n_cells(options: Options) -> int:
    return int(options.get("n_images", 5))


def questions(options: Options) -> tuple[Question, ...]:
    n = n_cells(options)
    return (
        Question(
            "intruder", Kind.CELL, _("Which one does not belong?"), cell_choices(n), panel="candidates", n_cells=n,
            column="choice",
        ),
    )  # fmt: skip


def score(payload: Payload, truth: Truth, options: Options) -> float | None:
    return float(payload["intruder"] == truth["intruder"]) if "intruder" in truth else None


def accepted(truth: Truth, options: Options) -> dict[str, list[Any]]:
    return {"intruder": [truth["intruder"]]} if "intruder" in truth else {}


PROTOCOL = Protocol(
    name="intruder",
    version="1.0",
    title=_("Find the intruder"),
    summary=_("Five images with one patch marked in each; four activate the feature. Say which one does not."),
    layout="intruder",
    builder="intruder",
    quantity=_("share of intruders found, minus chance"),
    panels=(Panel("candidates", _("Four of these share something at the marked patch")),),
    questions=questions,
    chance=lambda options: 1 / n_cells(options),
    options=(
        Option("n_images", 5, (4, 5, 6), _("Images")),
        Option("items_per_feature", 1, (), _("Items per feature")),
    ),
    score=score,
    accepted=accepted,
    conditions=DICTIONARY_CONTROLS,
    submits_at_once=True,
    answers_needed=_("7, 4 or 2 answers tell one feature of true accuracy .7, .8 or .9 from chance."),
)
