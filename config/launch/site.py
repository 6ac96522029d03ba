"""The site as a set of processes: broker, web server, one worker per queue."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from config.launch.broker import broker_url, find_server, is_answering, server_command, socket_path_in
from config.launch.install import ensure_installed, venv_python
from config.launch.processes import LaunchError, Services, StopRequested, say
from config.launch.workers import QUEUES, worker_command

PLACES = ("VITRINE_DATABASE_URL", "VITRINE_BROKER_URL", "VITRINE_ARTIFACT_ROOT", "VITRINE_EXPORT_ROOT")
WEB_SECONDS = 180.0


@dataclass(frozen=True)
class Site:
    root: Path
    folder: Path
    host: str
    port: int
    env: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def python(self) -> Path:
        return venv_python(self.root)

    def manage(self, *arguments: str) -> list[str]:
        return [str(self.python), "manage.py", *arguments]


def demo(root: Path, folder: Path, port: int, *, host: str) -> int:
    """Install, start, build and serve the demo until told to stop."""
    started = time.monotonic()
    check_port(host, port)
    ensure_installed(root)
    with owned(folder), site_services(embedded_site(root, folder, host, port)) as (site, services):
        start_broker(site, services)
        start_web(site, services, n_threads=4)
        say(f"Vitrine answers at {site.url} after {time.monotonic() - started:.0f} s. The demo is being prepared.")
        start_workers(site, services)
        if services.run("build", site.manage("build_demo")) != 0:
            raise LaunchError(f"Building the demo failed (see above). The logs are in {services.logs_path}.")
        say(f"Ready: {site.url}   (Ctrl-C ends it; data and logs are in {folder})")
        return serve_until_stopped(services)


def check_demo(root: Path, folder: Path | None) -> int:
    """The same on a free port, then a walk through the site; 0 where everything was as it should be."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="vitrine-demo-", ignore_cleanup_errors=True) as temporary:
            return check_demo(root, Path(temporary))
    ensure_installed(root)
    with owned(folder), site_services(embedded_site(root, folder, "127.0.0.1", free_port())) as (site, services):
        started = time.monotonic()
        start_broker(site, services)
        start_web(site, services, n_threads=4)
        say(f"First page after {time.monotonic() - started:.0f} s at {site.url}")
        start_workers(site, services)
        if services.run("build", site.manage("build_demo")) != 0:
            raise LaunchError("Building the demo failed (see above).")
        say(f"Built after {time.monotonic() - started:.0f} s.")
        status = services.run("check", site.manage("check_demo", site.url))
        if status != 0:
            say("The demo is NOT as it should be (see above).")
        return 0 if status == 0 else 1


def serve(root: Path, port: int, *, host: str, n_workers: int, n_threads: int, with_workers: bool) -> int:
    """The web server on whatever database the environment names; with_workers adds what one machine needs."""
    check_port(host, port)
    ensure_installed(root)
    folder = data_root(root)
    site = Site(root, folder, host, port, with_secret_key(folder, dict(os.environ)))
    with contextlib.ExitStack() as stack:
        if with_workers:
            stack.enter_context(owned(folder))
        site, services = stack.enter_context(site_services(site))
        if with_workers and not site.env.get("VITRINE_BROKER_URL"):
            site.env["VITRINE_BROKER_URL"] = services.env["VITRINE_BROKER_URL"] = broker_url(socket_path_in(folder))
            start_broker(site, services)
        start_web(site, services, n_threads=n_threads, n_workers=n_workers)
        if with_workers:
            start_workers(site, services)
        say(f"Vitrine answers at {site.url}   (Ctrl-C ends it; logs are in {services.logs_path})")
        return serve_until_stopped(services)


def data_root(root: Path) -> Path:
    return Path(os.environ.get("VITRINE_DATA_ROOT") or root / "var").resolve()


def embedded_site(root: Path, folder: Path, host: str, port: int) -> Site:
    """SQLite, a private broker and a folder of its own: nothing of the environment's places is touched."""
    folder = folder.resolve()
    env = {name: value for name, value in os.environ.items() if name not in PLACES}
    env |= {"VITRINE_DATA_ROOT": str(folder), "VITRINE_BROKER_URL": broker_url(socket_path_in(folder))}
    env.setdefault("VITRINE_CHUNK_LEASE_SECONDS", "30")  # a start after Ctrl-C waits this long for the chunk in hand
    return Site(root, folder, host, port, with_secret_key(folder, env))


def with_secret_key(folder: Path, env: dict[str, str]) -> dict[str, str]:
    """The environment's key, else one made once and kept beside the data, readable by its owner only."""
    if env.get("VITRINE_SECRET_KEY"):
        return env
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "secret-key"
    if not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
    return env | {"VITRINE_SECRET_KEY": path.read_text()}


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """One ./run per folder: two would fight over its broker and database."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise LaunchError(f"{folder} is already in use by ./run (process {lock.read()}); stop that one first, "
                              "or choose another with --folder.") from None  # fmt: skip
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextlib.contextmanager
def site_services(site: Site) -> Iterator[tuple[Site, Services]]:
    env = site.env | {
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    with Services(site.folder / "logs", env, site.root) as services:
        yield site, services
        say("Stopping.")


def start_broker(site: Site, services: Services) -> None:
    socket_path = Path(services.env["VITRINE_BROKER_URL"].removeprefix("redis+socket://"))
    services.start("broker", server_command(find_server(site.root / ".venv"), socket_path))
    services.wait_for(lambda: is_answering(socket_path), "The broker", seconds=60)


def start_web(site: Site, services: Services, *, n_threads: int, n_workers: int = 1) -> None:
    for name, options in (("migrate", ["--noinput"]), ("collectstatic", ["--noinput", "--verbosity=0"])):
        if services.run(name, site.manage(name, *options), log=True) != 0:
            log = (services.logs_path / f"{name}.log").read_text(errors="replace")
            raise LaunchError(f"manage.py {name} failed:\n{log}")
    granian = [str(site.python), "-m", "granian", "--interface", "wsgi", "--host", site.host, "--port", str(site.port)]
    granian += ["--workers", str(n_workers), "--blocking-threads", str(n_threads), "--workers-kill-timeout", "3"]
    services.start("web", [*granian, "config.wsgi:application"])
    services.wait_for(lambda: is_serving(site.url), "The web server", seconds=WEB_SECONDS)


def start_workers(site: Site, services: Services) -> None:
    for queue in QUEUES:
        services.start(f"worker-{queue}", worker_command(site.python, queue))


def serve_until_stopped(services: Services) -> int:
    try:
        while True:
            services.check()
            time.sleep(0.3)
    except StopRequested:
        return 0


def is_serving(url: str) -> bool:
    """Whether the front page answers; a server error is an answer that ends the wait with its own sentence."""
    try:
        with urllib.request.urlopen(url, timeout=30):
            return True
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise LaunchError(f"{url} answers {error.code}; see web.log in the log folder.") from error
        return True
    except OSError:
        return False


def check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LaunchError(f"Port {port} of {host} cannot be used ({error.strerror}): stop what uses it, "
                              f"or choose another, as in --port {port + 1}.") from error  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
