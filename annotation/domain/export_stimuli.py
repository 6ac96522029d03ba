"""What annotators saw, for an export: a reference to each image (path and sha256), and pixels only where allowed.

Pixels are the frozen sprites; they go along when every image set of the study allows redistribution.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from annotation.domain.storage import artifact_store
from annotation.models import Image, ImageSet, Item, Study
from workers.artifacts import Artifact

BATCH, CHUNK = 40, 2000


def image_sets_of(study: Study) -> list[ImageSet]:
    """The image sets whose images people saw."""
    return list(ImageSet.objects.filter(exemplar_sets__features__items__study=study).distinct().order_by("name"))


def write_stimuli(study: Study, folder: Path) -> list[str]:
    """Write `stimuli.jsonl` and, where the licences allow it, `sprites.zip`; returns the names written."""
    image_sets = image_sets_of(study)
    frozen = artifact_store().open(study.stimuli_digest, kind="stimuli") if study.stimuli_digest else None
    has_pixels = frozen is not None and all(one.allows_redistribution for one in image_sets)
    partial = folder / ".stimuli.jsonl.part"
    with partial.open("w", encoding="utf-8") as file:
        for names in batched(stimulus_ids(study)):
            for record in _records(names, frozen, image_sets):
                pixels = f"{record['stimulus']}.webp" if has_pixels else None
                file.write(json.dumps(record | {"sprite": pixels}, ensure_ascii=False) + "\n")
    os.replace(partial, folder / "stimuli.jsonl")
    if frozen is None or not has_pixels:
        return ["stimuli.jsonl"]
    _write_sprites(frozen, stimulus_ids(study), folder)
    return ["stimuli.jsonl", "sprites.zip"]


def stimulus_ids(study: Study) -> Iterator[str]:
    """The stimuli of a study in their order, streamed: a study may have as many as it has answers."""
    ids = Item.objects.filter(study=study).order_by("stimulus_id").values_list("stimulus_id", flat=True).distinct()
    yield from ids.iterator(chunk_size=CHUNK)


def batched(names: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(names, BATCH)):
        yield batch


def _records(names: list[str], frozen: Artifact | None, image_sets: list[ImageSet]) -> Iterator[dict[str, Any]]:
    """The images of a few stimuli, looked up together."""
    if frozen is None:
        yield from ({"stimulus": name, "panels": None} for name in names)
        return
    panels = {name: frozen.json(f"items/{name}.json")["panels"] for name in names}
    wanted = {cell["image_index"] for one in panels.values() for panel in one for cell in panel["cells"]}
    rows = Image.objects.filter(image_set__in=image_sets, index__in=wanted).values_list("index", "path", "sha256")
    found = {index: {"path": path, "sha256": sha256} for index, path, sha256 in rows}
    for name, one in panels.items():
        shown = {panel["name"]: [found.get(cell["image_index"]) for cell in panel["cells"]] for panel in one}
        yield {"stimulus": name, "panels": shown}


def _write_sprites(frozen: Artifact, names: Iterator[str], folder: Path) -> None:
    """WebP does not compress further: stored as it is."""
    partial = folder / ".sprites.zip.part"
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            archive.write(frozen.path(f"sprites/{name}.webp"), f"{name}.webp")
    os.replace(partial, folder / "sprites.zip")
