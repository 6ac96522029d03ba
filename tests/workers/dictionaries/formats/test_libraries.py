"""Files that the real libraries wrote give the latents and the reconstruction that those libraries computed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from workers.benchmarks.formats import STORED, TOLERANCE, compare_case, unpack

NAMES = sorted(
    f"{path.stem}/{name.removesuffix('/case.json')}"
    for path in STORED.glob("*.zip")
    for name in zipfile.ZipFile(path).namelist()
    if name.endswith("/case.json")
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    unpack(STORED, folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_librarys_own_file_gives_its_own_latents(cases: Path, name: str) -> None:
    case = compare_case(cases / name)
    assert case.format == name.partition("/")[0]
    assert max(case.latents, case.reconstruction) <= TOLERANCE


def test_every_library_that_can_be_installed_has_cases() -> None:
    assert {name.partition("/")[0] for name in NAMES} == {
        "saelens", "sparsify", "dictionary_learning", "overcomplete", "saev", "circuit-tracer",
    }  # fmt: skip
    assert len(NAMES) == 39


def test_the_files_are_small_and_say_where_they_come_from(cases: Path) -> None:
    assert sum(path.stat().st_size for path in STORED.glob("*.zip")) < 100_000
    versions = {json.loads((cases / name / "case.json").read_text())["version"] for name in NAMES}
    provenance = (STORED / "PROVENANCE.md").read_text()
    assert [version for version in versions if version not in provenance] == []
