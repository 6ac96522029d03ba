"""Start a run as a page would, and wait for it with a line of progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from annotation.domain.runs import create_run
from annotation.models import Run, User
from config.wakeup import wake_workers

POLL_SECONDS = 0.5
Say = Callable[[str], None]


class DemoError(Exception):
    """The demo could not be built; the message says which run failed and why."""


def start_run(stage: str, config: Mapping[str, Any], *, title: str, user: User) -> Run:
    run = create_run(stage=stage, config=dict(config), user=user, title=title)
    wake_workers(run.queue)
    return run


def wait_for(run: Run, say: Say) -> Run:
    """Poll the run until it is over; raises DemoError with the run's own sentence if it failed."""
    last_percent = -10
    while True:
        run.refresh_from_db()
        if run.is_over:
            break
        percent = int(100 * run.n_units_done / run.n_units) if run.n_units else 0
        if percent >= last_percent + 10:
            say(f"  {run.title or run.stage}: {percent} %")
            last_percent = percent
        time.sleep(POLL_SECONDS)
    if run.state != Run.State.DONE:
        raise DemoError(f"The run '{run.title or run.stage}' is {run.state}: {run.error or 'see the worker log'}")
    say(f"  {run.title or run.stage}: done")
    return run
