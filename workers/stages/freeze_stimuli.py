"""Freeze what the annotators of a study will see: a plan of items becomes pictures, maps and records.

The plan (artefact `feature-set`) has sources.json, which names the exemplar files, and items.jsonl, one line per item.
A chunk renders some items; the last one gathers them into one artefact `stimuli`, whose items.jsonl names the stimulus
of each line of the plan with its truth, or the reason why the item cannot be built. Stimuli carry their own pixels: a
study does not change when an image is moved or lost.
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
from workers.stages.configs import ConfigError, FreezeStimuliConfig
from workers.stages.context import ChunkPlan, StageContext
from workers.stimuli.building import build_stimulus
from workers.stimuli.feature_images import Tensors
from workers.stimuli.geometry import Geometry, working_copy
from workers.stimuli.plan import IneligibleError, PlanLine
from workers.stimuli.rendering import Stimulus
from workers.stimuli.similarity import Similarity, open_similarity
from workers.stimuli.sources import ExemplarFile, Sources, sources_of

ITEMS_PER_CHUNK = 48
KEPT_IMAGES = 256


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
    with (
        open_embeddings(config, context) as similarity,
        open_sources(folder, context, similarity) as (sources, geometry),
        ThreadPoolExecutor(context.n_threads) as pool,
    ):
        build = builder(sources, load, geometry)
        for n_done, (line, built) in enumerate(zip(lines, pool.map(build, lines), strict=True), start=1):
            write_outcome(context.chunk_folder, line.number, built)
            context.progress(n_done)
            context.raise_if_cancelled()


def builder(
    sources: Sources, load: Callable[[int], Image.Image], geometry: Geometry
) -> Callable[[PlanLine], Stimulus | IneligibleError]:
    """A function that builds an item, or says why it cannot be built."""

    def build(line: PlanLine) -> Stimulus | IneligibleError:
        try:
            return build_stimulus(line, sources=sources, load=load, geometry=geometry)
        except IneligibleError as reason:
            return reason

    return build


def finish(config: FreezeStimuliConfig, context: StageContext) -> dict[str, list[str]]:
    settings = {"image_set": config.image_set, "plan": config.plan, "embeddings": config.embeddings}
    parents = [digest for digest in settings.values() if digest]
    with context.store.write(
        "stimuli", config=settings, parents=parents, stage_revision=context.stage_revision, seed=config.seed
    ) as writer:
        make_folders(writer.folder)
        with (writer.folder / "items.jsonl").open("w") as rows:
            for index in range(context.n_chunks):
                gather(context.chunk(index), writer.folder)
                rows.write((context.chunk(index) / "items.jsonl").read_text())
    return {"artifacts": [writer.digest]}


def read_lines(path: Path, start: int, stop: int) -> list[PlanLine]:
    with path.open() as lines:
        return [PlanLine.from_json(json.loads(line)) for line in islice(lines, start, stop)]


@contextmanager
def open_sources(
    plan: Artifact, context: StageContext, similarity: Similarity | None
) -> Iterator[tuple[Sources, Geometry]]:
    """What the builders ask of features, read row by row and not file by file, and the geometry of the vision model."""
    from safetensors import safe_open

    sources = plan.json("sources.json")
    artifacts = [context.store.open(source["exemplars"], kind="exemplars") for source in sources]
    facts = [artifact.json("exemplars.json") for artifact in artifacts]
    model = context.store.open(facts[0]["vision_model"], kind="vision-model").json("model.json")
    with ExitStack() as stack:
        files = []
        for source, artifact, fact in zip(sources, artifacts, facts, strict=True):
            opened = stack.enter_context(safe_open(artifact.path(source["file"]), framework="np"))
            seed = int(fact["settings"].get("seed", 0))
            files.append(ExemplarFile(artifact.digest, seed, source["file"], row_reader(opened)))
        yield sources_of(files, similarity), Geometry.of(model["preprocessing"], facts[0]["grid"])


def row_reader(file: Any) -> Tensors:
    return lambda name, row: file.get_slice(name)[row : row + 1][0]


@contextmanager
def open_embeddings(config: FreezeStimuliConfig, context: StageContext) -> Iterator[Similarity | None]:
    """How alike two images look, or None where the study names no embeddings."""
    if not config.embeddings:
        yield None
        return
    artifact = context.store.open(config.embeddings, kind="image-embeddings")
    if artifact.json("embeddings.json")["image_set"] != config.image_set:
        raise ConfigError("The embeddings are of another image set; embed the images of this study's set.")
    with open_similarity(artifact.path("embeddings.safetensors")) as similarity:
        yield similarity


def make_folders(folder: Path) -> None:
    for name in ("sprites", "zoom", "items"):
        (folder / name).mkdir()


def write_outcome(folder: Path, number: int, built: Stimulus | IneligibleError) -> None:
    """The files of a stimulus and its row, or the row that says why there is none."""
    row: dict[str, Any] = {"number": number}
    if isinstance(built, IneligibleError):
        row |= {"ineligible": str(built)}
    else:
        (folder / "sprites" / f"{built.id}.webp").write_bytes(built.sprite)
        (folder / "zoom" / f"{built.id}.webp").write_bytes(built.zoom)
        (folder / "items" / f"{built.id}.json").write_text(json.dumps(built.record, sort_keys=True))
        n_cells = {panel["name"]: len(panel["cells"]) for panel in built.record["panels"]}
        facts = {"grid": built.record["grid"], "n_cells": n_cells, "truth": built.record["truth"]}
        row |= {"stimulus": built.id} | facts
    with (folder / "items.jsonl").open("a") as rows:
        rows.write(json.dumps(row, sort_keys=True) + "\n")


def gather(chunk: Path, target: Path) -> None:
    for name in ("sprites", "zoom", "items"):
        for path in sorted((chunk / name).iterdir()):
            shutil.copyfile(path, target / name / path.name)
