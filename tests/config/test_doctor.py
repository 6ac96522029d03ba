"""The doctor finds what is wrong on this machine and names the cure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.test.utils import override_settings

from annotation.models import Image, ImageSet
from annotation.models.catalog import ImageRoot
from config.doctor import Verdict, check_broker, check_database, check_disk, check_images, check_torch
from tests.servers import ROOT, BrokerServer


def doctor(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "config.doctor"]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=240)


def test_a_wrong_setting_is_named_with_the_allowed_values() -> None:
    done = doctor(VITRINE_LOG_LEVEL="loud")
    assert done.returncode == 1
    assert "WRONG  settings: VITRINE_LOG_LEVEL is 'loud'; it can be debug, info, warning." in done.stdout


def test_an_unreachable_database_and_broker_are_named_with_a_cure(tmp_path: Path) -> None:
    done = doctor(
        VITRINE_DATABASE_URL=f"postgresql://nobody@/nothing?host={tmp_path}",
        VITRINE_BROKER_URL=f"redis+socket://{tmp_path}/none.sock",
    )
    assert done.returncode == 1
    assert "WRONG  database: postgresql nothing:" in done.stdout
    assert "-> check VITRINE_DATABASE_URL and that the server is running" in done.stdout
    assert "WRONG  broker:" in done.stdout
    assert "2 of 9 checks found something wrong." in done.stdout


def test_an_empty_database_is_a_note(tmp_path: Path) -> None:
    done = doctor(VITRINE_DATABASE_URL=f"sqlite:///{tmp_path / 'new.sqlite3'}")
    assert " note  database: sqlite" in done.stdout
    assert "it is empty" in done.stdout


@pytest.mark.django_db
def test_what_works_is_fine(broker: BrokerServer) -> None:
    assert check_database().verdict is Verdict.FINE
    assert check_broker().verdict is Verdict.FINE
    assert check_disk().verdict is Verdict.FINE
    assert check_torch().text.startswith("torch 2.")


@pytest.mark.django_db
def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert check_images().text == "no image set is registered yet"
    image_set = ImageSet.objects.create(name="birds", n_images=1)
    ImageRoot.objects.create(image_set=image_set, path=str(tmp_path))
    Image.objects.create(image_set=image_set, index=0, path="wren.png", sha256="0" * 64, width=8, height=8)
    finding = check_images()
    assert finding.verdict is Verdict.WRONG
    assert "1 cannot be read: The file 'wren.png' of the image set 'birds'" in finding.text
    (tmp_path / "wren.png").write_bytes(b"not an image")
    assert check_images().verdict is Verdict.WRONG
    from PIL import Image as Picture

    Picture.new("RGB", (8, 8)).save(tmp_path / "wren.png")
    assert check_images().text == "1 read"


def test_a_full_disk_is_named() -> None:
    with override_settings(ARTIFACT_ROOT=Path("/proc/artifacts")):  # a file system without a byte to spare
        finding = check_disk()
    assert finding.verdict is Verdict.WRONG
    assert "/proc" in finding.text
    assert "VITRINE_ARTIFACT_ROOT" in finding.cure
