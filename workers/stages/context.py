"""What an executor sees of the world: its store, its folders, and somebody to report to.

The same executor runs under a worker, where reports go to the database, and without one (``workers/stages/local.py``),
where they go to a progress bar. Neither torch nor Django is imported here.
"""

from __future__ import annotations

import functools
import importlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from workers.artifacts import ArtifactStore, sync_folder
from workers.stages.configs import STAGES

CHUNK_SECONDS = 15.0  # chunks last 30 s at most (design.md §5); speeds are guessed, so half of that is aimed at


class RunCancelledError(Exception):
    """Somebody asked for this run to stop; raised between two units of work, never in the middle of a write."""


@dataclass(frozen=True)
class ChunkPlan:
    """One unit of restartable work, at most about 30 s; it starts once every chunk of a lower phase is done.

    The output of a checkpoint is read by the next phase only, so it is removed once that phase is done.
    """

    phase: int
    payload: dict[str, Any]
    n_units: int = 1
    is_checkpoint: bool = False


class Reporter(Protocol):
    """Who hears of progress; its methods are cheap and never fail for want of a database or a broker."""

    def progress(self, n_units_done: int) -> None: ...

    def metric(self, name: str, step: int, value: float) -> None: ...

    def log(self, text: str) -> None: ...

    def is_cancelled(self) -> bool: ...


class Executor(Protocol):
    """What a stage module offers: three functions, deterministic in (config, payload, earlier chunks)."""

    def plan(self, config: Any, context: StageContext) -> list[ChunkPlan]: ...

    def execute(self, config: Any, payload: dict[str, Any], context: StageContext) -> None: ...

    def finish(self, config: Any, context: StageContext) -> dict[str, list[str]]: ...


class SilentReporter:
    """Reports to nobody: for tests and notebooks."""

    def progress(self, n_units_done: int) -> None:
        """Nobody listens."""

    def metric(self, name: str, step: int, value: float) -> None:
        """Nobody listens."""

    def log(self, text: str) -> None:
        """Nobody listens."""

    def is_cancelled(self) -> bool:
        return False


def unknown_image_root(digest: str) -> Path:
    raise LookupError(f"No folder is known for the image set {digest[:12]}; register its root on this host.")


@dataclass
class StageContext:
    """The surroundings of one chunk.

    ``chunk_folder`` is a temporary folder for this attempt; the runner renames it to ``chunk(index)`` on success.
    ``n_chunks`` counts the work chunks of the plan (0 while planning); ``chunk_seconds`` is how long a plan should let
    one take, and changes no byte of the result.
    """

    store: ArtifactStore
    run_folder: Path
    chunk_folder: Path
    n_chunks: int = 0
    image_roots: Callable[[str], Path] = unknown_image_root
    reporter: Reporter = field(default_factory=SilentReporter)
    n_threads: int = 1
    stage_revision: int = 1
    chunk_seconds: float = CHUNK_SECONDS
    import_root: Path | None = None  # the folder that this host opens for imports

    def chunk(self, index: int) -> Path:
        """The folder that work chunk ``index`` (its place in the plan) left behind."""
        return chunk_output(self.run_folder, index)

    def image_root(self, digest: str) -> Path:
        """Where this host keeps the files of an image set."""
        return self.image_roots(digest)

    def progress(self, n_units_done: int) -> None:
        """How many units of this chunk are done."""
        self.reporter.progress(n_units_done)

    def metric(self, name: str, step: int, value: float) -> None:
        """One point of a plot on the run page; the same step again overwrites it."""
        self.reporter.metric(name, step, value)

    def log(self, text: str) -> None:
        self.reporter.log(text)

    def cancelled(self) -> bool:
        return self.reporter.is_cancelled()

    def raise_if_cancelled(self) -> None:
        if self.cancelled():
            raise RunCancelledError

    @property
    def device(self) -> str:
        """'cuda' where torch finds a GPU, else 'cpu'."""
        return torch_device()


@functools.cache
def torch_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def device_description(n_threads: int) -> str:
    """What the run page says of the machine: the GPU's name, or the number of CPU threads."""
    if torch_device() == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    return f"CPU, {n_threads} thread{'s' if n_threads > 1 else ''}"


def use_threads(n_threads: int) -> None:
    """Fix torch's thread count: the same count gives the same bytes."""
    import torch

    torch.set_num_threads(n_threads)


def forget_peak_memory() -> None:
    """Measure the GPU memory of what comes next, not of an earlier run in this process."""
    if torch_device() == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()


def load_executor(stage: str) -> Executor:
    """The module that executes a stage; torch is imported here, so never call this in the web process."""
    return cast(Executor, importlib.import_module(STAGES[stage].executor))


def chunk_output(run_folder: Path, index: int) -> Path:
    return run_folder / "chunks" / f"{index:06d}"


def attempt_folder(run_folder: Path, name: str, attempt: int) -> Path:
    """A fresh, empty folder for one attempt at one chunk."""
    folder = run_folder / "attempts" / f"{name}-{attempt}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def publish_chunk(folder: Path, target: Path) -> None:
    """Make an attempt's folder the chunk's output; what an attempt left there before its row was written goes first."""
    if not folder.is_dir() and target.is_dir():
        return  # this very attempt published it before the database went away
    sync_folder(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)


def drop_output(run_folder: Path, index: int) -> None:
    """Remove the output of a checkpoint that no later chunk will read."""
    shutil.rmtree(chunk_output(run_folder, index), ignore_errors=True)


def artifact_digests(result: dict[str, list[str]], stage: str) -> list[str]:
    """The digests that ``finish`` reported; raises ValueError if it reported none."""
    digests = list(result.get("artifacts", []))
    if not digests:
        raise ValueError(f"The stage {stage} ended without an artefact.")
    return digests
