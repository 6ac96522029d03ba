"""The protocols' guides: a study file for each that can be launched, its pictures small, its commands real."""

from __future__ import annotations

import re

import pytest
import yaml

from annotation.demo import protocol_studies
from annotation.demo.protocol_studies import FOLDER, file_of, names
from annotation.domain.protocols import PROTOCOLS
from annotation.domain.study_file_checks import check_file
from annotation.management.commands.run_stage import read_config
from annotation.views.protocols import guide
from workers.stages.configs import config_from_dict

PICTURES = FOLDER.parents[1] / "screenshots" / "protocols"
MOST_BYTES, MOST_BYTES_IN_ALL = 300_000, 4_000_000


@pytest.mark.parametrize("name", names())
def test_the_study_file_of_a_protocol_is_well_formed_and_named_by_its_guide(name: str) -> None:
    values = yaml.safe_load(file_of(name).read_text())
    check_file(values)
    assert values["protocol"] == name
    assert (FOLDER / values["guideline"]).is_file()
    assert f"create_study docs/guides/protocols/{name}.yaml --user rhea --launch" in (FOLDER / f"{name}.md").read_text()


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_a_guide_shows_the_player_and_the_report_in_small_files(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text()
    shown = re.findall(r"!\[[^\]]+\]\(\.\./\.\./screenshots/protocols/([\w-]+)\.png\)", text)
    assert shown == [name, f"{name}-report"]
    assert [one for one in shown if (PICTURES / f"{one}.png").stat().st_size > MOST_BYTES] == []


def test_the_pictures_are_small_in_all() -> None:
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < MOST_BYTES_IN_ALL


def test_the_stages_in_the_guides_are_those_of_the_command() -> None:
    """What a reader types and what protocol_walk starts has the same settings."""
    lines = re.findall(r"^manage run_stage (\S+) (.*)$", (FOLDER / "alignment.md").read_text(), re.MULTILINE)
    lines += re.findall(r"^manage run_stage (\S+) (.*)$", (FOLDER / "verification.md").read_text(), re.MULTILINE)
    typed = {stage: read_config(None, re.findall(r'--set "?([^"]+?)"?(?= --set|$)', words)) for stage, words in lines}
    assert typed == {
        "train-dictionary": protocol_studies.SMALL_DICTIONARY,
        "collect-exemplars": protocol_studies.EXEMPLARS,
        "align-dictionaries": protocol_studies.ALIGNMENT,
        "embed-images": protocol_studies.EMBEDDINGS,
    }
    for stage, values in typed.items():
        config_from_dict(stage, values)


def test_the_page_of_protocols_leaves_out_the_walk() -> None:
    assert "What is measured" in guide("intruder")
    assert "create_study" not in guide("intruder")
