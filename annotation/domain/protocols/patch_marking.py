"""Patch marking: shown what activates a feature and where, mark the patches of new images that would."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from django.utils.translation import gettext_noop as _

from annotation.domain.protocols.base import DICTIONARY_CONTROLS, Option, Options, Panel, Payload, Protocol, Truth
from annotation.domain.protocols.questions import Kind, Question

LEVELS = 256  # of a patch map


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
    inside, outside = [0] * LEVELS, [0] * LEVELS
    for patch, value in enumerate(patch_map):
        (inside if patch in marked else outside)[value] += 1
    n_pairs = sum(inside) * sum(outside)
    if n_pairs == 0:
        return 0.5
    wins, below = 0.0, 0
    for n_inside, n_outside in zip(inside, outside, strict=True):
        wins += n_inside * (below + n_outside / 2)
        below += n_outside
    return wins / n_pairs


PROTOCOL = Protocol(
    name="patch-marking",
    version="1.0",
    title=_("Mark the patches"),
    summary=_("From images that activate a feature, with the places: mark the patches of new images that would."),
    layout="marking",
    builder="patch-marking",
    quantity=_("area under the curve of marks against the feature's map, minus that of shifted maps"),
    panels=(Panel("reference", _("Where it fires")), Panel("queries", _("Mark the same here"))),
    questions=questions,
    chance=lambda options: 0.5,
    options=(
        Option("n_images", 4, (1, 2, 4), _("Images to mark")),
        Option("items_per_feature", 1, (), _("Items per feature")),
    ),
    score=score,
    conditions=DICTIONARY_CONTROLS,
    answers_needed=_("3 people on 100 features."),
)
