"""The servers of the suite are real: other processes see what a test commits, and tests see what they write."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from django.db import connection

from annotation.models import User, Worker
from tests.servers import BrokerServer, TestDatabase, WorkerProcess, poll

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.mark.django_db(transaction=True)
def test_a_worker_in_another_process_writes_to_the_test_database(start_worker: Callable[..., WorkerProcess]) -> None:
    worker = start_worker("cpu")
    poll(lambda: Worker.objects.filter(queue="cpu").exists(), "the worker's row")
    worker.kill()
    assert not worker.service.is_alive


@pytest.mark.django_db(transaction=True)
def test_the_database_survives_a_restart(database_server: TestDatabase) -> None:
    User.objects.create_user("ada")
    database_server.restart()
    connection.close()
    assert User.objects.filter(username="ada").count() == 1


def test_a_flushed_broker_is_empty_and_a_killed_one_comes_back(broker: BrokerServer) -> None:
    import redis

    with redis.Redis(unix_socket_path=str(broker.socket_path)) as client:
        client.set("message", "1")
        broker.flush()
        assert client.get("message") is None
    broker.kill()
    broker.start()
    with redis.Redis(unix_socket_path=str(broker.socket_path)) as client:
        assert client.ping()


def test_chromium_runs_scripts(page: Page) -> None:
    page.goto("/")
    assert page.evaluate("6 * 7") == 42
