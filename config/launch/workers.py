"""The command line of a worker: one per queue, and the scheduler that wakes the sweeper."""

from __future__ import annotations

from pathlib import Path

QUEUES = {
    "gpu": "training and collecting, one process per GPU",
    "cpu": "imports, stimuli, exports, sweeping",
    "interactive": "what somebody waits for in the browser",
}
SCHEDULER = "beat"


def worker_command(python: Path, queue: str, folder: Path) -> list[str]:
    """Prefork with one child: the only pool that answers pings and can be cancelled during a task."""
    celery = [str(python), "-m", "celery", "--app", "workers.celery"]
    if queue == SCHEDULER:
        return [*celery, "beat", "--schedule", str(folder / "beat-schedule"), "--pidfile=", "--loglevel=info"]
    options = [f"--queues={queue}", f"--hostname={queue}@%h", "--pool=prefork", "--concurrency=1"]
    return [*celery, "worker", *options, "--loglevel=info", "--without-gossip", "--without-mingle"]
