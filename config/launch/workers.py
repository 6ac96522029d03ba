"""The command line of a worker, one per queue. Each has a clock of its own, so no scheduler is needed."""

from __future__ import annotations

from pathlib import Path

QUEUES = {
    "gpu": "training and collecting, one process per GPU",
    "cpu": "imports, stimuli, exports, sweeping",
    "interactive": "what somebody waits for in the browser",
}


def worker_command(python: Path, queue: str) -> list[str]:
    """Prefork with one child: the only pool that answers pings and can be cancelled during a task."""
    celery = [str(python), "-m", "celery", "--app", "workers.celery"]
    options = [f"--queues={queue}", f"--hostname={queue}@%h", "--pool=prefork", "--concurrency=1"]
    return [*celery, "worker", *options, "--loglevel=info", "--without-gossip", "--without-mingle"]
