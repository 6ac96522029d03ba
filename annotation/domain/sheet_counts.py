"""On how many patches a feature is active at each place of its sheet of images: what a control is matched by.

A sheet is the 8 strongest images, then 8 of the lower ranges, the stronger ranges first; what these lack, images of the
strongest range give, last of all those whose patch is on the sheet; images on which only prefix tokens are active give
way to those with a patch (workers/stimuli/sheets.py shows the same).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from annotation.domain.features import pole_file_name
from annotation.domain.storage import artifact_store

N_TOP = 8
N_PATCHES = 16
LOWER_RANGES = ((1, 3), (2, 3), (3, 2))


Ranked = tuple[int, float, int]  # image, value, active patches


class Counts(NamedTuple):
    """Active patches at each place of the sheet of images, and how many patches the sheet of patches has.

    Beside them which images lie there: where the same picture comes again tells a sheet as well as its patches do.
    """

    images: tuple[int, ...]
    n_patches: int
    shown: tuple[int, ...] = ()
    cropped: tuple[int, ...] = ()


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
    is_lit = sum(count > 0 for *_, count in top) >= N_TOP
    top = [one for one in top if not is_lit or one[-1]]
    shown = {image for image, _, _ in top[:N_TOP]}
    chosen: list[Ranked] = []
    spare: list[Ranked] = []
    parts = (row(f"range_{part}") for part in ("image", "value", "count"))
    ranges = [[one for one in ranked(*band) if not is_lit or one[-1]] for band in zip(*parts, strict=True)]
    for band, wanted in LOWER_RANGES:
        if band < len(ranges):
            fresh = [one for one in ranges[band] if one[0] not in shown]
            shown |= {image for image, _, _ in fresh}
            chosen += fresh[:wanted]
            spare += fresh[wanted:]
    spare += stronger(top, ranges[0], shown)
    n_missing = sum(wanted for _, wanted in LOWER_RANGES) - len(chosen)
    lower = sorted([*chosen, *spare[:n_missing]], key=lambda one: -one[1])
    sheet = [*top[:N_TOP], *lower]
    cropped = [image for image, _, count in top if count > 0][:N_PATCHES]
    return Counts(tuple(count for *_, count in sheet), len(cropped), tuple(one[0] for one in sheet), tuple(cropped))


def stronger(top: list[Ranked], strongest: list[Ranked], shown: set[int]) -> list[Ranked]:
    """What stands in for lower images, as in workers.stimuli.sheets.stronger_images."""
    with_patch = top[N_TOP:N_PATCHES]
    later = {image for image, _, _ in with_patch}
    others = [one for one in (*strongest, *top[N_PATCHES:]) if one[0] not in later]
    found: dict[int, Ranked] = {}
    for one in (*others, *with_patch):
        if one[0] not in shown:
            found.setdefault(one[0], one)
    return list(found.values())


def ranked(images: Any, values: Any, counts: Any) -> list[Ranked]:
    """(image, value, active patches) of the places that are taken."""
    rows = zip(images.tolist(), values.tolist(), counts.tolist(), strict=True)
    return [(image, value, count) for image, value, count in rows if image >= 0]


def shortfall(wanted: Counts, there: Counts) -> int:
    """How many active patches and cells are missing, place by place, for maps that can be cut but never filled up."""
    padded = [*there.images, *[0] * (len(wanted.images) - len(there.images))]
    missing = sum(max(0, want - have) for want, have in zip(wanted.images, padded, strict=False))
    return missing + max(0, wanted.n_patches - there.n_patches)


def repeats(counts: Counts, wanted: Counts) -> int:
    """How many cells show an image again, where there are no more cells than on the wanted sheet."""
    cells = [*counts.shown[: len(wanted.shown)], *counts.cropped[: len(wanted.cropped)]]
    return len(cells) - len(set(cells))


def is_enough(wanted: Counts, there: Counts, place: int) -> bool:
    """Whether a cell of another sheet can stand at this place: as many active patches, and a patch if one is shown."""
    has_patch = place >= wanted.n_patches or place < there.n_patches
    return has_patch and count_at(there, place) >= count_at(wanted, place)


def panels_at(counts: Counts, place: int) -> tuple[set[int], set[int]]:
    """The image that a sheet has at a place among its images, and the one among its patches."""
    return set(counts.shown[place : place + 1]), set(counts.cropped[place : place + 1])


def count_at(counts: Counts, place: int) -> int:
    return counts.images[place] if place < len(counts.images) else 0
