"""The one junction of core and site: claim a chunk, execute it with the core, complete its row.

The main thread only computes. A second thread reports once a second: it extends the lease, writes progress and asks
whether the run was cancelled; so an outage of the database never disturbs the computation, it only delays the report.
"""

from __future__ import annotations

import functools
import logging
import os
import resource
import shutil
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from django.conf import settings
from django.db import Error, InterfaceError, OperationalError, close_old_connections, connection

from annotation.domain import chunks, errands, exports, study_upkeep
from annotation.domain.chunks import LostLeaseError, PlannedChunk, Report
from annotation.domain.runs import run_folder, stage_config
from annotation.domain.storage import artifact_store, image_root
from annotation.domain.webhook_delivery import deliver_due
from annotation.domain.webhook_events import collect_news
from annotation.models import Chunk, ImageSet, Run
from config.wakeup import WORK_ON, wake_workers
from workers.celery import app
from workers.stages import context as stage_context
from workers.stages.configs import STAGES, StageConfig
from workers.stages.context import Executor, RunCancelledError, StageContext
from workers.stages.disk import is_database_full, is_disk_full

logger = logging.getLogger(__name__)

MESSAGE_SECONDS = 10  # after this long a task ends between two chunks and wakes itself anew, so that it can be stopped
WEBHOOK_SECONDS = 5  # of deliveries per wake-up
DATABASE_PATIENCE = 600  # seconds to wait for a database that restarts before a finished chunk is given up
PARTING_PATIENCE = 10  # where nothing is lost but time: the lease of a chunk runs out by itself
OUR_PACKAGES = ("workers", "annotation", "analysis")

T = TypeVar("T")


@app.task(name=WORK_ON, ignore_result=True, acks_late=False)  # type: ignore[untyped-decorator]
def work_on(*, queue: str) -> None:
    """Execute chunks of a queue until there are none, or for a while."""
    started = time.monotonic()
    close_old_connections()
    patiently(lambda: chunks.worker_seen(name=owner_name(), queue=queue))
    if queue == "cpu":  # first, and for some seconds at most: a long queue of chunks shall not keep news back
        patiently(tell_webhooks)
        patiently(study_upkeep.keep_up)
    while execute_next(queue=queue):
        if time.monotonic() - started > MESSAGE_SECONDS:
            wake_workers(queue)
            return
    tidy_up_once()
    if queue == "cpu":
        exports.write_queued_exports()
        errands.work_off_errands()


def tell_webhooks() -> int:
    """Write down what addresses are to be told, and tell them; nobody waits for it but this worker."""
    collect_news()
    return deliver_due(seconds=WEBHOOK_SECONDS)


@functools.cache
def tidy_up_once() -> int:
    """When a worker first has nothing else to do."""
    return patiently(chunks.remove_leftovers)


def execute_next(*, queue: str, run: Run | None = None) -> bool:
    """Sweep, claim one chunk and execute it; returns whether there was one."""
    patiently(chunks.sweep_expired)
    chunk = patiently(lambda: chunks.claim_chunk(queue=queue, owner=owner_name(), run=run))
    if chunk is None:
        return False
    execute_chunk(chunk)
    return True


def owner_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def execute_chunk(chunk: Chunk) -> None:
    """Execute a claimed chunk and complete it, fail it, or give it back."""
    try:
        with ReportingThread(chunk) as reporter:
            perform(chunk, reporter)
    except LostLeaseError:
        logger.warning("%s was taken over by another worker; its output is discarded", chunk)
    except RunCancelledError:
        give_back(chunk)
    except Exception as error:
        fail(chunk, error, reporter.last_report())
        raise
    except BaseException:  # the worker is being stopped
        give_back(chunk)
        raise


def give_back(chunk: Chunk) -> None:
    try:
        patiently(lambda: chunks.release_chunk(chunk=chunk), seconds=PARTING_PATIENCE)
    except LostLeaseError:
        logger.warning("%s was taken over by another worker", chunk)


def fail(chunk: Chunk, error: Exception, report: Report) -> None:
    """Write down that a chunk failed; where the database takes nothing, the error is still the caller's to tell."""
    text = "".join(traceback.format_exception(error))
    logger.error("%s failed: %s", chunk, sentence_for(error), exc_info=None if is_expected(error) else error)
    try:
        patiently(
            lambda: chunks.fail_chunk(chunk=chunk, sentence=sentence_for(error), traceback=text, report=report),
            seconds=PARTING_PATIENCE,
        )
    except LostLeaseError:
        logger.warning("%s was taken over by another worker", chunk)
    except (OperationalError, InterfaceError) as unwritten:
        logger.error("that %s failed could not be written down: %s", chunk, unwritten)


def sentence_for(error: Exception) -> str:
    """One sentence for the page."""
    if is_database_full(error):
        return (
            f"No room is left for the database ({connection.settings_dict['NAME']}). Make room on its disk, for "
            "instance with manage.py prune_runs if the artefacts lie there too, then retry: what was done is kept."
        )
    if is_disk_full(error):
        return (
            f"No room is left for what this run writes under {settings.ARTIFACT_ROOT}. Make room there, for instance "
            "with manage.py prune_runs, then retry: what was done is kept."
        )
    if is_fit_for_the_user(error):
        return str(error)
    first_line = next(iter(str(error).strip().splitlines()), "no message")
    return f"The stage stopped with an error it did not expect: {type(error).__name__}: {first_line}"


def is_fit_for_the_user(error: Exception) -> bool:
    """Our own errors and wrong values speak for themselves, a full disk is told of; the others are surprises."""
    return bool(str(error)) and (is_expected(error) or isinstance(error, ValueError))


def is_expected(error: Exception) -> bool:
    """Whether the sentence says all and the log needs no traceback; the run page keeps one in any case."""
    return type(error).__module__.partition(".")[0] in OUR_PACKAGES or is_disk_full(error)


def can_be_resumed(error: Exception) -> bool:
    """Whether the same run may yet succeed; not where the error is in what it was asked for."""
    return not getattr(error, "needs_another_run", False)


def perform(chunk: Chunk, reporter: ReportingThread) -> None:
    run = chunk.run
    config = stage_config(run)
    stage_context.use_threads(settings.TORCH_THREADS)
    executor = stage_context.load_executor(run.stage)
    stage_context.forget_peak_memory()
    reporter.device = stage_context.device_description(settings.TORCH_THREADS)
    context = build_context(chunk, reporter)
    try:
        context.raise_if_cancelled()
        PERFORM[Chunk.Kind(chunk.kind)](chunk, executor, config, context, reporter)
    finally:
        shutil.rmtree(context.chunk_folder, ignore_errors=True)  # published by now, or of an attempt that failed


def build_context(chunk: Chunk, reporter: ReportingThread) -> StageContext:
    folder = run_folder(chunk.run)
    return StageContext(
        store=artifact_store(),
        run_folder=folder,
        chunk_folder=stage_context.attempt_folder(folder, f"{chunk.kind}-{chunk.index:06d}", chunk.attempt),
        n_chunks=patiently(lambda: chunk.run.chunks.filter(kind=Chunk.Kind.WORK).count()),
        image_roots=lambda digest: patiently(lambda: image_root(ImageSet.objects.get(digest=digest))),
        reporter=reporter,
        n_threads=settings.TORCH_THREADS,
        stage_revision=STAGES[chunk.run.stage].revision,
        chunk_seconds=settings.CHUNK_SECONDS,
        import_root=settings.IMPORT_ROOT,
    )


def perform_plan(
    chunk: Chunk, executor: Executor, config: StageConfig, context: StageContext, reporter: ReportingThread
) -> None:
    planned = [
        PlannedChunk(plan.phase, plan.payload, plan.n_units, plan.is_checkpoint)
        for plan in executor.plan(config, context)
    ]
    report = reporter.last_report()
    patiently(lambda: chunks.complete_plan(chunk=chunk, planned=planned, report=report))


def perform_work(
    chunk: Chunk, executor: Executor, config: StageConfig, context: StageContext, reporter: ReportingThread
) -> None:
    executor.execute(config, chunk.payload, context)
    report = reporter.last_report()

    def publish() -> None:
        stage_context.publish_chunk(context.chunk_folder, context.chunk(chunk.index))

    patiently(lambda: chunks.complete_work(chunk=chunk, publish=publish, report=report))
    for index in patiently(lambda: chunks.spent_checkpoints(run=chunk.run)):
        stage_context.drop_output(context.run_folder, index)


def perform_finish(
    chunk: Chunk, executor: Executor, config: StageConfig, context: StageContext, reporter: ReportingThread
) -> None:
    digests = stage_context.artifact_digests(executor.finish(config, context), chunk.run.stage)
    report = reporter.last_report()
    patiently(lambda: chunks.complete_finish(chunk=chunk, digests=digests, report=report))
    chunks.remove_run_folder(chunk.run)


PERFORM = {Chunk.Kind.PLAN: perform_plan, Chunk.Kind.WORK: perform_work, Chunk.Kind.FINISH: perform_finish}


def patiently(act: Callable[[], T], *, seconds: float = DATABASE_PATIENCE) -> T:
    """Do something with the database, again and again while it is away. Whatever ``act`` does must be fenced.

    A database on a full disk is not away: its error is raised at once.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except (OperationalError, InterfaceError) as error:
            if time.monotonic() > deadline or is_database_full(error):
                raise
            logger.warning("the database does not answer, trying again: %s", error)
            connection.close()
            time.sleep(0.5)


class ReportingThread:
    """Collects what a stage reports, and writes it while the chunk is in hand."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk
        self.device = ""
        self.n_units_done = 0
        self.metrics: dict[tuple[str, int], float] = {}
        self.log_lines: list[str] = []
        self.must_stop = False
        self.lock = threading.Lock()  # guards the two collections
        self.writing = threading.Lock()  # held from taking a report until it is written or put back
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.keep_reporting, name="report", daemon=True)

    def __enter__(self) -> ReportingThread:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.thread.join(timeout=settings.CHUNK_LEASE_SECONDS)

    def progress(self, n_units_done: int) -> None:
        self.n_units_done = min(n_units_done, self.chunk.n_units)

    def metric(self, name: str, step: int, value: float) -> None:
        if value == value and abs(value) != float("inf"):  # a plot has no place for NaN
            with self.lock:
                self.metrics[name, step] = value

    def log(self, text: str) -> None:
        with self.lock:
            self.log_lines.append(text)

    def is_cancelled(self) -> bool:
        return self.must_stop

    def last_report(self) -> Report:
        """All that is not written yet, for the transaction that ends the chunk."""
        with self.writing:
            return self.take_report()

    def take_report(self) -> Report:
        with self.lock:
            metrics, self.metrics = self.metrics, {}
            lines, self.log_lines = self.log_lines, []
        peak = peak_memory_bytes() if self.device else 0  # until then the other thread may be importing torch
        return Report(self.n_units_done, metrics, lines, self.device, peak)

    def put_back(self, report: Report) -> None:
        """The report could not be written: its lines and numbers go with the next."""
        with self.lock:
            self.metrics = {**report.metrics, **self.metrics}
            self.log_lines = report.log_lines + self.log_lines

    def keep_reporting(self) -> None:
        interval = min(1.0, settings.CHUNK_LEASE_SECONDS / 6)
        try:
            while not self.ended.wait(interval):
                self.report_once()
        finally:
            connection.close()

    def report_once(self) -> None:
        with self.writing:
            report = self.take_report()
            try:
                self.must_stop = not chunks.report_chunk(chunk=self.chunk, report=report)
            except Error as error:
                logger.warning("a report of %s could not be written yet: %s", self.chunk, error)
                self.put_back(report)
                connection.close()


def peak_memory_bytes() -> int:
    """On a GPU the most that torch has held there, else the most memory this process has had."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
