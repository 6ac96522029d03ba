"""On how many patches a feature is active at each place of its sheet of images: what a control is matched by.

A sheet is the 8 strongest images, then 8 of the lower ranges, the stronger ranges first (workers/stimuli shows the
same).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
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
    """Reads counts by place and keeps them; a file is read once, its maps reduced to counts."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.known: dict[Place, Counts] = {}

    def __call__(self, place: Place) -> Counts:
        if place not in self.known:
            tensors = self.read(place)
            self.known[place] = sheet_counts(lambda name: tensors[name][place.latent])
        return self.known[place]

    def read(self, place: Place) -> dict[str, Any]:
        key = (place.exemplars, place.hookpoint, place.pole)
        if key not in self.files:
            artifact = artifact_store().open(place.exemplars, kind="exemplars")
            self.files[key] = counted(artifact.path(pole_file_name(place.hookpoint, place.pole)))
        return self.files[key]


def counted(path: Path) -> dict[str, Any]:
    """Images, values and active patches of all features of a file."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        found = {name: file.get_tensor(name) for name in ("top_image", "top_value", "range_image", "range_value")}
        for kind in ("top", "range"):
            found[f"{kind}_count"] = (file.get_tensor(f"{kind}_map") > 0).sum(axis=-1)
    return found


def sheet_counts(row: Callable[[str], Any]) -> Counts:
    """Active patches at each place of one sheet; `row(name)` gives the feature's row of a table."""
    top = ranked(row("top_image"), row("top_value"), row("top_count"))
    shown = {image for image, _, _ in top[:N_TOP]}
    chosen: list[tuple[int, float, int]] = []
    spare: list[tuple[int, float, int]] = []
    images, values, counts = (row(f"range_{part}") for part in ("image", "value", "count"))
    for band, wanted in LOWER_RANGES:
        if band < len(images):
            fresh = [one for one in ranked(images[band], values[band], counts[band]) if one[0] not in shown]
            shown |= {image for image, _, _ in fresh}
            chosen += fresh[:wanted]
            spare += fresh[wanted:]
    spare += [one for one in top[N_TOP:] if one[0] not in shown]
    n_missing = sum(wanted for _, wanted in LOWER_RANGES) - len(chosen)
    lower = sorted([*chosen, *spare[:n_missing]], key=lambda one: -one[1])
    return tuple(count for _, _, count in [*top[:N_TOP], *lower])


def ranked(images: Any, values: Any, counts: Any) -> list[tuple[int, float, int]]:
    """(image, value, active patches) of the places that are taken."""
    rows = zip(images.tolist(), values.tolist(), counts.tolist(), strict=True)
    return [(image, value, count) for image, value, count in rows if image >= 0]


def shortfall(wanted: Sequence[int], there: Sequence[int]) -> int:
    """How many active patches are missing, place by place, for maps that can be cut but never filled up."""
    padded = [*there, *[0] * (len(wanted) - len(there))]
    return sum(max(0, want - have) for want, have in zip(wanted, padded, strict=False))
