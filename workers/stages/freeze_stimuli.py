"""Freeze what the annotators of a study will see: a plan of items becomes pictures, maps and records.

The plan (artefact `feature-set`) has sources.json, which names the exemplar files, and items.jsonl, one line per item.
A chunk renders some items; the last one gathers them into one artefact `stimuli`, whose items.jsonl names the stimulus
of each line of the plan. Stimuli carry their own pixels: a study does not change when an image is moved or lost.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from workers.artifacts import Artifact
from workers.images import ImageSetReader
from workers.stages.configs import FreezeStimuliConfig
from workers.stages.context import ChunkPlan, StageContext
from workers.stimuli import Geometry, ItemPlan, Sheet, Stimulus, build_stimulus, read_sheet, working_copy

ITEMS_PER_CHUNK = 48
KEPT_IMAGES = 256
KEPT_SHEETS = 1024


def plan(config: FreezeStimuliConfig, context: StageContext) -> list[ChunkPlan]:
    n_items = len(context.store.open(config.plan, kind="feature-set").path("items.jsonl").read_text().splitlines())
    if n_items == 0:
        raise ValueError("The plan lists no items; draw a sample first.")
    starts = range(0, n_items, ITEMS_PER_CHUNK)
    spans = [(start, min(start + ITEMS_PER_CHUNK, n_items)) for start in starts]
    return [ChunkPlan(phase=0, payload={"start": a, "stop": b}, n_units=b - a) for a, b in spans]


def execute(config: FreezeStimuliConfig, payload: dict[str, Any], context: StageContext) -> None:
    folder = context.store.open(config.plan, kind="feature-set")
    lines = read_lines(folder.path("items.jsonl"), payload["start"], payload["stop"])
    reader = ImageSetReader(
        context.store.open(config.image_set, kind="image-set"), context.image_root(config.image_set)
    )
    load = lru_cache(maxsize=KEPT_IMAGES)(lambda index: working_copy(reader.load(index)))
    make_folders(context.chunk_folder)
    with open_sources(folder, context) as (sheets, geometry), ThreadPoolExecutor(context.n_threads) as pool:
        build = builder(sheets, load, geometry)
        for n_done, (line, stimulus) in enumerate(zip(lines, pool.map(build, lines), strict=True), start=1):
            write_stimulus(context.chunk_folder, line.number, stimulus)
            context.progress(n_done)
            context.raise_if_cancelled()


def builder(
    sheets: Callable[[int, int], Sheet], load: Callable[[int], Image.Image], geometry: Geometry
) -> Callable[[ItemPlan], Stimulus]:
    return lambda line: build_stimulus(line, sheets=sheets, load=load, geometry=geometry)


def finish(config: FreezeStimuliConfig, context: StageContext) -> dict[str, list[str]]:
    settings = {"image_set": config.image_set, "plan": config.plan}
    with context.store.write(
        "stimuli", config=settings, parents=[config.image_set, config.plan], stage_revision=context.stage_revision,
        seed=config.seed,
    ) as writer:  # fmt: skip
        make_folders(writer.folder)
        with (writer.folder / "items.jsonl").open("w") as rows:
            for index in range(context.n_chunks):
                gather(context.chunk(index), writer.folder)
                rows.write((context.chunk(index) / "items.jsonl").read_text())
    return {"artifacts": [writer.digest]}


def read_lines(path: Path, start: int, stop: int) -> list[ItemPlan]:
    with path.open() as lines:
        return [ItemPlan.from_json(json.loads(line)) for line in islice(lines, start, stop)]


@contextmanager
def open_sources(plan: Artifact, context: StageContext) -> Iterator[tuple[Callable[[int, int], Sheet], Geometry]]:
    """A function (source, latent) -> Sheet that reads rows, not files, and the geometry of the vision model."""
    from safetensors import safe_open

    sources = plan.json("sources.json")
    facts = context.store.open(sources[0]["exemplars"], kind="exemplars").json("exemplars.json")
    model = context.store.open(facts["vision_model"], kind="vision-model").json("model.json")
    with ExitStack() as stack:
        files = [
            stack.enter_context(safe_open(context.store.open(s["exemplars"]).path(s["file"]), framework="np"))
            for s in sources
        ]

        @lru_cache(maxsize=KEPT_SHEETS)
        def sheet(source: int, latent: int) -> Sheet:
            file = files[source]
            return read_sheet(lambda name, row: file.get_slice(name)[row : row + 1][0], latent)

        yield sheet, Geometry.of(model["preprocessing"], facts["grid"])


def make_folders(folder: Path) -> None:
    for name in ("sprites", "zoom", "items"):
        (folder / name).mkdir()


def write_stimulus(folder: Path, number: int, stimulus: Stimulus) -> None:
    (folder / "sprites" / f"{stimulus.id}.webp").write_bytes(stimulus.sprite)
    (folder / "zoom" / f"{stimulus.id}.webp").write_bytes(stimulus.zoom)
    (folder / "items" / f"{stimulus.id}.json").write_text(json.dumps(stimulus.record, sort_keys=True))
    row = {
        "number": number, "stimulus": stimulus.id, "grid": stimulus.record["grid"],
        "n_cells": {panel["name"]: len(panel["cells"]) for panel in stimulus.record["panels"]},
    }  # fmt: skip
    with (folder / "items.jsonl").open("a") as rows:
        rows.write(json.dumps(row, sort_keys=True) + "\n")


def gather(chunk: Path, target: Path) -> None:
    for name in ("sprites", "zoom", "items"):
        for path in sorted((chunk / name).iterdir()):
            shutil.copyfile(path, target / name / path.name)
