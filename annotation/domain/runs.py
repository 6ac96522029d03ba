"""Create, cancel, retry and clone runs. Rows are the truth; a message to a worker is only a wake-up.

A run starts as one PLAN chunk. Executing it inserts the WORK chunks and one FINISH chunk of the highest phase in the
same transaction that completes it (``annotation.domain.chunks``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from annotation.domain.import_sources import with_source
from annotation.domain.recording import record_artifacts
from annotation.domain.run_estimates import estimate
from annotation.domain.run_limits import WORKER_IS_GONE_AFTER, refuse_unfit, room_here
from annotation.domain.storage import artifact_store
from annotation.models import PLAN_PHASE, Chunk, Run, RunLogLine, User, Worker
from annotation.models.run import N_ATTEMPTS
from workers.stages.configs import (
    STAGES,
    StageConfig,
    config_from_dict,
    config_to_dict,
    parent_digests,
    run_request,
)


class RunError(Exception):
    """What was asked of a run cannot be done; the message is fit for the user."""


def run_folder(run: Run) -> Path:
    """Where the chunks of an unfinished run leave their output; on storage that every worker shares."""
    return Path(settings.ARTIFACT_ROOT) / "runs" / run.folder_name


def stored_estimate(stage: str, config: StageConfig) -> dict[str, Any]:
    """In the site's own language: whoever looks at the run later may read another than who started it."""
    with override(settings.LANGUAGE_CODE):
        return estimate(stage, config).as_dict()


def create_run(
    *,
    stage: str,
    config: Mapping[str, Any],
    user: User | None,
    title: str = "",
    cloned_from: Run | None = None,
    queue: str = "",
) -> Run:
    """Queue a run; the same request as before finds the finished artefacts and is done at once.

    Raises ConfigError for a config that is wrong or cannot fit here, and ArtifactError for a parent that is not there.
    """
    settled = with_source(config_from_dict(stage, config))
    store = artifact_store()
    parents = [store.open(digest).digest for digest in parent_digests(settled)]
    key = run_request(store, stage, settled)
    run = Run(
        stage=stage,
        title=title,
        config=config_to_dict(settled),
        queue=queue or STAGES[stage].queue,
        parents=parents,
        request_key=key,
        estimate=stored_estimate(stage, settled),
        cloned_from=cloned_from,
        created_by=user,
    )
    found = store.find_all(key)
    if found is None:
        refuse_unfit(settled, estimate(stage, settled), room_here(), queue=run.queue)
    with transaction.atomic():
        run.save()
        if found is not None:
            finish_at_once(run, [artifact.digest for artifact in found])
        else:
            Chunk.objects.create(run=run, kind=Chunk.Kind.PLAN, index=0, phase=PLAN_PHASE)
    return run


def finish_at_once(run: Run, digests: list[str]) -> None:
    now = timezone.now()
    run.state = Run.State.DONE
    run.artifacts = digests
    run.started_at = run.finished_at = now
    run.note = "Nothing was computed: an earlier run with this very config had made these artefacts."
    run.save()
    record_artifacts(run)


@transaction.atomic
def cancel_run(*, run: Run) -> Run:
    """Ask a run to stop: at once where nobody works on it, else when the worker next looks (within seconds)."""
    locked = Run.objects.select_for_update().get(pk=run.pk)
    if locked.is_over:
        raise RunError(
            _("Run %(pk)s is already %(state)s; there is nothing to cancel.")
            % {"pk": locked.pk, "state": locked.get_state_display()}
        )
    locked.cancel_requested_at = timezone.now()
    locked.save(update_fields=["cancel_requested_at"])
    settle_cancelled(locked)
    return locked


def settle_cancelled(run: Run) -> None:
    """A run that was asked to stop is cancelled once none of its chunks is in hand; the caller holds the run's row."""
    if run.cancel_requested_at is None or run.is_over:
        return
    if run.chunks.filter(state=Chunk.State.RUNNING).exists():
        return
    run.state = Run.State.CANCELLED
    run.finished_at = timezone.now()
    run.save(update_fields=["state", "finished_at"])
    RunLogLine.objects.create(run=run, text="Cancelled. What is done is kept: retry goes on from there.")


@transaction.atomic
def retry_run(*, run: Run) -> Run:
    """Take up a failed or cancelled run again: only its unfinished chunks are computed."""
    locked = Run.objects.select_for_update().get(pk=run.pk)
    if locked.state not in {Run.State.FAILED, Run.State.CANCELLED}:
        raise RunError(
            _("Run %(pk)s is %(state)s; only a failed or cancelled run can be retried.")
            % {"pk": locked.pk, "state": locked.get_state_display()}
        )
    locked.chunks.exclude(state=Chunk.State.DONE).update(
        state=Chunk.State.WAITING, lease_until=None, owner="", error="", last_attempt=F("attempt") + N_ATTEMPTS
    )
    locked.state = Run.State.QUEUED
    locked.cancel_requested_at = locked.finished_at = None
    locked.error = locked.traceback = ""
    locked.save()
    RunLogLine.objects.create(run=locked, text="Taken up again.")
    return locked


def clone_run(*, run: Run, user: User | None, changes: Mapping[str, Any], title: str = "") -> Run:
    """A new run with the config of another, some values changed."""
    return create_run(
        stage=run.stage,
        config={**run.config, **changes},
        user=user,
        title=title or run.title,
        cloned_from=run,
        queue=run.queue,
    )


def stage_config(run: Run) -> StageConfig:
    return config_from_dict(run.stage, run.config)


@dataclass(frozen=True)
class RunProgress:
    """How far a run is; ``seconds_left`` is None before the first report."""

    share: float
    seconds_left: float | None
    seconds_taken: float
    unit: str


def run_progress(run: Run) -> RunProgress:
    """Progress of one run from its own row, so that a list of runs costs one query."""
    end = run.finished_at or timezone.now()
    taken = (end - run.started_at).total_seconds() if run.started_at else 0.0
    share = 1.0 if run.state == Run.State.DONE else (run.n_units_done / run.n_units if run.n_units else 0.0)
    left = (run.n_units - run.n_units_done) / run.rate if run.rate and not run.is_over else None
    unit = STAGES[run.stage].unit if run.stage in STAGES else "units"
    return RunProgress(min(1.0, share), left, taken, unit)


def is_served(queue: str) -> bool:
    """Whether a worker of this queue was seen within the last minute, or has a chunk in hand now."""
    now = timezone.now()
    if Worker.objects.filter(queue=queue, seen_at__gte=now - WORKER_IS_GONE_AFTER).exists():
        return True
    return Chunk.objects.filter(run__queue=queue, state=Chunk.State.RUNNING, lease_until__gte=now).exists()
