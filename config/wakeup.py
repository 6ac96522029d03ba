"""Wake the workers of a queue by task name, so that no app imports a task.

A message is only a wake-up: the rows are the truth, and a worker looks for work every few seconds by itself. So a
broker that is down costs a few seconds, never a run. Celery is imported when the first message is sent.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from django.conf import settings

WORK_ON = "vitrine.work_on"
LIFETIME_SECONDS = 60  # an old wake-up is of no use to anybody
PATIENCE = {"max_retries": 0, "socket_connect_timeout": 1, "socket_timeout": 2, "retry_on_timeout": False}

logger = logging.getLogger(__name__)


@functools.cache
def sender() -> Any:
    from celery import Celery

    app = Celery("vitrine", broker=settings.BROKER_URL, set_as_current=False)
    app.conf.update(broker_transport_options=PATIENCE, broker_connection_timeout=1, task_ignore_result=True)
    return app


def wake_workers(queue: str) -> bool:
    """Tell the workers of a queue to look for work; returns whether the broker took the message."""
    from kombu.exceptions import OperationalError

    try:
        sender().send_task(
            WORK_ON, kwargs={"queue": queue}, queue=queue, expires=LIFETIME_SECONDS, retry=False, ignore_result=True
        )
    except (OperationalError, OSError) as error:
        logger.warning("The broker at %s did not take a wake-up for %s: %s", settings.BROKER_URL, queue, error)
        return False
    return True
