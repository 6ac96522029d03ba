"""The builder of sheets: strongest patches, strongest images and images of the lower ranges.

A *sheet* is what the exemplars say of a latent: its 16 strongest patches (one per image), its 8 strongest images and 8
from lower ranges, each with its patch map. A cell of a stimulus takes its image from a place of one sheet and its map
from a place of one sheet; real features, controls and catch items differ in nothing but those places. There
are no more cells than on the matched feature's sheet, every map keeps as many patches as that sheet's map at the same
place, and the strength shown at a place is the matched feature's there (controls fade less: by the weakest image's own
strength they were told from real features with an AUC above 0.9), so that none of this tells what an item is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.stimuli.feature_images import Tensors
from workers.stimuli.matching import as_strong_as
from workers.stimuli.plan import IneligibleError, PlanLine, SheetCell
from workers.stimuli.rendering import PATCH_SIDE, Board, Cell, Panel

N_PATCHES = 16
N_TOP_IMAGES = 8
LOWER_RANGES = ((1, 3), (2, 3), (3, 2))  # (range, how many): 8 images, the stronger ranges first


class PatchPlace(NamedTuple):
    """One patch of one image; patch counts patches only."""

    image: int
    patch: int


class ImagePlace(NamedTuple):
    """One image with its map; value is relative to the feature's maximum."""

    image: int
    map: NDArray[np.uint8]
    value: float


@dataclass(frozen=True)
class Sheet:
    """What the exemplars say of one latent, as far as it has exemplars."""

    patches: list[PatchPlace]
    images: list[ImagePlace]


Sheets = Callable[[int, int], Sheet]
Row = tuple[Any, Any, Any]  # image, value, map


def compose(line: PlanLine, sheets: Sheets) -> Board:
    matched = sheets(*line.matched)
    patches = [place for place in (patch_place(cell, sheets) for cell in line.cells["patches"]) if place is not None]
    images = [place for place in (image_place(cell, sheets) for cell in line.cells["images"]) if place is not None]
    cut = [as_strong_as(place, model) for place, model in zip(images, matched.images, strict=False)]
    crops = [Cell(place.image, patch=place.patch) for place in patches[: len(matched.patches)]]
    if not cut and not crops:
        raise IneligibleError("No image activates the feature.")
    return Board([Panel("patches", "patches", crops, PATCH_SIDE), Panel("images", "images", cut)], {})


def patch_place(cell: SheetCell, sheets: Sheets) -> PatchPlace | None:
    images, places = sheets(*cell.image[:2]).patches, sheets(*cell.map[:2]).patches
    if cell.image[2] >= len(images) or cell.map[2] >= len(places):
        return None
    return PatchPlace(images[cell.image[2]].image, places[cell.map[2]].patch)


def image_place(cell: SheetCell, sheets: Sheets) -> ImagePlace | None:
    images, places = sheets(*cell.image[:2]).images, sheets(*cell.map[:2]).images
    if cell.image[2] >= len(images) or cell.map[2] >= len(places):
        return None
    return places[cell.map[2]]._replace(image=images[cell.image[2]].image)


def read_sheet(tensors: Tensors, latent: int) -> Sheet:
    """The sheet of a latent; `tensors(name, latent)` gives the latent's row of one tensor of the exemplars.

    Where an image's maximum sits on a prefix token, its strongest patch stands in: sheets do not differ in length. An
    image on which only prefix tokens are active, so that nothing on it lights up, gives way to the others.
    """
    maximum = float(tensors("maximum", latent)) or 1.0
    top = list(zip(*(tensors(f"top_{part}", latent) for part in ("image", "value", "patch", "map")), strict=True))
    top = [row for row in top if row[0] >= 0]
    is_lit = has_enough_to_see([row[-1] for row in top])
    top = [row for row in top if not is_lit or np.any(row[-1])]
    patches = [
        PatchPlace(int(image), int(np.argmax(patch_map)) if patch < 0 else int(patch))
        for image, _, patch, patch_map in top
        if patch >= 0 or np.any(patch_map)
    ][:N_PATCHES]
    ranked = [(image, value, patch_map) for image, value, _, patch_map in top]
    rows = ranked[:N_TOP_IMAGES] + lower_images(tensors, latent, ranked, is_lit=is_lit)
    images = [ImagePlace(int(image), np.asarray(m, np.uint8), float(value) / maximum) for image, value, m in rows]
    return Sheet(patches, images)


def has_enough_to_see(maps: Sequence[NDArray[np.uint8]]) -> bool:
    """Whether images with an active patch fill the strongest places."""
    return sum(bool(np.any(one)) for one in maps) >= N_TOP_IMAGES


def lower_images(tensors: Tensors, latent: int, ranked: Sequence[Row], *, is_lit: bool) -> list[Row]:
    """Images of the lower ranges, none shown twice; what a range lacks, the others give, then stronger images."""
    images, values, maps = (tensors(f"range_{part}", latent) for part in ("image", "value", "map"))
    ranges = [
        [row for row in zip(*band, strict=True) if not is_lit or np.any(row[-1])]
        for band in zip(images, values, maps, strict=True)
    ]
    shown = {int(row[0]) for row in ranked[:N_TOP_IMAGES]}
    chosen: list[Row] = []
    spare: list[Row] = []
    for band, wanted in LOWER_RANGES:
        if band < len(ranges):
            fresh = [row for row in ranges[band] if row[0] >= 0 and int(row[0]) not in shown]
            shown |= {int(row[0]) for row in fresh}
            chosen += fresh[:wanted]
            spare += fresh[wanted:]
    spare += stronger_images(ranked, ranges[0], shown)
    n_missing = sum(wanted for _, wanted in LOWER_RANGES) - len(chosen)
    return sorted([*chosen, *spare[:n_missing]], key=lambda row: -float(row[1]))


def stronger_images(ranked: Sequence[Row], strongest: Sequence[Row], shown: set[int]) -> list[Row]:
    """What stands in for lower images: last of all those whose patch is on the sheet.

    A control fades less than a feature, so its lower ranges are emptier: were the images of its patches taken at once,
    the same picture in both panels told it from features with an AUC above 0.9.
    """
    with_patch = ranked[N_TOP_IMAGES:N_PATCHES]
    later = {int(row[0]) for row in with_patch}
    others = [row for row in (*strongest, *ranked[N_PATCHES:]) if int(row[0]) not in later]
    found: dict[int, Row] = {}
    for row in (*others, *with_patch):
        if row[0] >= 0 and int(row[0]) not in shown:
            found.setdefault(int(row[0]), row)
    return list(found.values())
