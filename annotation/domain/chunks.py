"""Claim chunks, keep them leased, complete them once. Every write is fenced on (pk, attempt, running).

A worker that lost its lease (it slept, its host was cut off) finds its writes refused, and its output is discarded.
The order of locks is always run, then chunk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet, Sum
from django.db.models.functions import Greatest
from django.utils import timezone

from annotation.domain.recording import record_artifacts
from annotation.domain.runs import run_folder, settle_cancelled
from annotation.domain.storage import artifact_store
from annotation.models import Chunk, Run, RunLogLine, RunMetric, Worker

NOTED_EVERY = timedelta(seconds=15)
FORGOTTEN_AFTER = timedelta(days=1)


class LostLeaseError(Exception):
    """Another worker has taken this chunk over, or the run is gone: discard what was computed."""


class PlannedChunk(NamedTuple):
    """One work chunk as the executor planned it."""

    phase: int
    payload: dict[str, Any]
    n_units: int
    is_checkpoint: bool


class Report(NamedTuple):
    """What a worker says of the chunk in hand, every second or so."""

    n_units_done: int
    metrics: dict[tuple[str, int], float]
    log_lines: list[str]
    device: str
    peak_memory_bytes: int


def lease_end() -> datetime:
    return timezone.now() + timedelta(seconds=settings.CHUNK_LEASE_SECONDS)


def claim_chunk(*, queue: str, owner: str, run: Run | None = None) -> Chunk | None:
    """The next chunk of a queue, of the oldest run first, leased to ``owner``; None if there is nothing to do."""
    claimable = Chunk.objects.filter(
        state=Chunk.State.WAITING,
        phase=F("run__phase"),
        run__queue=queue,
        run__state__in=[Run.State.QUEUED, Run.State.RUNNING],
        run__cancel_requested_at=None,
    ).order_by("run_id", "index")
    if run is not None:
        claimable = claimable.filter(run=run)
    if not claimable.exists():
        return None
    with transaction.atomic():
        chunk = claimable.select_for_update(skip_locked=True, of=("self",)).select_related("run").first()
        if chunk is None:
            return None
        return lease_to(chunk, owner)


def lease_to(chunk: Chunk, owner: str) -> Chunk | None:
    now = timezone.now()
    n_claimed = Chunk.objects.filter(pk=chunk.pk, state=Chunk.State.WAITING, attempt=chunk.attempt).update(
        state=Chunk.State.RUNNING,
        attempt=chunk.attempt + 1,
        owner=owner,
        lease_until=lease_end(),
        started_at=now,
        n_units_done=0,
        error="",
    )
    if n_claimed == 0:
        return None
    Run.objects.filter(pk=chunk.run_id, state=Run.State.QUEUED).update(state=Run.State.RUNNING)
    Run.objects.filter(pk=chunk.run_id, started_at=None).update(started_at=now)
    if chunk.attempt > 0:
        forget_earlier_attempt(chunk)
    return Chunk.objects.select_related("run").get(pk=chunk.pk)


def forget_earlier_attempt(chunk: Chunk) -> None:
    """What an earlier attempt logged will be logged again; its metrics are overwritten step by step."""
    RunLogLine.objects.filter(chunk=chunk).delete()
    RunLogLine.objects.create(run_id=chunk.run_id, text=f"{chunk_name(chunk)} is taken up again.")


def chunk_name(chunk: Chunk) -> str:
    return f"Chunk {chunk.index}" if chunk.kind == Chunk.Kind.WORK else f"The {chunk.kind} chunk"


def in_hand(chunk: Chunk) -> QuerySet[Chunk]:
    """The chunk's row, as a query set that is empty once the lease is lost."""
    return Chunk.objects.filter(pk=chunk.pk, attempt=chunk.attempt, state=Chunk.State.RUNNING)


@transaction.atomic
def report_chunk(*, chunk: Chunk, report: Report) -> bool:
    """Extend the lease and store the report; returns whether the work shall go on."""
    try:
        run = locked_run(chunk)
    except LostLeaseError:
        return False
    in_hand(chunk).update(lease_until=lease_end(), n_units_done=report.n_units_done)
    store_report(chunk, report)
    return run.cancel_requested_at is None


def store_report(chunk: Chunk, report: Report) -> None:
    metrics = [
        RunMetric(run_id=chunk.run_id, name=name, step=step, value=value)
        for (name, step), value in sorted(report.metrics.items())
    ]
    RunMetric.objects.bulk_create(
        metrics, update_conflicts=True, unique_fields=["run", "name", "step"], update_fields=["value"]
    )
    RunLogLine.objects.bulk_create(RunLogLine(run_id=chunk.run_id, chunk=chunk, text=text) for text in report.log_lines)
    chunks = Chunk.objects.filter(run_id=chunk.run_id, kind=Chunk.Kind.WORK)
    total = chunks.aggregate(done=Sum("n_units_done"))["done"] or 0
    Run.objects.filter(pk=chunk.run_id).update(
        n_units_done=total,
        rate=measured_rate(chunk.run_id, chunks, total),
        device=report.device,
        peak_memory_bytes=Greatest(F("peak_memory_bytes"), report.peak_memory_bytes),
    )


def measured_rate(run_id: int, chunks: QuerySet[Chunk], n_units_done: int) -> float | None:
    """Units per second of work, times the workers at it: idle time between chunks does not count."""
    now = timezone.now()
    running = chunks.filter(state=Chunk.State.RUNNING, started_at__isnull=False)
    starts = [started for started in running.values_list("started_at", flat=True) if started is not None]
    busy = Run.objects.values_list("busy_seconds", flat=True).get(pk=run_id)
    busy += sum((now - started).total_seconds() for started in starts)
    return n_units_done / busy * max(1, len(starts)) if n_units_done and busy > 0 else None


def locked_run(chunk: Chunk) -> Run:
    """The run's row, locked first; raises LostLeaseError unless the chunk is still in this worker's hand."""
    run = Run.objects.select_for_update().filter(pk=chunk.run_id).first()
    if run is None or not in_hand(chunk).select_for_update().exists():
        raise LostLeaseError
    return run


def mark_done(chunk: Chunk) -> None:
    now = timezone.now()
    started = chunk.started_at or now
    in_hand(chunk).update(
        state=Chunk.State.DONE, finished_at=now, lease_until=None, n_units_done=F("n_units"), error=""
    )
    Run.objects.filter(pk=chunk.run_id).update(
        busy_seconds=F("busy_seconds") + (now - started).total_seconds() * (chunk.kind == Chunk.Kind.WORK)
    )


@transaction.atomic
def complete_plan(*, chunk: Chunk, planned: Sequence[PlannedChunk], report: Report) -> None:
    """Insert the work and the finish chunk, and complete the plan, at once."""
    run = locked_run(chunk)
    last_phase = max((entry.phase for entry in planned), default=-1)
    rows = [Chunk(run=run, kind=Chunk.Kind.WORK, index=i, **entry._asdict()) for i, entry in enumerate(planned)]
    rows.append(Chunk(run=run, kind=Chunk.Kind.FINISH, index=0, phase=last_phase + 1))
    Chunk.objects.bulk_create(rows, batch_size=1000)
    run.n_units = sum(entry.n_units for entry in planned)
    run.save(update_fields=["n_units"])
    mark_done(chunk)
    store_report(chunk, report)
    open_next_phase(run)


@transaction.atomic
def complete_work(*, chunk: Chunk, publish: Callable[[], None], report: Report) -> None:
    """Publish the output and complete the chunk; the fence is checked before anything is published."""
    run = locked_run(chunk)
    publish()
    mark_done(chunk)
    store_report(chunk, report)
    open_next_phase(run)
    settle_cancelled(run)


@transaction.atomic
def complete_finish(*, chunk: Chunk, digests: list[str], report: Report) -> None:
    """The run is done: its artefacts get their rows in the same transaction."""
    run = locked_run(chunk)
    mark_done(chunk)
    store_report(chunk, report)
    run.refresh_from_db()
    run.state = Run.State.DONE
    run.artifacts = digests
    run.n_units_done = run.n_units
    run.finished_at = timezone.now()
    run.save()
    record_artifacts(run)
    artifact_store().remember(run.request_key, digests)


def open_next_phase(run: Run) -> None:
    """Let the lowest phase that has unfinished chunks be claimed; the caller holds the run's row."""
    unfinished = Chunk.objects.filter(run=run).exclude(state=Chunk.State.DONE).order_by("phase")
    phase = unfinished.values_list("phase", flat=True).first()
    if phase is not None and phase != run.phase:
        run.phase = phase
        run.save(update_fields=["phase"])


def spent_checkpoints(*, run: Run) -> list[int]:
    """Checkpoints that no later chunk reads: while a phase works, only those of the phase before it are needed."""
    phase = Run.objects.values_list("phase", flat=True).get(pk=run.pk)
    earlier = Chunk.objects.filter(run=run, kind=Chunk.Kind.WORK, phase__lt=phase)
    phases = list(earlier.order_by("-phase").values_list("phase", flat=True).distinct()[:2])
    if len(phases) < 2:
        return []
    return list(earlier.filter(phase=phases[1], is_checkpoint=True).values_list("index", flat=True))


@transaction.atomic
def fail_chunk(*, chunk: Chunk, sentence: str, traceback: str, report: Report) -> None:
    """The chunk raised an error: the run has failed, and its page says why."""
    run = locked_run(chunk)
    store_report(chunk, report)
    in_hand(chunk).update(state=Chunk.State.FAILED, error=sentence, lease_until=None, finished_at=timezone.now())
    fail_run(run, sentence, traceback)


def fail_run(run: Run, sentence: str, traceback: str = "") -> None:
    if run.is_over:
        return
    Run.objects.filter(pk=run.pk).update(
        state=Run.State.FAILED, error=sentence, traceback=traceback, finished_at=timezone.now()
    )
    RunLogLine.objects.create(run=run, text=f"Failed: {sentence}")


@transaction.atomic
def release_chunk(*, chunk: Chunk) -> None:
    """Give a chunk back: the worker stops, or the run was cancelled. The attempt does not count as lost."""
    run = locked_run(chunk)
    in_hand(chunk).update(
        state=Chunk.State.WAITING, owner="", lease_until=None, n_units_done=0, last_attempt=F("last_attempt") + 1
    )
    settle_cancelled(run)


def sweep_expired() -> int:
    """Return the chunks whose lease has run out (their worker died); give up those that keep killing workers."""
    expired = Chunk.objects.filter(state=Chunk.State.RUNNING, lease_until__lt=timezone.now())
    n_swept = 0
    for chunk in list(expired.order_by("run_id", "pk")):
        n_swept += sweep_chunk(chunk)
    return n_swept


@transaction.atomic
def sweep_chunk(chunk: Chunk) -> int:
    run = Run.objects.select_for_update().get(pk=chunk.run_id)
    row = in_hand(chunk).filter(lease_until__lt=timezone.now())
    if chunk.attempt >= chunk.last_attempt:
        sentence = (
            f"{chunk_name(chunk)} was lost {chunk.attempt} times: the worker died each time, perhaps for want of "
            "memory. Look at the worker's log, then retry."
        )
        n_swept: int = row.update(state=Chunk.State.FAILED, error=sentence, lease_until=None)
        if n_swept:
            fail_run(run, sentence)
        return n_swept
    n_swept = row.update(state=Chunk.State.WAITING, owner="", lease_until=None, n_units_done=0)
    if n_swept:
        RunLogLine.objects.create(run=run, text=f"{chunk_name(chunk)} was lost: its worker did not answer.")
        settle_cancelled(run)
    return n_swept


def worker_seen(*, name: str, queue: str) -> None:
    """Note that a worker lives, a few times a minute; those that were not seen for a day are forgotten."""
    now = timezone.now()
    if Worker.objects.filter(name=name, queue=queue, seen_at__gt=now - NOTED_EVERY).exists():
        return
    Worker.objects.update_or_create(name=name, queue=queue, defaults={"seen_at": now})
    Worker.objects.filter(seen_at__lt=now - FORGOTTEN_AFTER).delete()


def remove_run_folder(run: Run) -> None:
    """A finished run keeps its artefacts only."""
    shutil.rmtree(run_folder(run), ignore_errors=True)


def remove_leftovers() -> int:
    """Remove the folders of finished runs whose worker was killed before it could tidy up; returns how many."""
    left = {path.name: path for path in (Path(settings.ARTIFACT_ROOT) / "runs").glob("*-*")}
    numbers = [int(name.partition("-")[0]) for name in left if name.partition("-")[0].isdecimal()]
    done = Run.objects.filter(pk__in=numbers, state=Run.State.DONE)
    spent = [left[run.folder_name] for run in done if run.folder_name in left]
    for path in spent:
        shutil.rmtree(path, ignore_errors=True)
    return len(spent)
