"""Child processes that never outlive us.

Every service is the leader of its own process group, so that stopping it also stops what it started, and is bound to
us by the kernel's parent-death signal where `setpriv` is at hand, so that it stops even when we are killed outright.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

GRACE_SECONDS = 4.0  # work in hand is safe: its rows say it was not finished
TAIL_LINES = 25


class LaunchError(Exception):
    """What went wrong and what to do, in a sentence fit for the terminal."""


class StopRequested(BaseException):
    """Ctrl-C, SIGTERM, or a closed terminal."""


def say(text: str = "", *, end: str = "\n") -> None:
    """Print at once; a terminal that has gone away must not stop the cleaning up."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(text + end)
        sys.stdout.flush()


def tail(path: Path, n_lines: int = TAIL_LINES) -> str:
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-n_lines:])


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
    """Turn the first signal to stop into StopRequested; once it came, cleaning up is not disturbed by a second."""

    def request(number: int, frame: FrameType | None) -> None:
        ignore_stop_signals()
        raise StopRequested(signal.Signals(number).name)

    signal.signal(signal.SIGINT, request)
    signal.signal(signal.SIGTERM, request)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asked us to outlive the terminal
        signal.signal(signal.SIGHUP, request)
    try:
        yield
    finally:
        ignore_stop_signals()


def ignore_stop_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def bound(command: Sequence[str], *, death_signal: str = "TERM", uid: int | None = None) -> list[str]:
    """The command, made to end when its parent does and, where asked, run as another user."""
    setpriv = shutil.which("setpriv", path=os.environ.get("PATH", "") + ":/usr/bin:/bin")
    if setpriv is None:
        if uid is not None:
            raise LaunchError("PostgreSQL refuses to run as root: install setpriv (package util-linux).")
        return list(command)
    user = [] if uid is None else [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [setpriv, *user, "--pdeathsig", death_signal, "--", *command]


@dataclass(frozen=True)
class Service:
    name: str
    process: subprocess.Popen[bytes]
    log_path: Path | None

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def stop(self, *, first: signal.Signals = signal.SIGTERM, grace: float = GRACE_SECONDS) -> None:
        """Ask, wait, then end the whole process group, stragglers included."""
        if self.is_alive:
            self.process.send_signal(first)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace)
        self.kill()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start_service(
    name: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    log_path: Path | None = None,
    cwd: Path | None = None,
) -> Service:
    """Start a command in its own process group; without a log file it has our terminal, to read from as well."""
    if log_path is not None:
        log_path.parent.mkdir(parents=True, exist_ok=True)
    with open(log_path, "wb") if log_path is not None else contextlib.nullcontext() as log:
        process = subprocess.Popen(
            list(command),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL if log is not None else None,
            stdout=log,
            stderr=subprocess.STDOUT if log is not None else None,
            start_new_session=True,
        )
    return Service(name, process, log_path)


class Services:
    """The services of one site: started in order, watched together, stopped in the opposite order."""

    def __init__(self, logs_path: Path, env: Mapping[str, str], cwd: Path) -> None:
        self.logs_path = logs_path
        self.env = dict(env)
        self.cwd = cwd
        self.running: list[Service] = []

    def __enter__(self) -> Services:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str]) -> Service:
        log_path = self.logs_path / f"{name}.log"
        service = start_service(name, bound(command), env=self.env, log_path=log_path, cwd=self.cwd)
        self.running.append(service)
        return service

    def check(self) -> None:
        for service in self.running:
            if not service.is_alive:
                raise LaunchError(
                    f"'{service.name}' ended by itself (exit status {service.process.returncode}). "
                    f"The end of {service.log_path}:\n{tail(service.log_path) if service.log_path else ''}"
                )

    def wait_for(self, condition: Callable[[], bool], what: str, *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise LaunchError(f"{what} did not come up within {seconds:.0f} s; see the logs in {self.logs_path}.")
            time.sleep(0.05)

    def run(self, name: str, command: Sequence[str], *, log: bool = False) -> int:
        """Run a command to its end while the services live; its exit status."""
        log_path = self.logs_path / f"{name}.log" if log else None
        job = start_service(name, bound(command), env=self.env, log_path=log_path, cwd=self.cwd)
        try:
            while job.is_alive:
                self.check()
                time.sleep(0.05)
            return job.process.returncode
        finally:
            job.stop()

    def stop(self) -> None:
        """All but the first at once, then the first, which is the broker that the others talk to."""
        for service in self.running[1:]:
            if service.is_alive:
                service.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for service in reversed(self.running):
            service.stop(grace=max(0.1, deadline - time.monotonic()))
        self.running.clear()
