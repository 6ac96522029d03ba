"""Real photographs through the whole job, by the very commands of docs/guides/photographs.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.test import Client

from annotation.models import Annotation, Dictionary, ExemplarSet, Feature, Role, Study, User
from tests.servers import WorkerProcess, poll

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "guides" / "photographs.md"


def guide_commands(section: int, folder: Path) -> list[list[str]]:
    """The commands under one heading, with this Python, and a folder of the test in place of var/."""
    text = GUIDE.read_text().split("\n## ")[section]
    blocks = re.findall(r"```\n(.*?)```", text, re.S)
    lines = [line for block in blocks for line in block.splitlines() if "pip install" not in line]
    words = [shlex.split(line.replace("var/", f"{folder}/")) for line in lines]
    replaced = {"manage": [sys.executable, "manage.py"], ".venv/bin/python": [sys.executable]}
    return [[*replaced.get(first, [first]), *rest] for first, *rest in words]


def follow(section: int, folder: Path) -> str:
    said = ""
    for command in guide_commands(section, folder):
        env = os.environ | {"OMP_NUM_THREADS": "2"}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        said = done.stdout
    return said


def study_in(state: Study.State) -> Study | None:
    return Study.objects.filter(slug="photographs", state=state).first()


def test_the_guide_takes_photographs_to_figures(
    start_worker: Callable[..., WorkerProcess], artifact_root: Path, tmp_path: Path, client: Client
) -> None:
    researcher = User.objects.create_user("researcher", password="x", role=Role.RESEARCHER)
    for section in (1, 2, 3):
        follow(section, tmp_path)
    dictionary = Dictionary.objects.get(name="photo-sae")
    assert {d.name: d.control_of for d in Dictionary.objects.exclude(pk=dictionary.pk)} == {"photo-random": dictionary}
    assert Feature.objects.filter(dictionary=dictionary).count() == 2 * 192
    assert ExemplarSet.objects.count() == 2
    assert dictionary.quality["blocks.2"]["explained_variance"]["all"] > 0.4

    launch, simulate = guide_commands(4, tmp_path)
    start_worker("cpu")
    subprocess.run(launch, cwd=ROOT, check=True, capture_output=True)
    poll(lambda: study_in(Study.State.OPEN), "the launch of the study", seconds=120)
    subprocess.run(simulate, cwd=ROOT, check=True, capture_output=True)
    study = Study.objects.get(slug="photographs")
    assert study.n_slots == study.n_slots_done == Annotation.objects.filter(study=study, is_simulated=True).count()

    client.force_login(researcher)
    feature = Feature.objects.filter(dictionary=dictionary, n_images_active__gte=16).latest("maximum")
    assert client.get(f"/features/{feature.pk}/").content.count(b".webp") >= 16
    client.post(f"/studies/{study.slug}/state/", {"act": "close", "confirmed": "yes"})
    assert study_in(Study.State.CLOSED) is not None
    client.post(f"/analysis/{study.slug}/unblind/")
    report = client.get(f"/analysis/{study.slug}/").content.decode()
    assert "<svg" in report
    recomputed = follow(5, tmp_path)
    assert "interpretable" in recomputed
    card = json.loads((tmp_path / "photographs-export" / "card.json").read_text())
    assert card["counts"]["answers"] == card["counts"]["simulated"] == study.n_slots_done


@pytest.mark.parametrize("section", [1, 3, 5])
def test_the_guide_has_commands(section: int, tmp_path: Path) -> None:
    assert len(guide_commands(section, tmp_path)) >= 2
