"""./run itself: its words, what it installs, what it starts, and that nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from config.launch import install
from config.launch.broker import SOCKET_PATH_LIMIT, socket_path_in
from config.launch.processes import LaunchError, Services
from config.launch.site import check_port, free_port, owned, with_secret_key
from config.launch.system import install_packages
from tests.servers import ROOT, poll

WEB_PROCESS_MB = 160  # design.md §12: a web process, idle


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=240
    )


def processes_with(text: str) -> list[int]:
    """The processes whose command line or environment holds the text, ourselves excepted."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            if text.encode() in words and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def test_no_command_names_the_commands() -> None:
    done = run()
    assert done.returncode == 2
    assert "demo" in run("--help").stdout
    assert "COMMAND" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["demo", "--port", "http"], "'http' is not a port; it must be a number from 1 to 65535"),
        (["demo", "--porf", "8000"], "unknown argument --porf"),
        (["worker", "fast"], "invalid choice: 'fast'"),
        (["bench", "everything"], "invalid choice: 'everything'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: list[str], sentence: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_an_old_python_is_told_what_to_install(tmp_path: Path) -> None:
    source = (ROOT / "run").read_text().replace("(3, 11)", "(9, 9)")
    (tmp_path / "run").write_text(source)
    done = subprocess.run(
        [sys.executable, "run"], cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Vitrine needs Python 3.11 or newer; this is ")


def test_a_taken_port_is_named_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LaunchError, match=rf"Port {port} of 127.0.0.1 cannot be used .*--port {port + 1}"):
            check_port("127.0.0.1", port)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with (
        owned(tmp_path),
        pytest.raises(LaunchError, match=rf"already in use by ./run \(process {os.getpid()}\)"),
        owned(tmp_path),
    ):
        pass
    with owned(tmp_path):  # free again
        pass


def test_a_deep_folder_gets_a_socket_the_kernel_takes(tmp_path: Path) -> None:
    assert socket_path_in(tmp_path) == tmp_path.resolve() / "broker" / "valkey.sock"
    deep = socket_path_in(tmp_path / ("x" * 100))
    deep.parent.rmdir()
    assert len(str(deep)) < SOCKET_PATH_LIMIT


def test_the_secret_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    first = with_secret_key(tmp_path, {})["VITRINE_SECRET_KEY"]
    assert len(first) >= 50
    assert with_secret_key(tmp_path, {})["VITRINE_SECRET_KEY"] == first
    assert (tmp_path / "secret-key").stat().st_mode & 0o777 == 0o600
    assert with_secret_key(tmp_path, {"VITRINE_SECRET_KEY": "given"})["VITRINE_SECRET_KEY"] == "given"


def test_packages_are_named_where_they_cannot_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(LaunchError, match="The tests need it: install chromium with this system's package manager"):
        install_packages(["chromium"], "The tests need it")
    monkeypatch.setattr(shutil, "which", lambda name, path=None: "/usr/bin/apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LaunchError, match="run 'sudo apt-get install chromium'"):
        install_packages(["chromium"], "The tests need it")


class TestInstalling:
    @pytest.fixture
    def clone(self, tmp_path: Path) -> Path:
        """A clone whose pinned lists are empty, so that pip has nothing to fetch."""
        (tmp_path / install.RUNTIME).write_text("")
        (tmp_path / install.DEVELOPMENT).write_text(f"-r {install.RUNTIME}\n")
        return tmp_path

    def test_a_stamp_is_believed_until_a_list_changes(self, clone: Path) -> None:
        python = install.ensure_installed(clone)
        assert python == clone / ".venv" / "bin" / "python"
        assert install.is_installed(clone, install.RUNTIME)
        assert not install.is_installed(clone, install.DEVELOPMENT)
        install.ensure_installed(clone, install.DEVELOPMENT)
        assert install.is_installed(clone, install.DEVELOPMENT)
        (clone / install.RUNTIME).write_text("# changed\n")
        assert not install.is_installed(clone, install.RUNTIME)
        assert not install.is_installed(clone, install.DEVELOPMENT)

        python.unlink()  # as when the system's Python was upgraded away
        install.ensure_installed(clone)
        assert install.is_working(python)
        assert install.is_installed(clone, install.RUNTIME)
        assert not install.is_installed(clone, install.DEVELOPMENT)

    def test_a_failed_install_leaves_no_stamp_and_says_why(self, clone: Path) -> None:
        (clone / install.RUNTIME).write_text("./no-such-folder\n")
        with pytest.raises(LaunchError, match=r"(?s)Installing requirements.txt failed.*no-such-folder"):
            install.ensure_installed(clone)
        assert not install.is_installed(clone, install.RUNTIME)


class TestServices:
    @pytest.fixture
    def services(self, tmp_path: Path) -> Iterator[Services]:
        with Services(tmp_path / "logs", {**os.environ, "MARK": str(tmp_path)}, ROOT) as services:
            yield services

    def test_a_service_that_ends_is_named_with_the_tail_of_its_log(self, services: Services) -> None:
        services.start("steady", ["sleep", "60"])
        services.start("web", ["sh", "-c", "echo the last words; exit 3"])
        with pytest.raises(LaunchError, match=r"(?s)'web' ended by itself \(exit status 3\).*the last words"):
            services.wait_for(lambda: False, "It", seconds=30)

    def test_a_job_ends_when_a_service_dies(self, services: Services) -> None:
        services.start("broker", ["sh", "-c", "exit 1"])
        with pytest.raises(LaunchError, match="'broker' ended by itself"):
            services.run("build", ["sleep", "60"])

    def test_what_does_not_come_up_is_named(self, services: Services) -> None:
        with pytest.raises(LaunchError, match=r"The broker did not come up within 0 s"):
            services.wait_for(lambda: False, "The broker", seconds=0.1)

    def test_stopping_also_ends_grandchildren_that_ignore_it(self, services: Services, tmp_path: Path) -> None:
        stubborn = "trap '' TERM; (trap '' TERM; sleep 60) & touch ready; sleep 60"
        services.cwd = tmp_path
        services.start("stubborn", ["sh", "-c", stubborn])
        poll((tmp_path / "ready").exists, "the start")
        services.stop()
        poll(lambda: processes_with(f"MARK={tmp_path}") == [], "the end of every process", seconds=60)


class RunningSite(NamedTuple):
    process: subprocess.Popen[str]
    url: str
    mark: str


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RunningSite]:
    """`./run serve --workers` on an empty folder: broker, web server and workers, all real."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("VITRINE_", "DJANGO_"))}
    env |= {"VITRINE_DATA_ROOT": str(tmp_path)}
    command = [sys.executable, "run", "serve", "--workers", "--port", str(port)]
    output_path = tmp_path / "output.txt"
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup a site would outlive its terminal, as asked
    with open(output_path, "w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT, text=True)
    signal.signal(signal.SIGHUP, inherited)
    mark = str(tmp_path)

    def is_up() -> bool:
        assert process.poll() is None, output_path.read_text()
        return "Vitrine answers at" in output_path.read_text() and len(processes_with(mark)) >= 10

    try:
        poll(is_up, "the start of the site", seconds=240)
        yield RunningSite(process, f"http://127.0.0.1:{port}", mark)
    finally:
        for pid in processes_with(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(60)


@pytest.mark.parametrize("stop", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_site_serves_and_leaves_no_process_behind(site: RunningSite, stop: str) -> None:
    with urllib.request.urlopen(site.url, timeout=30) as response:
        assert "Vitrine" in response.read().decode()
    assert idle_web_megabytes(site.mark) <= WEB_PROCESS_MB
    site.process.send_signal(signal.Signals[stop])
    assert site.process.wait(60) == (0 if stop != "SIGKILL" else -signal.SIGKILL)
    poll(lambda: processes_with(site.mark) == [], "the end of every process", seconds=60)


def idle_web_megabytes(mark: str) -> float:
    """The largest of granian's processes."""
    sizes = []
    for pid in processes_with(mark):
        with contextlib.suppress(OSError):
            if b"granian" in Path(f"/proc/{pid}/cmdline").read_bytes():
                status = Path(f"/proc/{pid}/status").read_text()
                sizes.append(int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024)
    return max(sizes)


def test_a_killed_worker_ends_the_site_and_is_named(site: RunningSite, tmp_path: Path) -> None:
    def leader_of(queue: str) -> int:
        queue_option = f"--queues={queue}".encode()
        pids = [pid for pid in processes_with(site.mark) if queue_option in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return min(pids)

    os.kill(leader_of("cpu"), signal.SIGKILL)
    assert site.process.wait(60) == 1
    assert "'worker-cpu' ended by itself (exit status -9)" in (tmp_path / "output.txt").read_text()
    poll(lambda: processes_with(site.mark) == [], "the end of every process", seconds=60)


def test_stopping_while_installing_leaves_nothing(tmp_path: Path) -> None:
    for name in ("config", "run"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, tmp_path / name)
    (tmp_path / install.RUNTIME).write_text("")
    env = {"PATH": os.environ["PATH"], "MARK": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "run", "doctor"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Making .venv")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert output.endswith("Stopped (SIGINT).\n")
    assert process.returncode == 130
    assert processes_with(f"MARK={tmp_path}") == []


def test_poll_is_not_silent(tmp_path: Path) -> None:
    never: Callable[[], bool] = lambda: False  # noqa: E731
    with pytest.raises(AssertionError, match=r"the event did not happen within 0 s"):
        poll(never, "the event", seconds=0.01)
