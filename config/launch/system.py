"""Programs that pip cannot install: found, installed as root on Debian, or named so that somebody can install them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from config.launch.chromium import find_chromium
from config.launch.postgresql import find_binaries
from config.launch.processes import LaunchError, bound, say

APT_ENV = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}


def ensure_test_programs() -> None:
    """PostgreSQL and Chromium, which the tests run for real."""
    missing = [] if find_binaries() else ["postgresql"]
    missing += [] if find_chromium() else ["chromium"]
    if missing:
        install_packages(missing, "The tests need programs that pip cannot install")
    if find_binaries() is None or find_chromium() is None:
        raise LaunchError("PostgreSQL or Chromium is still not found after installing; ./run doctor says which.")


def install_packages(packages: Sequence[str], why: str) -> None:
    names = " ".join(packages)
    apt = shutil.which("apt-get", path=os.environ.get("PATH", "") + ":/usr/bin")
    if apt is None:
        raise LaunchError(f"{why}: install {names} with this system's package manager, then run the command again.")
    if os.geteuid() != 0:
        raise LaunchError(f"{why}: run 'sudo apt-get install {names}', then run the command again.")
    say(f"{why}: installing {names} with apt-get.")
    env = {**os.environ, **APT_ENV}
    updated = subprocess.run(bound([apt, "update", "-q"]), env=env, capture_output=True, text=True, check=False)
    command = [apt, "install", "-y", "-q", "--no-install-recommends", *packages]
    done = subprocess.run(bound(command), env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output = (updated.stderr + done.stdout + done.stderr).strip().splitlines()[-15:]
        raise LaunchError(f"apt-get could not install {names}:\n" + "\n".join(output))
