"""./run bench NAME: which command measures what, and the servers it needs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from config.launch.broker import broker_url, find_server, is_answering, server_command
from config.launch.postgresql import Cluster
from config.launch.processes import LaunchError, Services, say
from config.launch.system import install_packages

BENCHMARKS = {
    "queue": "claims and answers under load",
    "annotation": "queue and annotation page, on PostgreSQL and on SQLite",
    "dictionaries": "steps of training",
    "exemplars": "collecting against its parts",
    "analysis": "report and export",
    "circuits": "attribution graphs",
    "attribution": "attribution maps",
}
DATABASES = ["--postgresql", "--sqlite"]
ON_SERVERS = {"queue", "annotation", "analysis"}


def run_benchmark(root: Path, python: Path, name: str, arguments: list[str]) -> int:
    command = [str(python), *command_of(root, name)]
    with tempfile.TemporaryDirectory(prefix="vitrine-bench-", dir="/tmp" if os.path.isdir("/tmp") else None) as folder:
        rest = [*command, *(argument for argument in arguments if argument not in DATABASES)]
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if name not in ON_SERVERS or os.environ.get("VITRINE_DATABASE_URL"):
            with Services(Path(folder) / "logs", env, root) as services:
                return services.run("bench", rest)
        databases = [one for one in DATABASES if one in arguments] or DATABASES[: 2 if name == "annotation" else 1]
        codes = []
        for one in databases:
            place = Path(folder) / one[2:]
            with Services(place / "logs", dict(env), root) as services:
                codes.append(run_on_servers(services, place, python, rest, on_sqlite=one == "--sqlite"))
        return max(codes)


def command_of(root: Path, name: str) -> list[str]:
    """A module of the core where there is one, else a management command."""
    if (root / "workers" / "benchmarks" / f"{name}.py").exists():
        return ["-m", f"workers.benchmarks.{name}"]
    if any(
        (root / app / "management" / "commands" / f"bench_{name}.py").exists() for app in ("annotation", "analysis")
    ):
        return ["manage.py", f"bench_{name}"]
    raise LaunchError(f"The benchmark '{name}' ({BENCHMARKS[name]}) is not built yet.")


def run_on_servers(services: Services, folder: Path, python: Path, command: list[str], *, on_sqlite: bool) -> int:
    """A throw-away PostgreSQL (or a SQLite file) and a private broker, migrated and empty."""
    socket_path = folder / "valkey.sock"
    (folder / "static").mkdir(parents=True)
    services.env |= {
        "VITRINE_DATA_ROOT": str(folder),
        "VITRINE_BROKER_URL": broker_url(socket_path),
        "VITRINE_STATIC_STORAGE": "plain",
    }
    services.start("broker", server_command(find_server(python.parent.parent), socket_path))
    services.wait_for(lambda: is_answering(socket_path), "The broker", seconds=60)
    cluster = None if on_sqlite else make_cluster()
    try:
        if cluster is not None:
            cluster.start()
            cluster.create_database("vitrine")
        services.env["VITRINE_DATABASE_URL"] = (
            cluster.url("vitrine") if cluster else f"sqlite:///{folder / 'bench.sqlite3'}"
        )
        if services.run("migrate", [str(python), "manage.py", "migrate", "--noinput"], log=True) != 0:
            raise LaunchError((services.logs_path / "migrate.log").read_text(errors="replace"))
        say(f"Measuring on {'SQLite' if on_sqlite else 'PostgreSQL'}.")
        return services.run("bench", command)
    finally:
        if cluster is not None:
            cluster.remove()


def make_cluster() -> Cluster:
    """As durable as a server that keeps its data: a commit is on the disk before it is answered."""
    try:
        return Cluster(is_durable=True)
    except LaunchError:
        install_packages(["postgresql"], "This benchmark needs PostgreSQL")
        return Cluster(is_durable=True)
