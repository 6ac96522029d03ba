"""What keeps a control from being told by its numbers: maps cut to the matched feature's, strengths taken from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.stimuli.feature_images import ActiveImage
from workers.stimuli.plan import IneligibleError
from workers.stimuli.rendering import Cell


def keep_strongest(patch_map: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """The map with all but its n strongest patches silent; of equal ones the first stays."""
    if np.count_nonzero(patch_map) <= n:
        return patch_map
    kept = np.zeros_like(patch_map)
    strongest = np.argsort(-patch_map.astype(np.int16), kind="stable")[:n]
    kept[strongest] = patch_map[strongest]
    return kept


class Mapped(Protocol):
    """An image with its map and its strength relative to the feature's maximum."""

    @property
    def image(self) -> int: ...

    @property
    def map(self) -> NDArray[np.uint8]: ...

    @property
    def value(self) -> float: ...


def as_strong_as(one: Mapped, matched: Mapped) -> Cell:
    """The image with no more patches than the matched one has, and shown as strong."""
    n_patches = int(np.count_nonzero(matched.map))
    return Cell(one.image, map=keep_strongest(one.map, n_patches), value=matched.value)


def references(own: Sequence[ActiveImage], matched: Sequence[ActiveImage], n: int) -> list[Cell]:
    """The strongest n with their maps, cut to those of the matched feature's strongest n."""
    for images, whose in ((own, "The feature"), (matched, "The feature it is matched to")):
        if len(images) < n:
            raise IneligibleError(f"{whose} has {len(images)} activating images for its references; {n} are needed.")
    return [as_strong_as(one, model) for one, model in zip(own[:n], matched[:n], strict=True)]
