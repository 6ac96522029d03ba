"""A tiny stage for the tests of runs: phases of chunks that hash what the phase before left, with a journal.

Each execution of a chunk appends a line to ``counting.journal`` under the artefact root, so that a test can count how
often a chunk was computed, whoever was killed.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from workers.stages.configs import STAGES, Stage
from workers.stages.context import ChunkPlan, StageContext

NAME = "counting"
STEPS = 10


@dataclass(frozen=True)
class CountingConfig:
    """How many phases of how many chunks, how long each takes, and what goes wrong."""

    n_phases: int = 3
    n_per_phase: int = 2
    milliseconds: int = 0
    fails_while: str = ""
    most_bytes: int = 0
    seed: int = 0

    parent_fields: ClassVar[tuple[str, ...]] = ()


def stage() -> Stage:
    return Stage(NAME, CountingConfig, "cpu", __name__, "steps")  # type: ignore[arg-type]


def register() -> ModuleType:
    """For a worker in another process."""
    STAGES[NAME] = stage()
    return sys.modules[__name__]


def journal(root: Path) -> list[str]:
    path = root / "counting.journal"
    return path.read_text().split() if path.is_file() else []


def plan(config: CountingConfig, context: StageContext) -> list[ChunkPlan]:
    return [
        ChunkPlan(phase, {"phase": phase, "place": place}, STEPS, is_checkpoint=True)
        for phase in range(config.n_phases)
        for place in range(config.n_per_phase)
    ]


def execute(config: CountingConfig, payload: dict[str, Any], context: StageContext) -> None:
    phase, place = payload["phase"], payload["place"]
    index = phase * config.n_per_phase + place
    context.store.root.mkdir(parents=True, exist_ok=True)
    with (context.store.root / "counting.journal").open("a") as lines:
        lines.write(f"{index}\n")
    if config.fails_while and Path(config.fails_while).exists():
        raise ValueError(f"The file '{config.fails_while}' is in the way; remove it.")
    digest = hashlib.sha256(f"{config.seed} {phase} {place}".encode())
    for earlier in range((phase - 1) * config.n_per_phase, phase * config.n_per_phase):
        if earlier >= 0:
            digest.update((context.chunk(earlier) / "digest").read_bytes())
    for step in range(STEPS):
        context.raise_if_cancelled()
        time.sleep(config.milliseconds / 1000 / STEPS)  # the work this stage pretends to do
        context.progress(step + 1)
        context.metric("loss", index * STEPS + step, 1 / (index * STEPS + step + 1))
    context.log(f"counted {index}")
    with largest_file(config.most_bytes):
        (context.chunk_folder / "digest").write_text(digest.hexdigest())


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Writing beyond this fails, as on a disk that is full; 0 sets no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes or soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def finish(config: CountingConfig, context: StageContext) -> dict[str, list[str]]:
    last = range(context.n_chunks - config.n_per_phase, context.n_chunks)
    with context.store.write("export", config={"seed": config.seed}) as writer:
        text = "".join((context.chunk(index) / "digest").read_text() + "\n" for index in last)
        (writer.folder / "counted.txt").write_text(text)
    return {"artifacts": [writer.digest]}


def site_customization(folder: Path) -> dict[str, str]:
    """The environment in which a new Python process knows this stage."""
    root = Path(__file__).resolve().parents[2]
    text = f"import sys; sys.path.insert(0, {str(root)!r})\nfrom tests.workers import counting_stage\n"
    (folder / "sitecustomize.py").write_text(text + "counting_stage.register()\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(root)])}
