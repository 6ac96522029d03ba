"""The Celery application: three queues, early acknowledgement, and a clock in each worker instead of a scheduler.

Start one process per queue (per GPU for the queue gpu), as ``./run worker QUEUE`` does:
``celery -A workers.celery worker -Q gpu -c 1 -P prefork --without-mingle --without-gossip``.
The parent process never imports torch: after a torch operation in the parent, a forked child hangs.
"""

from __future__ import annotations

import os
import threading
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django
from billiard import active_children
from celery import Celery
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings

from config.wakeup import WORK_ON, wake_workers

django.setup()

stopping = threading.Event()

app = Celery("vitrine", broker=settings.BROKER_URL)
app.conf.update(
    include=["workers.tasks"],
    task_default_queue="cpu",
    task_ignore_result=True,
    task_acks_late=False,
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"socket_keepalive": True, "health_check_interval": 10},
)


@worker_ready.connect  # type: ignore[untyped-decorator]
def start_clock(sender: Any, **_: Any) -> None:
    """Look for work every few seconds, whatever became of the messages."""
    queues = list(sender.app.amqp.queues.consume_from)
    threading.Thread(target=tick, args=(queues,), name="clock", daemon=True).start()


def tick(queues: list[str]) -> None:
    """Send a wake-up per queue while the child is idle; a busy child looks for itself after each chunk."""
    from celery.worker import state

    while not stopping.wait(settings.POLL_SECONDS):
        if not any(request.name == WORK_ON for request in state.active_requests):
            for queue in queues:
                wake_workers(queue)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def stop_work(**_: Any) -> None:
    """Whoever stops a worker wants it to stop now: its child gives the chunk in hand back, for another to take up."""
    stopping.set()
    for child in active_children():
        child.terminate()
