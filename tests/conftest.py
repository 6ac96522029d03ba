"""Real servers for the whole suite: a throw-away PostgreSQL, a private Valkey, Celery workers, Chromium.

`VITRINE_TEST_DATABASE=sqlite` runs on a SQLite file instead. Addresses are fixed before Django reads its settings;
the servers behind them start when the first test needs them, and end with the session, however it ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from config.launch.processes import LaunchError  # noqa: E402
from tests.servers import BrokerServer, TestDatabase, WorkerProcess, find_test_chromium  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page
    from pytest_django.live_server_helper import LiveServer

DATABASE = pytest.StashKey[TestDatabase]()
BROKER = pytest.StashKey[BrokerServer]()
FOLDER = pytest.StashKey[Path]()
SECONDS_BY_FOLDER = {"browser": 3.0, "workers": 0.5}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-rounds", type=int, default=4, help="accidents in tests/workers/test_faults.py")
    parser.addoption("--part", default="1/1", help="2/3 runs the second third of the files, for as many processes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the files out to the parts, the heaviest first, each to the part with the least to do so far."""
    part, n_parts = (int(number) for number in config.getoption("--part").split("/"))
    weights: dict[Path, float] = {}
    for item in items:
        weights[item.path] = weights.get(item.path, 0.0) + seconds_per_test(item.path)
    loads = [0.0] * n_parts
    chosen: set[Path] = set()
    for path in sorted(weights, key=lambda path: (-weights[path], str(path))):
        lightest = loads.index(min(loads))
        loads[lightest] += weights[path]
        if lightest == part - 1:
            chosen.add(path)
    config.hook.pytest_deselected(items=[item for item in items if item.path not in chosen])
    items[:] = [item for item in items if item.path in chosen]


def seconds_per_test(path: Path) -> float:
    """Roughly, by what a test in this folder starts."""
    return next((seconds for name, seconds in SECONDS_BY_FOLDER.items() if name in path.parts), 0.3)


def pytest_configure(config: pytest.Config) -> None:
    """Before Django's settings are read: every address the suite uses, in the environment, for children too."""
    folder = Path(tempfile.mkdtemp(prefix="vitrine-test-", dir="/tmp" if os.path.isdir("/tmp") else None))
    (folder / "static").mkdir()
    config.stash[FOLDER] = folder
    try:
        config.stash[DATABASE] = database = TestDatabase.chosen(os.environ.get("VITRINE_TEST_DATABASE", ""), folder)
    except LaunchError as error:
        raise pytest.UsageError(f"{error} Or set VITRINE_TEST_DATABASE=sqlite.") from error
    config.stash[BROKER] = broker = BrokerServer(folder)
    for name in [name for name in os.environ if name.startswith("VITRINE_") and name != "VITRINE_TEST_DATABASE"]:
        del os.environ[name]
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DJANGO_ALLOW_ASYNC_UNSAFE": "true",  # playwright's sync API keeps an event loop in this thread
        "VITRINE_DATA_ROOT": str(folder),
        "VITRINE_DATABASE_URL": database.url_before_creation,
        "VITRINE_BROKER_URL": broker.url,
        "VITRINE_STATIC_STORAGE": "plain",
        "VITRINE_TORCH_THREADS": "1",
    }
    from django.conf import settings

    assert settings.DATABASES["default"], "tests/conftest.py must run before Django's settings are read"
    signal.signal(signal.SIGTERM, interrupt)


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # a terminated test run cleans up as an interrupted one does


def pytest_unconfigure(config: pytest.Config) -> None:
    if DATABASE in config.stash:
        config.stash[DATABASE].remove()
        config.stash[BROKER].stop()
        shutil.rmtree(config.stash[FOLDER], ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(pytestconfig: pytest.Config) -> None:
    """pytest-django's hook before it creates the test database: start the servers a database test needs."""
    from django.db import connections

    database = pytestconfig.stash[DATABASE]
    database.start()
    connections.settings["default"]["TEST"]["NAME"] = database.name
    os.environ["VITRINE_DATABASE_URL"] = database.url  # processes that tests start see the test database
    pytestconfig.stash[BROKER].start()


@pytest.fixture(scope="session")
def database_server(django_db_setup: None, pytestconfig: pytest.Config) -> TestDatabase:
    """The server behind the test database: `.restart()`, `.is_postgresql`, `.url`."""
    return pytestconfig.stash[DATABASE]


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config) -> BrokerServer:
    """The running broker: `.url`, `.flush()`, `.restart()`."""
    server = pytestconfig.stash[BROKER]
    server.start()
    return server


@pytest.fixture
def artifact_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ARTIFACT_ROOT for one test, also for the processes it starts."""
    from django.conf import settings

    root = tmp_path / "artifacts"
    root.mkdir()
    monkeypatch.setattr(settings, "ARTIFACT_ROOT", root)
    monkeypatch.setenv("VITRINE_ARTIFACT_ROOT", str(root))
    return root


@pytest.fixture
def start_worker(
    transactional_db: None, broker: BrokerServer, artifact_root: Path, tmp_path: Path
) -> Iterator[Callable[..., WorkerProcess]]:
    """`start_worker("gpu")` starts a real Celery worker in another process and returns it once it takes messages.

    Write to the database before or after: the test's rows are committed, and the worker sees them. `.kill()` is
    kill -9 of the worker and its children.
    """
    started: list[WorkerProcess] = []

    def start(queue: str, **environment: str) -> WorkerProcess:
        worker = WorkerProcess(queue, tmp_path / f"worker-{len(started)}-{queue}.log", environment)
        started.append(worker)
        worker.wait_until_ready()
        return worker

    yield start
    for worker in started:
        worker.stop()
    broker.flush()


@pytest.fixture
def workers(start_worker: Callable[..., WorkerProcess]) -> dict[str, WorkerProcess]:
    """One real worker per queue."""
    return {queue: start_worker(queue) for queue in ("gpu", "cpu", "interactive")}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A real Chromium, headless."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_test_chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browser_context(chromium: Browser, live_server: LiveServer) -> Iterator[BrowserContext]:
    """A fresh browser profile whose relative addresses lead to the live server."""
    context = chromium.new_context(base_url=live_server.url)
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def page(browser_context: BrowserContext) -> Page:
    return browser_context.new_page()
