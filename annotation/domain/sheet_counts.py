"""On how many patches a feature is active at each place of its sheet of images: what a control is matched by.

A sheet is the 8 strongest images, then 8 of the lower ranges, the stronger ranges first (workers/stimuli shows the
same). The counts are read by row slices from the exemplars, for the few features that are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from annotation.domain.features import pole_file_name
from annotation.domain.storage import artifact_store

N_TOP = 8
LOWER_RANGES = ((1, 3), (2, 3), (3, 2))
Counts = tuple[int, ...]


class Place(NamedTuple):
    """Where the exemplars of a feature lie."""

    exemplars: str
    hookpoint: str
    pole: int
    latent: int


class SheetCounts:
    """Reads counts by place and keeps them; files stay open as long as this lives."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, int], Any] = {}
        self.known: dict[Place, Counts] = {}

    def __call__(self, place: Place) -> Counts:
        if place not in self.known:
            tensors = self.opened(place)
            self.known[place] = sheet_counts(lambda name: tensors.get_slice(name)[place.latent : place.latent + 1][0])
        return self.known[place]

    def opened(self, place: Place) -> Any:
        from safetensors import safe_open

        key = (place.exemplars, place.hookpoint, place.pole)
        if key not in self.files:
            artifact = artifact_store().open(place.exemplars, kind="exemplars")
            self.files[key] = safe_open(artifact.path(pole_file_name(place.hookpoint, place.pole)), framework="np")
        return self.files[key]


def sheet_counts(row: Callable[[str], Any]) -> Counts:
    """Active patches at each place of one sheet; `row(name)` gives the feature's row of a tensor."""
    top = ranked(row("top_image"), row("top_value"), row("top_map"))
    shown = {image for image, _, _ in top[:N_TOP]}
    chosen: list[tuple[int, float, int]] = []
    spare: list[tuple[int, float, int]] = []
    images, values, maps = (row(f"range_{part}") for part in ("image", "value", "map"))
    for band, wanted in LOWER_RANGES:
        if band < len(images):
            fresh = [one for one in ranked(images[band], values[band], maps[band]) if one[0] not in shown]
            shown |= {image for image, _, _ in fresh}
            chosen += fresh[:wanted]
            spare += fresh[wanted:]
    spare += [one for one in top[N_TOP:] if one[0] not in shown]
    n_missing = sum(wanted for _, wanted in LOWER_RANGES) - len(chosen)
    lower = sorted([*chosen, *spare[:n_missing]], key=lambda one: -one[1])
    return tuple(count for _, _, count in [*top[:N_TOP], *lower])


def ranked(images: Any, values: Any, maps: Any) -> list[tuple[int, float, int]]:
    """(image, value, active patches) of the places that are taken."""
    counts = (maps > 0).sum(axis=-1)
    rows = zip(images.tolist(), values.tolist(), counts.tolist(), strict=True)
    return [(image, value, count) for image, value, count in rows if image >= 0]


def shortfall(wanted: Sequence[int], there: Sequence[int]) -> int:
    """How many active patches are missing, place by place, for maps that can be cut but never filled up."""
    padded = [*there, *[0] * (len(wanted) - len(there))]
    return sum(max(0, want - have) for want, have in zip(wanted, padded, strict=False))
