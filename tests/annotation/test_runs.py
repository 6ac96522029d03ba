"""Runs and chunks as rows: claims, fences, sweeping, cancel, retry, clone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone, translation

from annotation.domain import chunks, runs
from annotation.domain.chunks import LostLeaseError, PlannedChunk, Report
from annotation.domain.runs import RunError, cancel_run, clone_run, create_run, retry_run
from annotation.models import Chunk, Role, Run, User
from tests.workers import counting_stage
from workers.artifacts import ArtifactError
from workers.stages.configs import STAGES, ConfigError

pytestmark = pytest.mark.django_db

NOTHING = Report(0, {}, [], "CPU", 0)


@pytest.fixture(autouse=True)
def stage(monkeypatch: pytest.MonkeyPatch, artifact_root: Path) -> None:
    monkeypatch.setitem(STAGES, counting_stage.NAME, counting_stage.stage())


@pytest.fixture
def rhea() -> User:
    return User.objects.create_user("rhea", role=Role.RESEARCHER)


def new_run(user: User, **config: object) -> Run:
    return create_run(stage="counting", config=config, user=user)


def claim(owner: str = "a") -> Chunk:
    chunk = chunks.claim_chunk(queue="cpu", owner=owner)
    assert chunk is not None
    return chunk


def planned_run(user: User, phases: tuple[int, ...] = (0, 0, 1)) -> Run:
    run = new_run(user, seed=Run.objects.count())
    plan = [PlannedChunk(phase, {}, 10, False) for phase in phases]
    chunks.complete_plan(chunk=claim(), planned=plan, report=NOTHING)
    run.refresh_from_db()
    return run


def finish_work(chunk: Chunk, report: Report = NOTHING) -> None:
    chunks.complete_work(chunk=chunk, publish=lambda: None, report=report)


def expire(chunk: Chunk) -> None:
    Chunk.objects.filter(pk=chunk.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def test_a_new_run_has_one_plan_chunk_and_an_estimate(rhea: User) -> None:
    run = new_run(rhea, n_phases=2)

    assert [(c.kind, c.state) for c in run.chunks.all()] == [("plan", "waiting")]
    assert run.config["n_phases"] == 2
    assert run.state == Run.State.QUEUED
    assert run.queue == "cpu"
    assert set(run.estimate) == {"n_units", "time", "memory", "disk"}


def test_an_unknown_setting_is_refused_by_name(rhea: User) -> None:
    with pytest.raises(ConfigError, match="no setting 'n_fases'"):
        new_run(rhea, n_fases=2)
    assert Run.objects.count() == 0


def test_a_parent_that_is_not_there_is_refused(rhea: User) -> None:
    with pytest.raises(ArtifactError, match="There is no artefact 0123456789ab"):
        create_run(stage="evaluate-dictionary", config={"dictionary": "0123456789ab", "image_set": "x"}, user=rhea)
    assert Run.objects.count() == 0


def test_the_plan_opens_its_first_phase_and_ends_with_one_finish_chunk(rhea: User) -> None:
    run = planned_run(rhea)

    rows = list(run.chunks.values_list("kind", "index", "phase", "state"))
    assert rows == [
        ("plan", 0, -1, "done"),
        ("work", 0, 0, "waiting"),
        ("work", 1, 0, "waiting"),
        ("work", 2, 1, "waiting"),
        ("finish", 0, 2, "waiting"),
    ]
    assert (run.phase, run.n_units, run.state) == (0, 30, Run.State.RUNNING)


def test_a_phase_waits_for_the_phase_before_it(rhea: User) -> None:
    planned_run(rhea)
    first, second = claim("a"), claim("b")

    assert {first.index, second.index} == {0, 1}
    assert chunks.claim_chunk(queue="cpu", owner="c") is None
    finish_work(first)
    assert chunks.claim_chunk(queue="cpu", owner="c") is None
    finish_work(second)
    assert claim("c").index == 2


def test_the_oldest_run_goes_first_and_other_queues_are_left_alone(rhea: User) -> None:
    older, newer = new_run(rhea, seed=1), new_run(rhea, seed=2)

    assert chunks.claim_chunk(queue="gpu", owner="a") is None
    assert [claim().run_id, claim().run_id] == [older.pk, newer.pk]


def test_a_lost_lease_is_swept_and_the_late_result_is_refused(rhea: User) -> None:
    planned_run(rhea)
    late = claim("asleep")
    assert chunks.sweep_expired() == 0
    expire(late)

    assert chunks.sweep_expired() == 1
    again = next(c for c in (claim("b"), claim("c")) if c.index == late.index)
    assert again.attempt == 2
    published: list[str] = []
    with pytest.raises(LostLeaseError):
        chunks.complete_work(chunk=late, publish=lambda: published.append("late"), report=NOTHING)
    assert published == []
    assert chunks.report_chunk(chunk=late, report=NOTHING) is False
    finish_work(again)
    assert Chunk.objects.get(pk=late.pk).state == Chunk.State.DONE


def test_a_lease_that_was_extended_is_not_swept(rhea: User) -> None:
    planned_run(rhea)
    chunk = claim()
    expire(chunk)

    assert chunks.report_chunk(chunk=chunk, report=NOTHING) is True
    assert chunks.sweep_expired() == 0


def test_a_chunk_that_kills_every_worker_is_given_up(rhea: User) -> None:
    run = new_run(rhea)
    for _ in range(5):
        expire(claim())
        chunks.sweep_expired()

    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert run.error.startswith("The plan chunk was lost 5 times: the worker died each time")
    assert chunks.claim_chunk(queue="cpu", owner="a") is None


def test_reports_reach_the_run_and_the_same_step_overwrites(rhea: User) -> None:
    run = planned_run(rhea)
    chunk = claim()
    chunks.report_chunk(chunk=chunk, report=Report(4, {("loss", 1): 2.0}, ["one"], "CPU, 1 thread", 1000))
    chunks.report_chunk(chunk=chunk, report=Report(7, {("loss", 1): 3.0}, ["two"], "CPU, 1 thread", 500))

    run.refresh_from_db()
    assert (run.n_units_done, run.device, run.peak_memory_bytes) == (7, "CPU, 1 thread", 1000)
    assert run.rate is not None
    assert run.rate > 0
    assert list(run.metrics.values_list("name", "step", "value")) == [("loss", 1, 3.0)]
    assert list(run.log_lines.values_list("text", flat=True)) == ["one", "two"]


def test_a_second_attempt_replaces_the_log_of_the_first(rhea: User) -> None:
    run = new_run(rhea)
    chunk = claim()
    chunks.report_chunk(chunk=chunk, report=Report(0, {}, ["half"], "CPU", 0))
    expire(chunk)
    chunks.sweep_expired()
    claim()

    assert list(run.log_lines.values_list("text", flat=True)) == [
        "The plan chunk was lost: its worker did not answer.",
        "The plan chunk is taken up again.",
    ]


def test_cancel_is_immediate_while_nobody_works(rhea: User) -> None:
    run = planned_run(rhea)

    assert cancel_run(run=run).state == Run.State.CANCELLED
    assert chunks.claim_chunk(queue="cpu", owner="a") is None
    with pytest.raises(RunError, match="already cancelled"):
        cancel_run(run=run)


def test_cancel_waits_for_the_chunk_in_hand_and_retry_goes_on_from_there(rhea: User) -> None:
    run = planned_run(rhea)
    finish_work(claim())
    chunk = claim()

    assert cancel_run(run=run).state == Run.State.RUNNING
    assert chunks.report_chunk(chunk=chunk, report=NOTHING) is False
    chunks.release_chunk(chunk=chunk)
    run.refresh_from_db()
    assert run.state == Run.State.CANCELLED

    retry_run(run=run)
    assert claim().index == chunk.index
    assert [c.state for c in run.chunks.filter(kind="work")] == ["done", "running", "waiting"]


def test_a_cancelled_run_is_settled_when_its_dead_worker_is_swept(rhea: User) -> None:
    run = planned_run(rhea)
    chunk = claim()
    cancel_run(run=run)
    expire(chunk)
    chunks.sweep_expired()

    run.refresh_from_db()
    assert run.state == Run.State.CANCELLED


def test_a_failed_run_says_why_and_can_be_retried(rhea: User) -> None:
    run = planned_run(rhea)
    chunk = claim()
    chunks.fail_chunk(chunk=chunk, sentence="The disk is full.", traceback="Traceback …", report=NOTHING)

    run.refresh_from_db()
    assert (run.state, run.error, run.traceback) == (Run.State.FAILED, "The disk is full.", "Traceback …")
    assert chunks.claim_chunk(queue="cpu", owner="a") is None
    retry_run(run=run)
    run.refresh_from_db()
    assert (run.state, run.error, run.traceback) == (Run.State.QUEUED, "", "")
    assert claim().attempt == 2


def test_a_running_run_cannot_be_retried(rhea: User) -> None:
    with pytest.raises(RunError, match="is running; only a failed or cancelled run"):
        retry_run(run=planned_run(rhea))


def test_a_clone_has_the_changed_config_and_its_own_folder(rhea: User) -> None:
    run = new_run(rhea, n_phases=4, seed=1)
    clone = clone_run(run=run, user=rhea, changes={"seed": 2})

    assert (clone.config["n_phases"], clone.config["seed"], clone.cloned_from) == (4, 2, run)
    assert clone.request_key != run.request_key
    assert runs.run_folder(clone) != runs.run_folder(run)


def test_only_checkpoints_that_nobody_reads_any_more_are_spent(rhea: User) -> None:
    run = new_run(rhea)
    plan = [PlannedChunk(phase, {}, 1, True) for phase in (0, 1, 2)]
    chunks.complete_plan(chunk=claim(), planned=plan, report=NOTHING)

    spent = []
    for _ in range(3):
        finish_work(claim())
        spent.append(chunks.spent_checkpoints(run=run))
    assert spent == [[], [0], [1]]


def test_only_folders_of_finished_runs_of_this_database_are_leftovers(rhea: User) -> None:
    done, cancelled = new_run(rhea, seed=1), new_run(rhea, seed=2)
    Run.objects.filter(pk=done.pk).update(state=Run.State.DONE)
    cancel_run(run=cancelled)
    stranger = runs.run_folder(done).with_name(f"{done.pk}-elsewhere")
    for folder in (runs.run_folder(done), runs.run_folder(cancelled), stranger):
        (folder / "chunks").mkdir(parents=True)

    assert chunks.remove_leftovers() == 1
    assert not runs.run_folder(done).exists()
    assert runs.run_folder(cancelled).exists()
    assert stranger.exists()


def test_a_run_asked_for_in_german_keeps_its_estimate_in_english_and_refuses_in_german(rhea: User) -> None:
    with translation.override("de"):
        run = new_run(rhea)
        assert run.estimate["memory"]["sentence"].startswith("About ")
        with pytest.raises(RunError) as refused:
            retry_run(run=run)
    assert str(refused.value) == (
        f"Lauf {run.pk} ist im Zustand „eingereiht“; "
        "nur ein fehlgeschlagener oder abgebrochener Lauf kann wiederholt werden."
    )
