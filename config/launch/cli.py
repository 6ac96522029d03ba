"""The arguments of ./run, and what each command does."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from config.launch import site
from config.launch.bench import BENCHMARKS, run_benchmark
from config.launch.install import DEVELOPMENT, ensure_installed
from config.launch.processes import LaunchError, StopRequested, bound, say, start_service, stop_signals
from config.launch.system import ensure_test_programs
from config.launch.workers import QUEUES, worker_command

ROOT = Path(__file__).resolve().parent.parent.parent
LINTERS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy", "."],
    "import contracts": ["lint-imports", "--no-cache"],
    "architecture": ["pytest", "-q", "-p", "no:cacheprovider", "tests/test_architecture.py", "tests/test_docs.py"],
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="./run", description="Vitrine's commands; ./run COMMAND --help says more.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="install, build and serve the demo on this machine")
    demo.add_argument("--port", type=port_number, default=8000)
    demo.add_argument("--host", default="127.0.0.1")
    demo.add_argument("--folder", type=absolute_path, help="where its data goes (default: var/demo)")
    demo.add_argument(
        "--check", action="store_true", help="build it aside on a free port, walk through it, exit 0 or 1"
    )

    for name, text in (
        ("test", "run the tests (arguments go to pytest)"),
        ("lint", "check style, types and contracts"),
    ):
        commands.add_parser(name, help=text)

    serve = commands.add_parser("serve", help="serve the site that the environment describes")
    serve.add_argument("--port", type=port_number, default=8000)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--processes", type=int, default=1)
    serve.add_argument("--threads", type=int, default=4, help="threads per process")
    serve.add_argument("--workers", action="store_true", help="also a broker, unless named, and a worker per queue")

    worker = commands.add_parser("worker", help="run one worker")
    worker.add_argument("queue", choices=list(QUEUES))

    bench = commands.add_parser("bench", help="measure (arguments go to the benchmark)")
    bench.add_argument("name", choices=sorted(BENCHMARKS))

    commands.add_parser("doctor", help="check this machine and say the cure for what is wrong")
    return top


def absolute_path(text: str) -> Path:
    """As the caller means it, who may stand in another folder than the clone's."""
    return Path(text).expanduser().resolve()


def port_number(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port; it must be a number from 1 to 65535")
    return int(text)


def main(arguments: Sequence[str]) -> int:
    chosen, rest = parser().parse_known_args(arguments)
    if rest and chosen.command not in {"test", "bench", "doctor"}:
        parser().error(f"unknown argument {rest[0]}")
    os.chdir(ROOT)
    try:
        with stop_signals():
            return dispatch(chosen, rest)
    except LaunchError as error:
        say(f"\n{error}")
        return 1
    except StopRequested as stop:
        say(f"\nStopped ({stop}).")
        return 130


def dispatch(chosen: argparse.Namespace, rest: list[str]) -> int:
    match chosen.command:
        case "demo" if chosen.check:
            return site.check_demo(ROOT, chosen.folder)
        case "demo":
            return site.demo(ROOT, chosen.folder or ROOT / "var" / "demo", chosen.port, host=chosen.host)
        case "serve":
            return site.serve(
                ROOT,
                chosen.port,
                host=chosen.host,
                n_workers=chosen.processes,
                n_threads=chosen.threads,
                with_workers=chosen.workers,
            )
        case "test":
            return test(rest)
        case "lint":
            return lint()
        case "worker":
            return worker(chosen.queue)
        case "bench":
            return run_benchmark(ROOT, ensure_installed(ROOT), chosen.name, rest)
        case _:
            return foreground([str(ensure_installed(ROOT)), "-m", "config.doctor", *rest])


def test(arguments: list[str]) -> int:
    python = ensure_installed(ROOT, DEVELOPMENT)
    ensure_test_programs()
    for name in list(os.environ):  # the site of this shell is not the tests'
        if name == "DJANGO_SETTINGS_MODULE" or (name.startswith("VITRINE_") and name != "VITRINE_TEST_DATABASE"):
            del os.environ[name]
    command = [str(python), "-m", "pytest", *arguments]
    if set(arguments) <= {"-q", "-v", "-x"} and (os.cpu_count() or 1) > 1:
        return in_two_parts(command)
    return foreground(command, patience=20)


def in_two_parts(command: list[str]) -> int:
    """The whole suite as two processes with servers of their own: the first shown as it goes, then the second."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "second.log"
        second = start_service("tests", bound([*command, "--part", "2/2"]), env=env, cwd=ROOT, log_path=log)
        try:
            failed = foreground([*command, "--part", "1/2"], patience=20)
            failed = second.process.wait() or failed
        finally:
            second.stop(grace=20)
            say(log.read_text(errors="replace"))
    return failed


def lint() -> int:
    python = ensure_installed(ROOT, DEVELOPMENT)
    os.environ["VITRINE_TEST_DATABASE"] = "sqlite"  # the architecture test needs no server, nor should lint
    failed = []
    for name, command in LINTERS.items():
        say(f"== {name}")
        if foreground([str(python.parent / command[0]), *command[1:]]) != 0:
            failed.append(name)
    say(f"Lint failed: {', '.join(failed)}." if failed else "Lint is clean.")
    return 1 if failed else 0


def worker(queue: str) -> int:
    return foreground(worker_command(ensure_installed(ROOT), queue), patience=60)


def foreground(command: list[str], *, patience: float = 5.0) -> int:
    """Run a command on our terminal; when we are told to stop it is too, and given time to clean up."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    job = start_service(Path(command[0]).name, bound(command), env=env, cwd=ROOT)
    try:
        return job.process.wait()
    finally:
        job.stop(grace=patience)
