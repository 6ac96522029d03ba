"""The working folders of runs that failed or were cancelled: kept so that retry goes on, until they are pruned.

A pruned run can be retried as before, only that it begins anew. Folders of runs that this database does not know are
never removed: two databases may share one root.
"""

from __future__ import annotations

import secrets
import shutil
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from django.db import transaction

from annotation.domain.runs import run_folder
from annotation.models import PLAN_PHASE, Chunk, Run, RunLogLine

STOPPED = (Run.State.FAILED, Run.State.CANCELLED)


class Leftover(NamedTuple):
    """A stopped run and the bytes of its folder."""

    run: Run
    n_bytes: int


def leftovers(*, before: datetime) -> list[Leftover]:
    """Runs that stopped before then and still have a folder, the oldest first."""
    stopped = Run.objects.filter(state__in=STOPPED, finished_at__lt=before).order_by("pk")
    return [Leftover(run, folder_bytes(run_folder(run))) for run in stopped if run_folder(run).is_dir()]


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def unknown_folders() -> list[Path]:
    """Folders of runs that are not in this database."""
    found = sorted((Path(settings.ARTIFACT_ROOT) / "runs").glob("*-*"))
    known = {run.folder_name for run in Run.objects.only("pk", "token")}
    return [path for path in found if path.name not in known]


def prune_run(*, run: Run) -> bool:
    """Remove a stopped run's folder and make it begin anew if it is retried; False if it has been taken up again."""
    folder = run_folder(run)
    aside = folder.with_name(f"pruned-{secrets.token_hex(4)}")
    with transaction.atomic():
        locked = Run.objects.select_for_update().get(pk=run.pk)
        if locked.state not in STOPPED:
            return False
        locked.chunks.all().delete()
        Chunk.objects.create(run=locked, kind=Chunk.Kind.PLAN, index=0, phase=PLAN_PHASE)
        locked.phase, locked.n_units, locked.n_units_done = PLAN_PHASE, 0, 0
        locked.busy_seconds, locked.rate = 0.0, None
        locked.save()
        RunLogLine.objects.create(run=locked, text="Its unfinished work was removed: retry begins anew.")
        if folder.is_dir():
            folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
    return True
