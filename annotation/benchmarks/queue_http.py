"""Answers per second over HTTP: granian, database and load generator on this machine, then the count of rows."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Count
from django.test import Client

from annotation.models import Annotation, Slot, Study, User
from config.launch.processes import bound, start_service, tail

START_SECONDS = 60.0


class HttpResult(NamedTuple):
    """What 60 s of closed loop gave, and what the database says of it."""

    answers_per_second: float
    next_ms: list[float]
    submit_ms: list[float]
    n_accepted: int
    n_over_assigned: int
    n_repeats: int
    n_lost: int
    n_server_errors: int
    statuses: dict[str, int]


def measure_http(study: Study, users: list[User], *, seconds: float, n_workers: int, n_threads: int) -> HttpResult:
    sessions = [session_of(user) for user in users]
    with web_server(n_workers, n_threads) as url:
        order = {"url": url, "slug": study.slug, "seconds": seconds, "sessions": sessions}
        run_load(order | {"seconds": min(3.0, seconds)})  # connections, caches and code are warm after this
        load = run_load(order)
    return HttpResult(
        answers_per_second=len(load["uuids"]) / load["seconds"],
        next_ms=load["next_ms"],
        submit_ms=load["submit_ms"],
        n_accepted=len(load["uuids"]),
        n_over_assigned=over_assigned(study),
        n_repeats=repeats(study),
        n_lost=lost(load["uuids"]),
        n_server_errors=sum(n for status, n in load["statuses"].items() if int(status) >= 500),
        statuses=load["statuses"],
    )


def session_of(user: User) -> str:
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


@contextlib.contextmanager
def web_server(n_workers: int, n_threads: int) -> Iterator[str]:
    """granian as ./run serve starts it, on a free port of the loopback interface."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port),
        "--workers", str(n_workers), "--blocking-threads", str(n_threads), "config.wsgi:application",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "web.log"
        service = start_service("web", bound(command), env=os.environ, log_path=log_path, cwd=settings.BASE_DIR)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url, log_path)
            yield url
        finally:
            service.stop()


def wait_for(url: str, log_path: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url + "/login/"):
            return
        time.sleep(0.1)
    raise TimeoutError(f"The web server did not answer within {START_SECONDS:.0f} s:\n{tail(log_path)}")


def run_load(order: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "annotation.benchmarks.queue_load"],
        input=json.dumps(order), text=True, capture_output=True, cwd=settings.BASE_DIR, check=False,
        timeout=order["seconds"] + 120,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"The load generator failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def over_assigned(study: Study) -> int:
    """Items with more counted answers than slots were wanted."""
    counted = Annotation.objects.filter(study=study, is_current=True, is_late_extra=False)
    n_answers = dict(counted.values_list("item_id").annotate(n=Count("id")))
    wanted = Slot.objects.filter(study=study, item__in=list(n_answers)[:50_000]).exclude(state=Slot.State.SEEN)
    n_wanted = dict(wanted.values_list("item_id").annotate(n=Count("id")))
    return sum(n_answers[item] > n for item, n in n_wanted.items())


def repeats(study: Study) -> int:
    """Pairs of an item and a person with more than one answer."""
    pairs = Annotation.objects.filter(study=study, revision_of=None).values("item_id", "annotator_id")
    return pairs.annotate(n=Count("id")).filter(n__gt=1).count()


def lost(uuids: list[str]) -> int:
    """Answers the server acknowledged and does not have."""
    stored = sum(
        Annotation.objects.filter(uuid__in=uuids[start : start + 900]).count() for start in range(0, len(uuids), 900)
    )
    return len(uuids) - stored
