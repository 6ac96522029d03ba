"""Cells to pixels: every cell of every panel in one sprite, the whole images larger in one zoom picture."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.stimuli.geometry import Geometry, crop_patch, patch_box, resized

SPRITE_WIDTH = 640
PATCH_SIDE = 96
IMAGE_SIDE = 160
ZOOM_COLUMNS = 4
ZOOM_SIDES = (192, 384)
GRAY = (128, 128, 128)
QUALITY = 82
METHOD = 2  # of WebP: 4 is twice as slow for a few per cent

LoadImage = Callable[[int], Image.Image]


class Cell(NamedTuple):
    """One picture: an image with its map and strength where people may see them, or with one patch boxed."""

    image: int
    map: NDArray[np.uint8] | None = None
    value: float | None = None
    patch: int | None = None


class Panel(NamedTuple):
    """Cells under one name; of 'patches' the patch with its surroundings is shown, of 'images' the whole image."""

    name: str
    kind: str
    cells: Sequence[Cell]
    side: int = IMAGE_SIDE


class Board(NamedTuple):
    """What an item shows, and what is true of it."""

    panels: Sequence[Panel]
    truth: Mapping[str, Any]


class Stimulus(NamedTuple):
    """A frozen stimulus: its id is the hash of the rest."""

    id: str
    sprite: bytes
    zoom: bytes
    record: dict[str, Any]


class Placed(NamedTuple):
    """A cell with its corner in the sprite."""

    panel: Panel
    cell: Cell
    x: int
    y: int


def render(board: Board, load: LoadImage, geometry: Geometry, *, text: str = "") -> Stimulus:
    placed = list(shelves(board.panels))
    height = max((one.y + one.panel.side for one in placed), default=1)
    sprite = Image.new("RGB", (SPRITE_WIDTH, height), GRAY)
    wholes = [one for one in placed if one.panel.kind == "images"]
    pictures = {one.cell.image: load(one.cell.image) for one in wholes}
    zoom, corners = zoom_picture([pictures[one.cell.image] for one in wholes], geometry)
    records: dict[str, list[dict[str, Any]]] = {panel.name: [] for panel in board.panels}
    for one in placed:
        if one.panel.kind == "patches":
            records[one.panel.name].append(draw_patch(sprite, one, load, geometry))
        else:
            record = draw_image(sprite, one, pictures[one.cell.image], geometry)
            records[one.panel.name].append(record | {"zoom": next(corners)})
    panels = [{"name": panel.name, "kind": panel.kind, "cells": records[panel.name]} for panel in board.panels]
    record = {"grid": list(geometry.grid), "panels": panels, "text": text, "truth": dict(board.truth)}
    return sealed(webp(sprite), webp(zoom), record)


def shelves(panels: Sequence[Panel]) -> Iterator[Placed]:
    """Rows of cells, each panel beginning a new row."""
    top = 0
    for panel in panels:
        n_columns = SPRITE_WIDTH // panel.side
        for index, cell in enumerate(panel.cells):
            row, column = divmod(index, n_columns)
            yield Placed(panel, cell, column * panel.side, top + row * panel.side)
        top += math.ceil(len(panel.cells) / n_columns) * panel.side


def draw_patch(sprite: Image.Image, one: Placed, load: LoadImage, geometry: Geometry) -> dict[str, Any]:
    assert one.cell.patch is not None, "a cell of patches names its patch"
    picture, box = crop_patch(load(one.cell.image), geometry, one.cell.patch, one.panel.side)
    sprite.paste(picture, (one.x, one.y))
    return corner(one) | {"box": box, "image_index": one.cell.image, "patch_index": one.cell.patch}


def draw_image(sprite: Image.Image, one: Placed, picture: Image.Image, geometry: Geometry) -> dict[str, Any]:
    """Draw the image; the record names only what people may see of it."""
    sprite.paste(resized(picture, geometry.seen(*picture.size), one.panel.side), (one.x, one.y))
    record = corner(one) | {"image_index": one.cell.image}
    if one.cell.map is not None:
        record["map"] = base64.b64encode(one.cell.map.tobytes()).decode()
    if one.cell.value is not None:
        record["value"] = round(one.cell.value, 3)
    if one.cell.patch is not None:
        record["box"] = patch_box(geometry.grid, one.cell.patch, one.panel.side)
        record["patch_index"] = one.cell.patch
    return record


def corner(one: Placed) -> dict[str, Any]:
    return {"x": one.x, "y": one.y, "w": one.panel.side, "h": one.panel.side}


def zoom_picture(pictures: Sequence[Image.Image], geometry: Geometry) -> tuple[Image.Image, Iterator[list[int]]]:
    """All whole images as large as their pixels allow, and where each lies."""
    side = zoom_side(pictures, geometry)
    n_rows = math.ceil(len(pictures) / ZOOM_COLUMNS)
    zoom = Image.new("RGB", (ZOOM_COLUMNS * side, max(n_rows * side, 1)), GRAY)
    corners = []
    for index, picture in enumerate(pictures):
        row, column = divmod(index, ZOOM_COLUMNS)
        zoom.paste(resized(picture, geometry.seen(*picture.size), side), (column * side, row * side))
        corners.append([column * side, row * side, side, side])
    return zoom, iter(corners)


def zoom_side(pictures: Sequence[Image.Image], geometry: Geometry) -> int:
    """As sharp as the originals allow, between the limits."""
    widths = [round(seen.right - seen.left) for seen in (geometry.seen(*picture.size) for picture in pictures)]
    return min(max([*widths, ZOOM_SIDES[0]]), ZOOM_SIDES[1])


def webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=METHOD)
    return buffer.getvalue()


def sealed(sprite: bytes, zoom: bytes, record: dict[str, Any]) -> Stimulus:
    digest = hashlib.sha256()
    for part in (sprite, zoom, json.dumps(record, sort_keys=True).encode()):
        digest.update(hashlib.sha256(part).digest())
    return Stimulus(digest.hexdigest(), sprite, zoom, record)
