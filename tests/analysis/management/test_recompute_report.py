"""The report recomputed from an export shows the numbers of the page, intervals included."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from analysis.domain.report import figures_of, report_of_study
from annotation.domain.exports import export_study
from annotation.domain.unblinding import unblind
from annotation.models import Annotation, Study
from tests.analysis.studies import make_study

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_it_prints_the_numbers_of_the_page(
    tmp_path: Path, file_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small = make_study(is_simulated=True)
    Annotation.objects.filter(item=small.items[0]).update(excluded_reason="catch items failed")
    unblind(study=small.study, user=small.researcher)
    export_study(study=small.study, file_format=file_format, folder=tmp_path)
    call_command("recompute_report", str(tmp_path), "--include-simulated", "--json")
    *printed, tally = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    report = report_of_study(small.study, include_simulated=True)
    assert printed == [
        {"level": level, "group": group, "name": name} | figure._asdict()
        for level, group, name, figure in figures_of(report)
    ]
    assert tally == {"tally": report.tally._asdict()}


def test_it_prints_sentences_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = make_study()
    unblind(study=small.study, user=small.researcher)
    export_study(study=small.study, file_format="csv", folder=tmp_path)
    call_command("recompute_report", str(tmp_path / "annotations.csv"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("share of features interpretable by majority: every feature, patch level: 0.")
    assert lines[-1] == (
        "54 of 54 answers used (0 simulated); left out: 0 revised, 0 late extras, 0 repeats, 0 simulated; excluded: 0."
    )


def test_a_blind_export_or_no_export_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"There is no annotations\.csv, \.jsonl or \.parquet"):
        call_command("recompute_report", str(tmp_path))
    with pytest.raises(CommandError, match="is no export: name its folder"):
        call_command("recompute_report", str(tmp_path / "figures.txt"))
    export_study(study=make_study(state=Study.State.OPEN).study, file_format="csv", folder=tmp_path)
    with pytest.raises(CommandError, match="unblind the study and export it again"):
        call_command("recompute_report", str(tmp_path))
