"""Made-up features: activating images in bands and silent images, each image with a map of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from workers.stimuli.building import compose
from workers.stimuli.feature_images import ActiveImage, FeatureImages
from workers.stimuli.geometry import Geometry
from workers.stimuli.plan import FeatureKey, PlanLine
from workers.stimuli.rendering import Board
from workers.stimuli.sheets import ImagePlace, PatchPlace, Sheet
from workers.stimuli.sources import Sources
from workers.stimuli.split import split_images

N_PATCHES = 16
GEOMETRY = Geometry(size=64, crop_mode="center", crop_pct=1.0, grid=(4, 4))
FIRST, SECOND = FeatureKey(0, 0), FeatureKey(0, 1)


def make_feature(
    bands: Sequence[int] = (16, 4, 4, 4), n_silent: int = 24, *, n_patches: int = 5, first: int = 0
) -> FeatureImages:
    """So many images in each band; images are numbered from `first`, the silent ones after the activating ones."""
    active, image = [], first
    for band, n in enumerate(bands):
        for place in range(n):
            value = 2.0**-band * (1 - 0.4 * place / max(n, 1))
            active.append(ActiveImage(image, value, make_map(image, n_patches), image * 7 % N_PATCHES, band))
            image += 1
    return FeatureImages(active, list(range(image, image + n_silent)))


def make_map(image: int, n_patches: int) -> np.ndarray:
    """The strongest patch is where the feature says it is; it has `n_patches` active ones."""
    places = [(image * 7 + step) % N_PATCHES for step in range(n_patches)]
    patch_map = np.zeros(N_PATCHES, np.uint8)
    patch_map[places] = 255 - 10 * np.arange(n_patches)
    return patch_map


def make_sources(
    features: dict[FeatureKey, FeatureImages], *, similarity: Callable[[int, int], float] | None = None, seed: int = 0
) -> Sources:
    return Sources(
        sheets=lambda source, latent: sheet_of(features[FeatureKey(source, latent)]),
        images=lambda key: features[key],
        roles=lambda key: split_images(features[key], seed=seed, feature=f"{key}"),
        similarity=similarity,
    )


def sheet_of(found: FeatureImages) -> Sheet:
    images = [ImagePlace(one.image, one.map, one.value) for one in found.active[:16]]
    return Sheet([PatchPlace(one.image, one.patch) for one in found.active[:16]], images)


def make_line(builder: str, *, seed: int = 0, matched: FeatureKey = FIRST, **fields: object) -> PlanLine:
    return PlanLine(0, builder, FIRST, matched, seed=seed, **fields)  # type: ignore[arg-type]


def alike(one: int, other: int) -> float:
    """Some fixed similarity of two images."""
    return random.Random(f"{min(one, other)}/{max(one, other)}").random()


def board_of(line: PlanLine, found: FeatureImages) -> Board:
    return compose(line, make_sources({FIRST: found}, similarity=alike))


def images_of(board: Board) -> dict[str, list[int]]:
    return {panel.name: [cell.image for cell in panel.cells] for panel in board.panels}


def picture(index: int) -> Image.Image:
    """One color per patch of a 4 by 4 grid: red counts rows, green counts columns, blue is the image."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    steps = np.arange(64) * 4 // 64 * 60
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = steps[:, None], steps[None, :], index
    return Image.fromarray(pixels)
