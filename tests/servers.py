"""The servers that tests talk to, as objects with start, stop and the accidents that tests make happen."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from config.launch.broker import broker_url, find_server, is_answering, server_command
from config.launch.chromium import find_chromium
from config.launch.postgresql import Cluster
from config.launch.processes import Service, bound, start_service, tail
from config.launch.workers import worker_command

ROOT = Path(__file__).resolve().parent.parent


def poll(condition: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
    """Wait for a condition with a deadline; tests never sleep blindly."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.02)


class TestDatabase:
    """PostgreSQL on a throw-away cluster, or a SQLite file."""

    __test__ = False

    def __init__(self, folder: Path, cluster: Cluster | None) -> None:
        self.cluster = cluster
        self.folder = folder
        self.name = "test_vitrine" if cluster else str(folder / "test.sqlite3")
        self.is_started = False

    @classmethod
    def chosen(cls, choice: str, folder: Path) -> TestDatabase:
        assert choice in {"", "postgresql", "sqlite"}, "VITRINE_TEST_DATABASE can be postgresql or sqlite"
        return cls(folder, None if choice == "sqlite" else Cluster())

    @property
    def is_postgresql(self) -> bool:
        return self.cluster is not None

    @property
    def url_before_creation(self) -> str:
        return self.cluster.url("postgres") if self.cluster else f"sqlite:///{self.folder / 'unused.sqlite3'}"

    @property
    def url(self) -> str:
        return self.cluster.url(self.name) if self.cluster else f"sqlite:///{self.name}"

    def start(self) -> None:
        if self.cluster and not self.is_started:
            self.cluster.start()
        self.is_started = True

    def restart(self) -> None:
        """Disconnects everybody; nothing to do for a file."""
        if self.cluster:
            self.cluster.restart()

    def remove(self) -> None:
        if self.cluster:
            self.cluster.remove()


class BrokerServer:
    """A private Valkey on a unix socket."""

    def __init__(self, folder: Path) -> None:
        self.socket_path = folder / "valkey.sock"
        self.log_path = folder / "valkey.log"
        self.service: Service | None = None

    @property
    def url(self) -> str:
        return broker_url(self.socket_path)

    def start(self) -> None:
        if self.service is not None and self.service.is_alive:
            return
        command = bound(server_command(find_server(), self.socket_path))
        self.service = start_service("broker", command, env=os.environ, log_path=self.log_path)
        poll(lambda: is_answering(self.socket_path), f"the start of the broker\n{tail(self.log_path)}")

    def stop(self) -> None:
        if self.service is not None:
            self.service.stop()

    def kill(self) -> None:
        assert self.service is not None
        self.service.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def flush(self) -> None:
        """Every message is gone, as after a restart without persistence."""
        import redis

        with contextlib.closing(redis.Redis(unix_socket_path=str(self.socket_path))) as client:
            client.flushall()


class WorkerProcess:
    """A Celery worker in a process of its own."""

    def __init__(self, queue: str, log_path: Path, environment: Mapping[str, str]) -> None:
        self.queue = queue
        self.log_path = log_path
        command = bound(worker_command(Path(sys.executable), queue))
        env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.service = start_service(queue, command, env=env, log_path=log_path, cwd=ROOT)

    def is_ready(self) -> bool:
        assert self.service.is_alive, f"the {self.queue} worker ended:\n{tail(self.log_path)}"
        return " ready." in self.log

    def wait_until_ready(self) -> None:
        poll(self.is_ready, f"the start of the {self.queue} worker", seconds=180)

    def kill(self) -> None:
        """kill -9 of the worker and its children."""
        self.service.kill()

    def stop(self) -> None:
        self.service.stop()

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")


def find_test_chromium() -> str:
    path = find_chromium()
    assert path is not None, "Chromium is not installed: install the package chromium, or run ./run test"
    return str(path)
