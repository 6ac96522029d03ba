"""The virtual environment in the clone, made when missing and brought up to date when the pinned list changed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from config.launch.processes import LaunchError, bound, say, start_service, tail
from config.launch.system import install_packages

RUNTIME = "requirements.txt"
DEVELOPMENT = "requirements-dev.txt"
SHOWN_VERBS = ("Collecting", "Downloading", "Processing", "Installing")


def venv_python(root: Path) -> Path:
    return root / ".venv" / "bin" / "python"


def fingerprint(root: Path, names: Sequence[str]) -> str:
    """What the environment must match: the lists' content and the Python that made it."""
    digest = hashlib.sha256(f"{sys.version_info[0]}.{sys.version_info[1]}".encode())
    for name in names:
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def stamp_path(root: Path, requirements: str) -> Path:
    return root / ".venv" / f".installed-{requirements}"


def is_installed(root: Path, requirements: str) -> bool:
    stamp = stamp_path(root, requirements)
    return stamp.exists() and stamp.read_text() == fingerprint(root, lists_of(requirements))


def lists_of(requirements: str) -> list[str]:
    return [RUNTIME] if requirements == RUNTIME else [RUNTIME, requirements]


def ensure_installed(root: Path, requirements: str = RUNTIME) -> Path:
    """The path of a Python that has everything in the list; nothing is done where the stamp matches."""
    python = venv_python(root)
    if is_installed(root, requirements) and is_working(python):
        return python
    with only_one_installer(root):
        if not is_working(python):
            make_venv(root)
        if not is_installed(root, requirements):
            install(root, requirements)
    return python


def is_working(python: Path) -> bool:
    """False for no environment, and for one whose base Python was moved, upgraded or removed."""
    if not python.exists():
        return False
    version = "import sys, pip; print(*sys.version_info[:2], sep='.')"
    done = subprocess.run([python, "-c", version], capture_output=True, text=True, check=False)
    return done.stdout.strip() == f"{sys.version_info[0]}.{sys.version_info[1]}"


@contextlib.contextmanager
def only_one_installer(root: Path) -> Iterator[None]:
    (root / ".venv").mkdir(exist_ok=True)
    with open(root / ".venv" / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another ./run is installing into .venv; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_venv(root: Path) -> None:
    if importlib.util.find_spec("ensurepip") is None:
        install_packages(["python3-venv"], "This Python cannot make virtual environments")
    say(f"Making .venv with Python {sys.version_info[0]}.{sys.version_info[1]}.")
    for name in ("bin", "lib", "lib64", "include"):  # what is left of an environment that no longer works
        path = root / ".venv" / name
        if path.is_symlink():
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)
    for stamp in (root / ".venv").glob(".installed-*"):
        stamp.unlink()
    run_quietly(root, [sys.executable, "-m", "venv", str(root / ".venv")], "Making .venv")


def install(root: Path, requirements: str) -> None:
    """pip, with a line of progress. The stamp is written last, so that an interrupted install is done again."""
    is_first = not any((root / ".venv").glob(".installed-*"))
    size = ": about 2 GB, one to ten minutes" if is_first else ""
    say(f"Installing {requirements} into .venv{size}.")
    started = time.monotonic()
    wanted = {name: fingerprint(root, lists_of(name)) for name in {RUNTIME, requirements}}
    pip = [str(venv_python(root)), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    pip += ["--retries", "8", "--progress-bar", "off", "-r", requirements]
    run_quietly(root, pip, f"Installing {requirements}")
    for name, content in wanted.items():
        stamp_path(root, name).write_text(content)
    say(f"Installed in {time.monotonic() - started:.0f} s.")


def run_quietly(root: Path, command: list[str], what: str) -> None:
    """Run to the end with the output in var/logs/install.log and its last step on the terminal."""
    log_path = root / "var" / "logs" / "install.log"
    env = {"PIP_DEFAULT_TIMEOUT": "180", **os.environ}
    job = start_service("install", bound(command), env=env, log_path=log_path, cwd=root)
    shown = ""
    try:
        while job.is_alive:
            shown = show_step(log_path, shown)
            time.sleep(0.1)
    finally:
        job.stop()
    if sys.stdout.isatty():
        say("\r\033[K", end="")
    if job.process.returncode != 0:
        raise LaunchError(f"{what} failed; mend what it says and run the same command again.\n{tail(log_path)}")


def show_step(log_path: Path, shown: str) -> str:
    if not sys.stdout.isatty():
        return shown
    steps = [line.strip() for line in tail(log_path, 5).splitlines() if line.strip().startswith(SHOWN_VERBS)]
    if steps and steps[-1] != shown:
        say(f"\r\033[K  {steps[-1][:100]}", end="")
        return steps[-1]
    return shown
