"""A stimulus before it is frozen: the same cells from the exemplars, each from its own picture instead of a sheet.

Practice and gold items are previewed as an annotator sees them while the study is a draft; nothing is rendered or
stored for it. After launch the frozen stimulus takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.urls import reverse

from annotation.domain.exemplar_rows import Exemplar, FeatureExemplars, exemplars_of, images_by_index
from annotation.domain.pixels import framing_of
from annotation.models import Feature, Image

SIDE = 448
N_CELLS = 16
N_STRONGEST = 8
CONTEXT = 3  # patches along each side of a crop


def preview_stimulus(feature: Feature) -> dict[str, Any]:
    """The `stimulus` of a player's item, its cells naming their own pictures; raises ArtifactError."""
    exemplars = exemplars_of(feature)
    shown = shown_exemplars(exemplars)
    patches = [one for one in exemplars.top if one.patch >= 0][:N_CELLS]
    images = images_by_index(feature.exemplar_set.image_set_id, [one.image_index for one in [*shown, *patches]])
    framing = framing_of(feature.dictionary.vision_model)
    maximum = feature.maximum or 1.0
    patch_cells = [
        patch_cell(one, images[one.image_index], framing, exemplars.grid)
        for one in patches
        if one.image_index in images
    ]
    image_cells = [
        image_cell(one, images[one.image_index], framing, maximum) for one in shown if one.image_index in images
    ]
    return {
        "id": f"preview-{feature.pk}",
        "sprite": None,
        "zoom": None,
        "grid": list(exemplars.grid),
        "panels": [
            {"name": "patches", "kind": "patches", "cells": patch_cells},
            {"name": "images", "kind": "images", "cells": image_cells},
        ],
        "text": "",
    }


def shown_exemplars(exemplars: FeatureExemplars) -> list[Exemplar]:
    """The strongest images, then images of the lower ranges, none twice."""
    shown = list(exemplars.top[:N_STRONGEST])
    seen = {one.image_index for one in shown}
    lower = [one for band in exemplars.ranges[1:] for one in band.exemplars]
    for one in [*lower, *exemplars.top[N_STRONGEST:]]:
        if one.image_index not in seen and len(shown) < N_CELLS:
            seen.add(one.image_index)
            shown.append(one)
    return shown


def picture(image: Image, framing: str) -> str:
    return reverse("image-pixels", args=[image.sha256, framing, SIDE])


def image_cell(one: Exemplar, image: Image, framing: str, maximum: float) -> dict[str, Any]:
    whole = {"x": 0, "y": 0, "w": SIDE, "h": SIDE}
    return whole | {"src": picture(image, framing), "map": one.map_base64, "value": round(one.value / maximum, 3)}


def patch_cell(one: Exemplar, image: Image, framing: str, grid: Sequence[int]) -> dict[str, Any]:
    """A patch with a ring of patches about it, moved inwards at the border."""
    rows, columns = grid
    row, column = divmod(one.patch, columns)
    high, wide = SIDE / rows, SIDE / columns
    top = min(max(row - CONTEXT // 2, 0), max(rows - CONTEXT, 0))
    left = min(max(column - CONTEXT // 2, 0), max(columns - CONTEXT, 0))
    size = {"w": wide * min(CONTEXT, columns), "h": high * min(CONTEXT, rows)}
    box = [(column - left) * wide, (row - top) * high, wide, high]
    return {"src": picture(image, framing), "x": left * wide, "y": top * high, "box": box} | size
