"""The part of an image that the model sees, the grid of patches over it, and pictures cut along that grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from PIL import Image

CONTEXT = 3  # patches along each side of a crop
WORKING_SIDE = 640  # more than a zoom cell or a crop at 96 pixels ever needs


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


def patch_window(grid: tuple[int, int], patch: int) -> tuple[int, int, int]:
    """Row and column of the first patch of the crop, and patches along its side; kept inside the image."""
    height, width = grid
    side = min(CONTEXT, height, width)
    row, column = divmod(patch, width)
    first_row = min(max(row - side // 2, 0), height - side)
    first_column = min(max(column - side // 2, 0), width - side)
    return first_row, first_column, side


def crop_patch(image: Image.Image, geometry: Geometry, patch: int, pixels: int) -> tuple[Image.Image, list[int]]:
    """The patch with its surroundings as a square of so many pixels, and the patch's own box [x, y, w, h] in it."""
    seen = geometry.seen(*image.size)
    across, down = (seen.right - seen.left) / geometry.grid[1], (seen.bottom - seen.top) / geometry.grid[0]
    first_row, first_column, side = patch_window(geometry.grid, patch)
    left, top = seen.left + first_column * across, seen.top + first_row * down
    picture = resized(image, Box(left, top, left + side * across, top + side * down), pixels)
    row, column = divmod(patch, geometry.grid[1])
    step = pixels / side
    x, y = round((column - first_column) * step), round((row - first_row) * step)
    return picture, [x, y, round(step), round(step)]


def patch_box(grid: tuple[int, int], patch: int, pixels: int) -> list[int]:
    """Where a patch lies [x, y, w, h] in the whole image shown as a square of so many pixels."""
    rows, columns = grid
    row, column = divmod(patch, columns)
    left, right = round(column * pixels / columns), round((column + 1) * pixels / columns)
    top, bottom = round(row * pixels / rows), round((row + 1) * pixels / rows)
    return [left, top, right - left, bottom - top]


def resized(image: Image.Image, box: Box, side: int) -> Image.Image:
    """The box as a square of `side` pixels: what the model is given is square too."""
    is_smaller = box.right - box.left > side
    return image.resize((side, side), Image.Resampling.LANCZOS if is_smaller else Image.Resampling.BICUBIC, box=box)


def working_copy(image: Image.Image) -> Image.Image:
    """The image no larger than any cell needs, so that many can be kept in memory."""
    shorter = min(image.size)
    if shorter <= WORKING_SIDE:
        return image
    scale = WORKING_SIDE / shorter
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
