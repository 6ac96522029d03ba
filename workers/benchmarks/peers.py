"""The public libraries, in an environment of their own: made here, and asked over a pipe for one step at a time.

They bring a hundred packages and their own versions of some of ours, so they are never installed beside us. Only one
side computes at any time, which makes figures of both comparable within a run.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from workers.benchmarks.report import say

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-peers"
REQUIREMENTS = ROOT / "requirements-peers.txt"
BARE = ROOT / "requirements-peers-bare.txt"  # without their dependencies, which contradict those of the others


class PeersError(Exception):
    """The libraries could not be installed, or one of them failed."""


class Step(NamedTuple):
    """The CPU time of one step, and how many latents were dead in it."""

    seconds: float
    n_dead: int


def make_environment() -> Path:
    """The environment's Python; installs what the two requirements files ask for, unless that was done already."""
    python = ENVIRONMENT / "bin" / "python"
    asked = hashlib.sha256(REQUIREMENTS.read_bytes() + BARE.read_bytes())
    stamp = ENVIRONMENT / f".installed-{asked.hexdigest()[:16]}"
    if stamp.exists():
        return python
    say(f"Installing {REQUIREMENTS.name} into {ENVIRONMENT.name}: some 2 GB, a few minutes.")
    if not python.exists():
        run_quietly([sys.executable, "-m", "venv", str(ENVIRONMENT)])
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    run_quietly([*install, "-r", str(REQUIREMENTS)])
    run_quietly([*install, "--no-deps", "-r", str(BARE)])
    stamp.touch()
    return python


def run_quietly(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PeersError(
            f"The peers' environment could not be made; {' '.join(command[:4])} said:\n{done.stderr[-2000:]}"
        )


class Peers:
    """The runner in the other environment; see ``peers_runner`` for what it answers."""

    def __init__(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        self.process, self.log = process, log

    def prepare(self, case: Mapping[str, int]) -> list[str]:
        """Make every library's training ready; answers their names."""
        names: list[str] = self.ask({"prepare": dict(case)})["methods"]
        return names

    def step(self, name: str) -> Step:
        return Step(**self.ask({"step": name}))

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.log.seek(0)
            raise PeersError(f"The peers' process ended at {json.dumps(message)}:\n{self.log.read()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def open_peers() -> Iterator[Peers]:
    """Make the environment if needed and start the runner in it, on one thread."""
    python = make_environment()
    command = [str(python), "-m", "workers.benchmarks.peers_runner"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        with process:
            try:
                yield Peers(process, log)
            finally:
                process.kill()
