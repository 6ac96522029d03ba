"""What keeps a control from being told by its numbers: maps as hot on as many patches as the matched feature's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.stimuli.feature_images import ActiveImage
from workers.stimuli.plan import IneligibleError, counted
from workers.stimuli.rendering import Cell


class Mapped(Protocol):
    """An image with its map and its strength relative to the feature's maximum."""

    @property
    def image(self) -> int: ...

    @property
    def map(self) -> NDArray[np.uint8]: ...

    @property
    def value(self) -> float: ...


def with_values_of(patch_map: NDArray[np.uint8], matched: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The active patches as hot as the matched map's, the strongest as its strongest; those beyond its number silent.

    So neither the number of active patches nor the heat tells a control. A map matched to itself stays as it is.
    """
    order = np.argsort(-patch_map.astype(np.int16), kind="stable")[: np.count_nonzero(patch_map)]
    values = np.sort(matched[matched > 0])[::-1][: len(order)]
    given = np.zeros_like(patch_map)
    given[order[: len(values)]] = values
    return given


def as_strong_as(one: Mapped, matched: Mapped) -> Cell:
    """The image with as many active patches as the matched one has, if it has them, as hot and shown as strong."""
    return Cell(one.image, map=with_values_of(one.map, matched.map), value=matched.value)


def references(own: Sequence[ActiveImage], matched: Sequence[ActiveImage], n: int) -> list[Cell]:
    """The strongest n with their maps, cut to those of the matched feature's strongest n."""
    for images, whose in ((own, "The feature"), (matched, "The feature it is matched to")):
        if len(images) < n:
            raise IneligibleError(
                f"{whose} has {counted(len(images), 'activating image')} for its references; {n} are needed."
            )
    return [as_strong_as(one, model) for one, model in zip(own[:n], matched[:n], strict=True)]
