"""Chunks executed for real: in this process, without a broker, and by Celery workers in other processes."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from annotation.domain import chunks
from annotation.domain.chunks import Report
from annotation.domain.runs import cancel_run, create_run, is_served, retry_run, run_folder
from annotation.domain.storage import artifact_store
from annotation.models import Chunk, Run
from config.wakeup import wake_workers
from tests.servers import BrokerServer, WorkerProcess, poll
from tests.workers import counting_stage
from tests.workers.counting_stage import CountingConfig, journal, site_customization
from workers import tasks
from workers.stages.configs import STAGES, ConfigError
from workers.stages.context import SilentReporter
from workers.stages.local import run_locally

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def stage(monkeypatch: pytest.MonkeyPatch, artifact_root: Path) -> Iterator[None]:
    monkeypatch.setitem(STAGES, counting_stage.NAME, counting_stage.stage())
    yield
    connection.close()


def new_run(**config: object) -> Run:
    return create_run(stage="counting", config=config, user=None)


def work_until_idle() -> None:
    while tasks.execute_next(queue="cpu"):
        continue


def execute_in_thread() -> None:
    tasks.execute_next(queue="cpu")
    connection.close()


def test_a_run_goes_through_and_leaves_its_artefact_only(artifact_root: Path) -> None:
    run = new_run()
    work_until_idle()
    run.refresh_from_db()

    assert run.state == Run.State.DONE
    assert [artifact_store().open(digest).kind for digest in run.artifacts] == ["export"]
    assert (run.n_units_done, run.n_units) == (60, 60)
    assert run.metrics.count() == 60
    assert list(run.log_lines.values_list("text", flat=True)) == [f"counted {index}" for index in range(6)]
    assert run.device.startswith("CPU")
    assert run.peak_memory_bytes > 0
    assert not run_folder(run).exists()


def test_the_same_request_computes_nothing(artifact_root: Path) -> None:
    first = new_run()
    work_until_idle()
    first.refresh_from_db()
    n_computed = len(journal(artifact_root))

    again = new_run()
    assert again.state == Run.State.DONE
    assert again.artifacts == first.artifacts
    assert again.note.startswith("Nothing was computed")
    assert tasks.execute_next(queue="cpu") is False
    assert len(journal(artifact_root)) == n_computed


def test_the_runner_without_a_broker_gives_the_same_bytes(tmp_path: Path) -> None:
    run = new_run(n_phases=4, n_per_phase=3)
    work_until_idle()
    run.refresh_from_db()

    store = type(artifact_store())(tmp_path / "elsewhere")
    config = CountingConfig(n_phases=4, n_per_phase=3)
    assert run_locally("counting", config, store, {}, reporter=SilentReporter(), n_threads=1) == run.artifacts  # type: ignore[arg-type]


def test_a_failure_is_told_in_one_sentence_and_retry_computes_only_what_is_missing(
    artifact_root: Path, tmp_path: Path
) -> None:
    obstacle = tmp_path / "obstacle"
    run = new_run(fails_while=str(obstacle))
    assert tasks.execute_next(queue="cpu")
    assert tasks.execute_next(queue="cpu")
    obstacle.touch()
    with pytest.raises(ValueError, match="is in the way"):
        tasks.execute_next(queue="cpu")

    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert run.error == f"The file '{obstacle}' is in the way; remove it."
    assert "counting_stage.py" in run.traceback
    obstacle.unlink()
    retry_run(run=run)
    work_until_idle()
    run.refresh_from_db()
    assert run.state == Run.State.DONE
    assert journal(artifact_root) == ["0", "1", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("error", "has_traceback"),
    [
        (ConfigError("The readout is of another model."), False),
        (OSError(28, "No space left on device"), False),
        (ValueError("Two shapes differ."), True),
        (KeyError("weight"), True),
    ],
)
def test_the_log_has_a_traceback_of_what_was_not_expected_only(
    error: Exception, has_traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run = new_run()
    chunk = chunks.claim_chunk(queue="cpu", owner="a worker")
    assert chunk is not None
    tasks.fail(chunk, error, Report(0, {}, [], "", 0))
    run.refresh_from_db()
    (record,) = [one for one in caplog.records if one.name == "workers.tasks"]
    assert record.getMessage().endswith(f"failed: {run.error}")
    assert (record.exc_info is not None) == has_traceback
    assert type(error).__name__ in run.traceback


def test_a_full_disk_is_told_leaves_nothing_partial_and_harms_no_other_run(artifact_root: Path) -> None:
    run = new_run(most_bytes=10)
    assert tasks.execute_next(queue="cpu")
    with pytest.raises(OSError, match="File too large"):
        tasks.execute_next(queue="cpu")
    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert run.error == (
        f"No room is left for what this run writes under {artifact_root}. Make room there, for instance with manage.py "
        "prune_runs, then retry: what was done is kept."
    )
    assert [path for path in run_folder(run).rglob("*") if path.is_file()] == []
    assert list((run_folder(run) / "attempts").iterdir()) == []

    other = new_run(n_phases=1)
    work_until_idle()
    other.refresh_from_db()
    assert other.state == Run.State.DONE


def test_two_runs_of_the_same_config_at_once_end_with_the_same_artefact(artifact_root: Path) -> None:
    first, second = new_run(), new_run()
    work_until_idle()
    for run in (first, second):
        run.refresh_from_db()
        assert (run.state, run.error) == (Run.State.DONE, "")
        assert not run_folder(run).exists()
    assert first.artifacts == second.artifacts
    assert len(journal(artifact_root)) == 12


def test_what_a_stopped_run_left_is_pruned_and_retry_begins_anew(artifact_root: Path, tmp_path: Path) -> None:
    obstacle = tmp_path / "obstacle"
    run, alive = new_run(fails_while=str(obstacle)), new_run(seed=1)
    assert tasks.execute_next(queue="cpu", run=run)
    assert tasks.execute_next(queue="cpu", run=run)
    obstacle.touch()
    with pytest.raises(ValueError, match="is in the way"):
        tasks.execute_next(queue="cpu", run=run)
    obstacle.unlink()
    stranger = artifact_root / "runs" / "77-abcdef12"
    stranger.mkdir()
    n_bytes = len((run_folder(run) / "chunks" / "000000" / "digest").read_bytes())

    assert f"Run {run.pk}, failed: {n_bytes} bytes" in said("prune_runs", "--days", "0", "--dry-run")
    assert run_folder(run).is_dir()
    assert "Run" not in said("prune_runs")  # it stopped a moment ago
    text = said("prune_runs", "--days", "0")
    assert f"{n_bytes} bytes were freed." in text
    assert f"Left alone, of no run in this database: {stranger}" in text
    assert [path.name for path in (artifact_root / "runs").iterdir()] == [stranger.name]

    retry_run(run=Run.objects.get(pk=run.pk))
    work_until_idle()
    for one in (run, alive):
        one.refresh_from_db()
        assert (one.state, one.n_units_done) == (Run.State.DONE, 60)
    assert journal(artifact_root).count("0") == 3


def said(*command: str) -> str:
    out = io.StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def test_an_unexpected_error_is_named_with_its_type() -> None:
    assert tasks.sentence_for(KeyError("weights")) == (
        "The stage stopped with an error it did not expect: KeyError: 'weights'"
    )


def test_a_run_is_cancelled_inside_a_chunk_and_goes_on_later(artifact_root: Path) -> None:
    run = new_run(n_phases=1, n_per_phase=1, milliseconds=5_000)
    assert tasks.execute_next(queue="cpu")
    worker = threading.Thread(target=execute_in_thread)
    worker.start()
    poll(lambda: journal(artifact_root) == ["0"], "the start of the chunk")
    cancel_run(run=run)
    worker.join(timeout=20)

    run.refresh_from_db()
    assert run.state == Run.State.CANCELLED
    assert Chunk.objects.get(run=run, kind="work").state == Chunk.State.WAITING


def test_a_worker_takes_a_run_by_message_and_says_that_it_serves_the_queue(
    start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    assert not is_served("cpu")
    start_worker("cpu", **site_customization(tmp_path), VITRINE_POLL_SECONDS="3600")
    run = new_run()
    assert wake_workers("cpu")

    poll(lambda: Run.objects.get(pk=run.pk).is_over, "the end of the run", seconds=60)
    run.refresh_from_db()
    assert (run.state, run.error) == (Run.State.DONE, "")
    assert is_served("cpu")


def test_without_any_message_a_worker_finds_the_run_by_itself(
    start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    start_worker("cpu", **site_customization(tmp_path), VITRINE_POLL_SECONDS="1")
    run = new_run()

    poll(lambda: Run.objects.get(pk=run.pk).state == Run.State.DONE, "the end of the run", seconds=60)


def test_a_stopped_worker_gives_its_chunk_back_at_once(
    start_worker: Callable[..., WorkerProcess], artifact_root: Path, tmp_path: Path
) -> None:
    worker = start_worker("cpu", **site_customization(tmp_path), VITRINE_POLL_SECONDS="1")
    run = new_run(n_phases=1, n_per_phase=1, milliseconds=20_000)
    poll(lambda: journal(artifact_root) == ["0"], "the start of the chunk", seconds=60)
    worker.service.process.terminate()
    assert worker.service.process.wait(timeout=8) == 0, worker.log

    chunk = Chunk.objects.get(run=run, kind="work")
    assert (chunk.state, chunk.owner) == (Chunk.State.WAITING, "")


def test_a_broker_that_is_down_is_reported_and_nothing_else(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from config import wakeup

    monkeypatch.setattr("django.conf.settings.BROKER_URL", "redis+socket:///nowhere/valkey.sock")
    wakeup.sender.cache_clear()
    assert wake_workers("cpu") is False
    wakeup.sender.cache_clear()
