"""./run doctor: looks at everything the site needs on this machine and says the cure for what is wrong.

It runs in a process of its own, so it may import torch, which the web process never does.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import django
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

N_IMAGES = 20
LOW_DISK_GB = 5.0


class Verdict(Enum):
    FINE = "fine"
    NOTE = "note"  # works, but somebody should know
    WRONG = "WRONG"


class Finding(NamedTuple):
    """One thing looked at."""

    what: str
    verdict: Verdict
    text: str  # what was found
    cure: str = ""  # what to do about it


def check_python() -> Finding:
    return Finding("python", Verdict.FINE, f"{sys.version.split()[0]} in {sys.prefix}")


def check_torch() -> Finding:
    """The build must fit the machine: a CPU build beside a GPU wastes the GPU, without a word."""
    import torch

    has_driver = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()
    build = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        return Finding("torch", Verdict.FINE, f"{build}; {names}")
    if has_driver:
        built_for = torch.version.cuda or "CPU only"
        cure = "install the torch wheel of the same version built for this driver's CUDA (docs/install.md, GPU)"
        return Finding("torch", Verdict.WRONG, f"{build} ({built_for}) does not see the NVIDIA GPU here", cure)
    return Finding("torch", Verdict.NOTE, f"{build}; no GPU", "fine for the demo; studies of large models want a GPU")


def check_torchvision() -> Finding:
    from workers.timm_loading import DECLARED, import_timm

    timm = import_timm()
    shim = "torchvision's operators do not fit this torch and are replaced by declarations" if DECLARED else ""
    return Finding("timm", Verdict.NOTE if shim else Verdict.FINE, f"timm {timm.__version__}", shim)


def check_database() -> Finding:
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    kind = f"{connection.vendor} {connection.settings_dict['NAME']}"
    try:
        executor = MigrationExecutor(connection)
        n_waiting = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except DatabaseError as error:
        cure = "check VITRINE_DATABASE_URL and that the server is running"
        return Finding("database", Verdict.WRONG, f"{kind}: {str(error).strip()}", cure)
    if not connection.introspection.table_names():
        cure = "./run serve makes its tables, as does .venv/bin/python manage.py migrate"
        return Finding("database", Verdict.NOTE, f"{kind}: it is empty", cure)
    if n_waiting:
        cure = "run .venv/bin/python manage.py migrate (./run serve does it too)"
        return Finding("database", Verdict.WRONG, f"{kind}: {n_waiting} migrations are not applied", cure)
    return Finding("database", Verdict.FINE, kind)


def check_broker() -> Finding:
    from django.conf import settings
    from kombu.connection import Connection
    from kombu.exceptions import OperationalError

    url = settings.BROKER_URL
    with Connection(url, connect_timeout=3) as connection:  # type: ignore[no-untyped-call]
        try:
            connection.ensure_connection(max_retries=1, interval_start=0.1)
        except (OperationalError, OSError) as error:
            if "VITRINE_BROKER_URL" not in os.environ:
                cure = "./run demo and ./run serve --workers start a private one; several hosts need VITRINE_BROKER_URL"
                return Finding("broker", Verdict.NOTE, "none is named, and none runs here now", cure)
            cure = "start it, or name another in VITRINE_BROKER_URL"
            return Finding("broker", Verdict.WRONG, f"{url}: {error}", cure)
    return Finding("broker", Verdict.FINE, url)


def check_secret_key() -> Finding:
    from django.conf import settings

    if settings.SECRET_KEY.startswith("insecure"):
        cure = "set VITRINE_SECRET_KEY to a long random text before others use the site (./run serve makes one)"
        return Finding("secret key", Verdict.NOTE, "the built-in one", cure)
    return Finding("secret key", Verdict.FINE, "set")


def check_disk() -> Finding:
    from django.conf import settings

    folder = next(path for path in [settings.ARTIFACT_ROOT, *settings.ARTIFACT_ROOT.parents] if path.exists())
    free_gb = shutil.disk_usage(folder).free / 1e9
    text = f"{free_gb:.0f} GB free in {settings.ARTIFACT_ROOT}"
    if not os.access(folder, os.W_OK):
        return Finding(
            "disk", Verdict.WRONG, f"{folder} cannot be written", "change its owner, or VITRINE_ARTIFACT_ROOT"
        )
    if free_gb < LOW_DISK_GB:
        return Finding("disk", Verdict.WRONG, text, "free some space, or move VITRINE_ARTIFACT_ROOT")
    return Finding("disk", Verdict.FINE, text)


def check_images() -> Finding:
    """A few images of every registered set, from where this host says they are."""
    from annotation.domain.storage import ImageMissingError, image_path
    from annotation.models import Image, ImageSet
    from workers.image_decoding import ImageImportError, load_image

    n_read, unreadable = 0, []
    for image_set in ImageSet.objects.all():
        keys = list(Image.objects.filter(image_set=image_set).values_list("pk", flat=True)[:100_000])
        for image in Image.objects.filter(pk__in=random.sample(keys, min(N_IMAGES, len(keys)))):
            try:
                load_image(image_path(image))
                n_read += 1
            except (ImageMissingError, ImageImportError) as error:
                unreadable.append(str(error))
    if unreadable:
        cure = "map the folder anew with manage.py relink_images NAME FOLDER, or check its permissions"
        return Finding("images", Verdict.WRONG, f"{len(unreadable)} cannot be read: {unreadable[0]}", cure)
    return Finding("images", Verdict.FINE, f"{n_read} read" if n_read else "no image set is registered yet")


def check_programs() -> Finding:
    from config.launch.chromium import find_chromium
    from config.launch.postgresql import find_binaries

    missing = [] if find_chromium() else ["chromium"]
    missing += [] if find_binaries() else ["postgresql"]
    if missing:
        cure = f"install {' '.join(missing)} (apt-get install on Debian)"
        return Finding("test programs", Verdict.NOTE, "not all are here; only ./run test needs them", cure)
    return Finding("test programs", Verdict.FINE, f"{find_chromium()}, {find_binaries()}")


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_torch,
    check_torchvision,
    check_secret_key,
    check_database,
    check_broker,
    check_disk,
    check_images,
    check_programs,
)


def main() -> int:
    """Print every finding with its cure; 1 where something is wrong."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        django.setup()
    except ImproperlyConfigured as error:
        print_finding(Finding("settings", Verdict.WRONG, str(error), "correct the variable (docs/settings.md)"))
        return 1
    findings: list[Finding] = []
    for check in CHECKS:
        findings.append(finding_of(check, findings))
        print_finding(findings[-1])
    n_wrong = sum(finding.verdict is Verdict.WRONG for finding in findings)
    sys.stdout.write(
        f"\n{n_wrong} of {len(findings)} checks found something wrong.\n" if n_wrong else "\nAll is well.\n"
    )
    return 1 if n_wrong else 0


def finding_of(check: Callable[[], Finding], so_far: list[Finding]) -> Finding:
    """One check's finding; what cannot be imported is a finding too."""
    name = check.__name__.removeprefix("check_")
    has_tables = any(found.what == "database" and found.verdict is Verdict.FINE for found in so_far)
    if name == "images" and not has_tables:
        return Finding(name, Verdict.NOTE, "not looked at, as that needs the database")
    try:
        return check()
    except ImportError as error:
        return Finding(name, Verdict.WRONG, str(error), "delete .venv and run the command again: it is made anew")


def print_finding(finding: Finding) -> None:
    sys.stdout.write(f"{finding.verdict.value:>5}  {finding.what}: {finding.text}\n")
    if finding.cure:
        sys.stdout.write(f"       -> {finding.cure}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
