"""A throw-away PostgreSQL cluster on a private unix socket, for the tests and the benchmarks: half a second to start.

Nothing is flushed to the disk, so it is not for data one wants to keep; a killed server still loses no commit.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from config.launch.processes import LaunchError, Service, bound, start_service, tail

USER = "vitrine"
NOBODY = 65534  # PostgreSQL refuses to run as root
START_SECONDS = 60.0
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "128MB",
}
DURABLE = {  # and tuned as docs/install.md advises: the slots of a million judgements stay in the server's own memory
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
}


def version_of(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.parent.name.split(".") if part.isdecimal())


def find_binaries() -> Path | None:
    """The folder with initdb and postgres: Debian's newest version first, else what PATH leads to."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version_of, reverse=True)
    on_path = shutil.which("initdb")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


class Cluster:
    """One server and its data under a folder of its own in /tmp, short enough for a socket and open to its user."""

    def __init__(self, *, is_durable: bool = False) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise LaunchError("PostgreSQL is not installed: install the package postgresql (Debian, Ubuntu).")
        self.binaries = binaries
        self.settings = SETTINGS | (DURABLE if is_durable else {})
        self.folder = Path(tempfile.mkdtemp(prefix="vitrine-pg-", dir="/tmp" if os.path.isdir("/tmp") else None))
        self.uid = NOBODY if os.geteuid() == 0 else None
        if self.uid is not None:
            os.chown(self.folder, self.uid, self.uid)
        self.data_path = self.folder / "data"
        self.log_path = self.folder / "postgres.log"
        self.service: Service | None = None

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={self.folder}"

    def start(self) -> None:
        """Make the cluster if it is new, start it, and return when it takes connections."""
        if not self.data_path.exists():
            self._run("initdb", "--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8", "--no-locale",
                      f"--pgdata={self.data_path}")  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._start_once(deadline):
            if time.monotonic() > deadline:
                raise LaunchError(f"PostgreSQL did not start within {START_SECONDS:.0f} s:\n{tail(self.log_path)}")
            time.sleep(0.1)  # after a kill, the first start is refused while the old backends still end

    def _start_once(self, deadline: float) -> bool:
        options = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        command = [str(self.binaries / "postgres"), "-D", str(self.data_path), "-k", str(self.folder), *options]
        self.service = start_service(
            "postgresql",
            bound(command, death_signal="INT", uid=self.uid),
            env=self._env(),
            log_path=self.log_path,
            cwd=self.folder,
        )
        while self.service.is_alive and time.monotonic() < deadline:
            if self._is_ready():
                return True
            time.sleep(0.02)
        return False

    def _is_ready(self) -> bool:
        """PostgreSQL writes its state into the eighth line of its pid file."""
        pid_path = self.data_path / "postmaster.pid"
        if not pid_path.exists() or self.service is None:
            return False
        lines = pid_path.read_text().splitlines()
        return len(lines) >= 8 and lines[0] == str(self.service.process.pid) and lines[7].strip() == "ready"

    def create_database(self, name: str) -> None:
        self._run("createdb", f"--host={self.folder}", f"--username={USER}", name)

    def stop(self) -> None:
        """A fast shutdown: clients are disconnected, not waited for."""
        if self.service is not None:
            self.service.stop(first=signal.SIGINT, grace=10)

    def kill(self) -> None:
        """kill -9 of the server; its backends notice and end."""
        if self.service is not None:
            self.service.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _env(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}

    def _run(self, program: str, *arguments: str) -> None:
        command = bound([str(self.binaries / program), *arguments], uid=self.uid)
        done = subprocess.run(command, env=self._env(), cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LaunchError(f"{program} failed: {(done.stderr or done.stdout).strip()}")
