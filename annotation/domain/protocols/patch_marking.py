"""Patch marking: shown what activates a feature and where, mark the patches of new images that would."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from django.utils.translation import gettext_noop as _

from annotation.domain.protocols.base import DICTIONARY_CONTROLS, Option, Options, Panel, Payload, Protocol, Truth
from annotation.domain.protocols.questions import Kind, Question


def n_cells(options: Options) -> int:
    return int(options.get("n_images", 4))


def questions(options: Options) -> tuple[Question, ...]:
    asked = _("Mark the patches that show the same thing.")
    return (Question("marks", Kind.MARKS, asked, panel="queries", n_cells=n_cells(options)),)


def score(payload: Payload, truth: Truth, options: Options) -> float | None:
    """Mean over the images of the area under the ROC curve of marks against the map: .5 is chance."""
    if "maps" not in truth:
        return None
    areas = []
    for index, text in enumerate(truth["maps"]):
        marked = {patch for cell, patch in payload["marks"] if cell == index}
        area = area_under_curve(base64.b64decode(text), marked)
        if area is not None:
            areas.append(area)
    return sum(areas) / len(areas) if areas else None


def area_under_curve(patch_map: Sequence[int], marked: set[int]) -> float | None:
    """P(the map is higher at a marked patch than at another), ties half; None for an empty or a constant map.

    No mark, or every patch marked, tells nothing apart: one half.
    """
    if len(set(patch_map)) < 2:
        return None
    inside = [value for patch, value in enumerate(patch_map) if patch in marked]
    outside = [value for patch, value in enumerate(patch_map) if patch not in marked]
    if not inside or not outside:
        return 0.5
    wins = sum((a > b) + 0.5 * (a == b) for a in inside for b in outside)
    return wins / (len(inside) * len(outside))


PROTOCOL = Protocol(
    name="patch-marking",
    version="1.0",
    title=_("Mark the patches"),
    summary=_("From images that activate a feature, with the places: mark the patches of new images that would."),
    layout="marking",
    builder="patch-marking",
    quantity="area under the curve of marks against the feature's map, minus that of shifted maps",
    panels=(Panel("reference", _("Where it fires")), Panel("queries", _("Mark the same here"))),
    questions=questions,
    chance=lambda options: 0.5,
    options=(
        Option("n_images", 4, (1, 2, 4), "Images to mark"),
        Option("items_per_feature", 1, (), "Items per feature"),
    ),
    score=score,
    conditions=DICTIONARY_CONTROLS,
    answers_needed="3 people on 100 features.",
)
