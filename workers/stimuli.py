"""What an annotator sees of one item, frozen: patch crops, images, their maps, one sprite and one zoom picture.

A *sheet* is what the exemplars say of a latent: its 16 strongest patches (one per image), its 8 strongest images and 8
from lower ranges, each with its patch map. A cell of a stimulus takes its image from a place of one sheet and its map
from a place of one sheet; real features, controls and catch items differ in nothing but those places. There
are no more cells than on the matched feature's sheet, every map keeps as many patches as that sheet's map at the same
place, and the strength shown at a place is the matched feature's there (controls fade less: by the weakest image's own
strength they were told from real features with an AUC above 0.9), so that none of this tells what an item is. Plain
Pillow and numpy.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

N_PATCHES = 16
N_TOP_IMAGES = 8
LOWER_RANGES = ((1, 3), (2, 3), (3, 2))  # (range, how many): 8 images, the stronger ranges first
CONTEXT = 3  # patches along each side of a crop
PATCH_SIDE = 96
IMAGE_SIDE = 160
IMAGE_COLUMNS = 4
PATCH_COLUMNS = 6
ZOOM_SIDES = (192, 384)
WORKING_SIDE = 640  # more than a zoom cell or a crop at 96 pixels ever needs
QUALITY = 82
METHOD = 2  # of WebP: 4 is twice as slow for a few per cent

Tensors = Callable[[str, int], Any]
LoadImage = Callable[[int], Image.Image]


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


class Box(NamedTuple):
    """A part of an image in pixels of the original; float so that no border is lost to rounding."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Geometry:
    """The part of an image that the model sees, and the grid of patches over it."""

    size: int
    crop_mode: str
    crop_pct: float
    grid: tuple[int, int]

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any], grid: Sequence[int]) -> Geometry:
        mode = str(preprocessing.get("crop_mode", "center"))
        if mode not in {"center", "squash"}:
            raise ValueError(f"The crop mode '{mode}' of the vision model is unknown; it can be center or squash.")
        share = float(preprocessing.get("crop_pct") or 1.0)
        return cls(int(preprocessing["size"]), mode, share, (int(grid[0]), int(grid[1])))

    def seen(self, width: int, height: int) -> Box:
        """The part that the model sees of an image of this size (workers/preprocessing.py scales and crops)."""
        scaled = math.floor(self.size / self.crop_pct)
        if self.crop_mode == "squash":
            across, down = width * self.size / scaled, height * self.size / scaled
        else:
            across = down = min(width, height) * self.size / scaled
        left, top = (width - across) / 2, (height - down) / 2
        return Box(left, top, left + across, top + down)


class CellPlan(NamedTuple):
    """Where a cell's image comes from and where its patch or map comes from: (source, latent, place) each."""

    image: tuple[int, int, int]
    map: tuple[int, int, int]


@dataclass(frozen=True)
class ItemPlan:
    """One line of a plan: cells by place, and the feature to whose patch counts the maps are cut."""

    number: int
    patches: list[CellPlan]
    images: list[CellPlan]
    matched: tuple[int, int]

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> ItemPlan:
        source, latent = line["matched"]
        cells = {
            name: [CellPlan(tuple(cell[:3]), tuple(cell[3:] or cell[:3])) for cell in line[name]]
            for name in ("patches", "images")
        }
        return cls(line["number"], cells["patches"], cells["images"], (source, latent))


class Stimulus(NamedTuple):
    """A frozen stimulus: its id is the hash of the rest."""

    id: str
    sprite: bytes
    zoom: bytes
    record: dict[str, Any]


def read_sheet(tensors: Tensors, latent: int) -> Sheet:
    """The sheet of a latent; `tensors(name, latent)` gives the latent's row of one tensor of the exemplars.

    Where an image's maximum sits on a prefix token, its strongest patch stands in: sheets do not differ in length.
    """
    maximum = float(tensors("maximum", latent)) or 1.0
    top = list(zip(*(tensors(f"top_{part}", latent) for part in ("image", "value", "patch", "map")), strict=True))
    top = [row for row in top if row[0] >= 0]
    patches = [
        PatchPlace(int(image), int(np.argmax(patch_map)) if patch < 0 else int(patch))
        for image, _, patch, patch_map in top
        if patch >= 0 or np.any(patch_map)
    ][:N_PATCHES]
    ranked = [(image, value, patch_map) for image, value, _, patch_map in top]
    rows = ranked[:N_TOP_IMAGES] + lower_images(tensors, latent, ranked)
    images = [ImagePlace(int(image), np.asarray(m, np.uint8), float(value) / maximum) for image, value, m in rows]
    return Sheet(patches, images)


def lower_images(tensors: Tensors, latent: int, ranked: Sequence[tuple[Any, Any, Any]]) -> list[tuple[Any, Any, Any]]:
    """Images of the lower ranges, none shown twice; what a range lacks, the others give, then the ranked images."""
    images, values, maps = (tensors(f"range_{part}", latent) for part in ("image", "value", "map"))
    shown = {int(row[0]) for row in ranked[:N_TOP_IMAGES]}
    chosen: list[tuple[Any, Any, Any]] = []
    spare: list[tuple[Any, Any, Any]] = []
    for band, wanted in LOWER_RANGES:
        if band < len(images):
            rows = zip(images[band], values[band], maps[band], strict=True)
            fresh = [row for row in rows if row[0] >= 0 and int(row[0]) not in shown]
            shown |= {int(row[0]) for row in fresh}
            chosen += fresh[:wanted]
            spare += fresh[wanted:]
    spare += [row for row in ranked[N_TOP_IMAGES:] if int(row[0]) not in shown]
    n_missing = sum(wanted for _, wanted in LOWER_RANGES) - len(chosen)
    return sorted([*chosen, *spare[:n_missing]], key=lambda row: -float(row[1]))


def keep_strongest(patch_map: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """The map with all but its n strongest patches silent; of equal ones the first stays."""
    if np.count_nonzero(patch_map) <= n:
        return patch_map
    kept = np.zeros_like(patch_map)
    strongest = np.argsort(-patch_map.astype(np.int16), kind="stable")[:n]
    kept[strongest] = patch_map[strongest]
    return kept


def patch_window(geometry: Geometry, patch: int) -> tuple[int, int, int]:
    """Row and column of the first patch of the crop, and patches along its side; kept inside the image."""
    height, width = geometry.grid
    side = min(CONTEXT, height, width)
    row, column = divmod(patch, width)
    first_row = min(max(row - side // 2, 0), height - side)
    first_column = min(max(column - side // 2, 0), width - side)
    return first_row, first_column, side


def crop_patch(image: Image.Image, geometry: Geometry, patch: int) -> tuple[Image.Image, list[int]]:
    """The patch with its surroundings, and the patch's own box [x, y, w, h] inside that picture."""
    seen = geometry.seen(*image.size)
    across, down = (seen.right - seen.left) / geometry.grid[1], (seen.bottom - seen.top) / geometry.grid[0]
    first_row, first_column, side = patch_window(geometry, patch)
    left, top = seen.left + first_column * across, seen.top + first_row * down
    picture = resized(image, Box(left, top, left + side * across, top + side * down), PATCH_SIDE)
    row, column = divmod(patch, geometry.grid[1])
    step = PATCH_SIDE / side
    x, y = round((column - first_column) * step), round((row - first_row) * step)
    return picture, [x, y, round(step), round(step)]


def resized(image: Image.Image, box: Box, side: int) -> Image.Image:
    """The box as a square of `side` pixels: what the model is given is square too."""
    is_smaller = box.right - box.left > side
    return image.resize((side, side), Image.Resampling.LANCZOS if is_smaller else Image.Resampling.BICUBIC, box=box)


def build_stimulus(
    plan: ItemPlan, *, sheets: Callable[[int, int], Sheet], load: LoadImage, geometry: Geometry
) -> Stimulus:
    """Render one item. `sheets(source, latent)` and `load(image)` may be cached; nothing here draws at random."""
    matched = sheets(*plan.matched)
    patches = [cell for cell in (patch_cell(cell, sheets) for cell in plan.patches) if cell is not None]
    images = [cell for cell in (image_cell(cell, sheets) for cell in plan.images) if cell is not None]
    cut = [as_strong_as(place, model) for place, model in zip(images, matched.images, strict=False)]
    return render(patches[: len(matched.patches)], cut, load, geometry)


def as_strong_as(place: ImagePlace, matched: ImagePlace) -> ImagePlace:
    """The cell with no more patches than the matched one has, and shown as strong."""
    n_patches = int(np.count_nonzero(matched.map))
    return place._replace(map=keep_strongest(place.map, n_patches), value=matched.value)


def patch_cell(cell: CellPlan, sheets: Callable[[int, int], Sheet]) -> PatchPlace | None:
    images, places = sheets(*cell.image[:2]).patches, sheets(*cell.map[:2]).patches
    if cell.image[2] >= len(images) or cell.map[2] >= len(places):
        return None
    return PatchPlace(images[cell.image[2]].image, places[cell.map[2]].patch)


def image_cell(cell: CellPlan, sheets: Callable[[int, int], Sheet]) -> ImagePlace | None:
    images, places = sheets(*cell.image[:2]).images, sheets(*cell.map[:2]).images
    if cell.image[2] >= len(images) or cell.map[2] >= len(places):
        return None
    return places[cell.map[2]]._replace(image=images[cell.image[2]].image)


def render(
    patches: Sequence[PatchPlace], images: Sequence[ImagePlace], load: LoadImage, geometry: Geometry
) -> Stimulus:
    rows = math.ceil(len(images) / IMAGE_COLUMNS)
    height = rows * IMAGE_SIDE + math.ceil(len(patches) / PATCH_COLUMNS) * PATCH_SIDE
    sprite = Image.new("RGB", (IMAGE_COLUMNS * IMAGE_SIDE, max(height, 1)), (128, 128, 128))
    pictures = [load(place.image) for place in images]
    side = zoom_side(pictures, geometry)
    zoom = Image.new("RGB", (IMAGE_COLUMNS * side, max(rows * side, 1)), (128, 128, 128))
    image_records = []
    for index, (place, picture) in enumerate(zip(images, pictures, strict=True)):
        row, column = divmod(index, IMAGE_COLUMNS)
        seen = geometry.seen(*picture.size)
        sprite.paste(resized(picture, seen, IMAGE_SIDE), (column * IMAGE_SIDE, row * IMAGE_SIDE))
        zoom.paste(resized(picture, seen, side), (column * side, row * side))
        image_records.append(
            {
                "x": column * IMAGE_SIDE, "y": row * IMAGE_SIDE, "w": IMAGE_SIDE, "h": IMAGE_SIDE,
                "zoom": [column * side, row * side, side, side], "map": base64.b64encode(place.map.tobytes()).decode(),
                "value": round(place.value, 3), "image_index": place.image,
            }
        )  # fmt: skip
    patch_records = []
    for index, patch in enumerate(patches):
        row, column = divmod(index, PATCH_COLUMNS)
        x, y = column * PATCH_SIDE, rows * IMAGE_SIDE + row * PATCH_SIDE
        picture, box = crop_patch(load(patch.image), geometry, patch.patch)
        sprite.paste(picture, (x, y))
        record = {"x": x, "y": y, "w": PATCH_SIDE, "h": PATCH_SIDE, "box": box}
        patch_records.append(record | {"image_index": patch.image, "patch_index": patch.patch})
    panels = [panel("patches", "patches", patch_records), panel("images", "images", image_records)]
    return sealed(webp(sprite), webp(zoom), geometry, panels)


def panel(name: str, kind: str, cells: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "kind": kind, "cells": cells}


def working_copy(image: Image.Image) -> Image.Image:
    """The image no larger than any cell needs, so that many can be kept in memory."""
    shorter = min(image.size)
    if shorter <= WORKING_SIDE:
        return image
    scale = WORKING_SIDE / shorter
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def zoom_side(pictures: Sequence[Image.Image], geometry: Geometry) -> int:
    """As sharp as the originals allow, between the limits."""
    widths = [round(seen.right - seen.left) for seen in (geometry.seen(*picture.size) for picture in pictures)]
    return min(max([*widths, ZOOM_SIDES[0]]), ZOOM_SIDES[1])


def webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=METHOD)
    return buffer.getvalue()


def sealed(sprite: bytes, zoom: bytes, geometry: Geometry, panels: list[dict[str, Any]]) -> Stimulus:
    record = {"grid": list(geometry.grid), "panels": panels, "text": "", "truth": {}}
    digest = hashlib.sha256()
    for part in (sprite, zoom, json.dumps(record, sort_keys=True).encode()):
        digest.update(hashlib.sha256(part).digest())
    return Stimulus(digest.hexdigest(), sprite, zoom, record)
