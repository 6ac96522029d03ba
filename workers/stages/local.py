"""Execute a stage here and now, without a database, a broker or a worker: for notebooks, tests and benchmarks.

The chunks are those a worker would execute, in the same order, with the same bytes as a result.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from workers.artifacts import ArtifactStore
from workers.stages.configs import STAGES, StageConfig, run_request
from workers.stages.context import (
    ChunkPlan,
    Executor,
    Reporter,
    StageContext,
    artifact_digests,
    attempt_folder,
    drop_output,
    load_executor,
    publish_chunk,
    use_threads,
)

ImageRoots = Mapping[str, Path] | Callable[[str], Path]


class ProgressBar:
    """A bar with rate and time left on a terminal; a line every ten seconds elsewhere."""

    def __init__(self, title: str, *, stream: TextIO | None = None) -> None:
        self.title = title
        self.stream = stream or sys.stderr
        self.n_units = 0
        self.n_before = 0
        self.n_done = 0
        self.n_earlier = 0  # done before this bar began, by a run that is resumed
        self.started = time.monotonic()
        self.last_drawn = 0.0

    def progress(self, n_units_done: int) -> None:
        self.n_done = self.n_before + n_units_done
        self.draw()

    def metric(self, name: str, step: int, value: float) -> None:
        """Numbers are for the run page; the bar shows progress only."""

    def log(self, text: str) -> None:
        end = "\x1b[K\n" if self.stream.isatty() else "\n"
        self.stream.write(f"\r{text}{end}" if self.stream.isatty() else f"{self.title}: {text}{end}")
        self.draw(force=self.stream.isatty())

    def is_cancelled(self) -> bool:
        return False

    def chunk_done(self, n_units: int) -> None:
        self.n_before += n_units
        self.n_done = self.n_before
        self.draw()

    def close(self) -> None:
        self.draw(force=True)
        if self.stream.isatty():
            self.stream.write("\n")

    def draw(self, *, force: bool = False) -> None:
        interval = 0.1 if self.stream.isatty() else 10.0
        now = time.monotonic()
        if not force and now - self.last_drawn < interval:
            return
        self.last_drawn = now
        line = bar_line(self.title, self.n_done, self.n_units, now - self.started, self.n_earlier)
        self.stream.write(f"\r{line}\x1b[K" if self.stream.isatty() else line + "\n")
        self.stream.flush()


def bar_line(title: str, n_done: int, n_units: int, seconds: float, n_earlier: int = 0) -> str:
    """'title ████░░░░ 42 % 1234/s, 17 s left'; the rate is that of what was done in these seconds."""
    share = min(1.0, n_done / n_units) if n_units else 0.0
    filled = round(24 * share)
    rate = max(0, n_done - n_earlier) / seconds if seconds > 0 else 0.0
    left = f", {(n_units - n_done) / rate:.0f} s left" if rate > 0 and n_done < n_units else ""
    return f"{title} {'█' * filled}{'░' * (24 - filled)} {100 * share:3.0f} % {rate:,.0f}/s{left}"


def run_locally(
    stage: str,
    config: StageConfig,
    store: ArtifactStore,
    image_roots: ImageRoots,
    *,
    reporter: Reporter | None = None,
    n_threads: int | None = None,
    work_folder: Path | None = None,
    import_root: Path | None = None,
) -> list[str]:
    """Execute every chunk of a stage in this process and return the digests of the artefacts it made.

    The same request finds the finished artefacts and computes nothing.
    """
    key = run_request(store, stage, config)
    if (found := store.find_all(key)) is not None:
        return [artifact.digest for artifact in found]
    threads = n_threads or os.cpu_count() or 1
    use_threads(threads)
    folder = work_folder or Path(tempfile.mkdtemp(prefix=f"vitrine-{stage}-"))
    context = StageContext(
        store=store,
        run_folder=folder,
        chunk_folder=folder,
        image_roots=image_roots if callable(image_roots) else image_roots.__getitem__,
        reporter=reporter or ProgressBar(stage),
        n_threads=threads,
        stage_revision=STAGES[stage].revision,
        import_root=import_root,
    )
    try:
        digests = execute_all(load_executor(stage), stage, config, context)
    finally:
        if work_folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    store.remember(key, digests)
    return digests


def execute_all(executor: Executor, stage: str, config: StageConfig, context: StageContext) -> list[str]:
    """Plan, work, finish, in order of phase and place in the plan."""
    context.chunk_folder = attempt_folder(context.run_folder, "plan", 1)
    plans = sorted(enumerate(executor.plan(config, context)), key=lambda entry: (entry[1].phase, entry[0]))
    context.n_chunks = len(plans)
    bar = context.reporter if isinstance(context.reporter, ProgressBar) else None
    if bar is not None:
        bar.n_units = sum(plan.n_units for _, plan in plans)
    for index, plan in plans:
        drop_spent_checkpoints(plans, plan.phase, context)
        execute_chunk(executor, config, context, index, plan)
        if bar is not None:
            bar.chunk_done(plan.n_units)
    context.chunk_folder = attempt_folder(context.run_folder, "finish", 1)
    digests = artifact_digests(executor.finish(config, context), stage)
    if bar is not None:
        bar.close()
    return digests


def drop_spent_checkpoints(plans: list[tuple[int, ChunkPlan]], phase: int, context: StageContext) -> None:
    """While a phase works, only the checkpoints of the phase before it are still read."""
    last_read = max((plan.phase for _, plan in plans if plan.phase < phase), default=phase)
    for index, plan in plans:
        if plan.is_checkpoint and plan.phase < last_read:
            drop_output(context.run_folder, index)


def execute_chunk(executor: Executor, config: StageConfig, context: StageContext, index: int, plan: ChunkPlan) -> None:
    context.raise_if_cancelled()
    context.chunk_folder = attempt_folder(context.run_folder, f"{index:06d}", 1)
    payload = json.loads(json.dumps(plan.payload))  # as it comes back from the database
    executor.execute(config, payload, context)
    publish_chunk(context.chunk_folder, context.chunk(index))
