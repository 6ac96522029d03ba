"""What the exemplars hold of one feature: images that activate it, by range of strength, and images it is silent on.

Activating are the strongest images and the samples over the activation range, each image once, as far as some patch of
it is active and it lies above every contrast image. Bands are the ranges of the exemplars, the strongest first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.stimuli.rendering import Cell

Tensors = Callable[[str, int], Any]


class ActiveImage(NamedTuple):
    """An image that activates the feature; value is relative to the feature's maximum, patch its strongest one."""

    image: int
    value: float
    map: NDArray[np.uint8]
    patch: int
    band: int

    def shown(self) -> Cell:
        """With its map and its strength."""
        return Cell(self.image, map=self.map, value=self.value)


@dataclass(frozen=True)
class FeatureImages:
    """Activating images, the strongest first, and contrast images, the most silent first."""

    active: Sequence[ActiveImage]
    silent: Sequence[int]

    def bands(self) -> dict[int, list[ActiveImage]]:
        """Activating images by band, those bands that have any."""
        found: dict[int, list[ActiveImage]] = {}
        for one in self.active:
            found.setdefault(one.band, []).append(one)
        return dict(sorted(found.items()))


def read_feature_images(tensors: Tensors, latent: int) -> FeatureImages:
    """`tensors(name, latent)` gives the latent's row of one tensor of the exemplars."""
    maximum = float(tensors("maximum", latent)) or 1.0
    reached = float(tensors("contrast_reached", latent))
    edges = [float(edge) for edge in tensors("range_edges", latent)]
    found: dict[int, ActiveImage] = {}
    for image, value, patch, patch_map in rows_of(tensors, latent):
        if image < 0 or image in found or not np.any(patch_map) or value <= (0 if math.isnan(reached) else reached):
            continue
        strongest = int(patch) if patch >= 0 else int(np.argmax(patch_map))
        patch_map = np.asarray(patch_map, np.uint8)
        found[image] = ActiveImage(image, value / maximum, patch_map, strongest, band_of(value, edges))
    active = sorted(found.values(), key=lambda one: (-one.value, one.image))
    return FeatureImages(active, [int(image) for image in tensors("contrast_image", latent) if image >= 0])


def rows_of(tensors: Tensors, latent: int) -> Iterator[tuple[int, float, int, Any]]:
    """Image, value, patch and map of all that is kept."""
    parts = ("image", "value", "patch", "map")
    for row in zip(*(tensors(f"top_{part}", latent) for part in parts), strict=True):
        yield int(row[0]), float(row[1]), int(row[2]), row[3]
    for band in zip(*(tensors(f"range_{part}", latent) for part in parts), strict=True):
        for row in zip(*band, strict=True):
            yield int(row[0]), float(row[1]), int(row[2]), row[3]


def band_of(value: float, edges: Sequence[float]) -> int:
    """The range a value falls into: the first whose lower edge it reaches; the last takes the rest."""
    lower = edges[1:-1]
    return next((band for band, edge in enumerate(lower) if value >= edge), len(lower))
