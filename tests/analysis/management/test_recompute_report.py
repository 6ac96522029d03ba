"""The report recomputed from an export shows the numbers of the page, intervals included."""

from __future__ import annotations

import base64
import json
import random
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from analysis.domain.report import figures_of, report_of_study
from annotation.domain.exports import export_study
from annotation.domain.protocols import PROTOCOLS
from annotation.domain.simulated_judgements import Skill, judge_payload
from annotation.domain.unblinding import unblind
from annotation.models import Annotation, Study, Verdict
from tests.analysis.studies import SmallStudy, make_dictionary, make_features, make_study

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


MAP = base64.b64encode(bytes([200, 180, 0, 0, 0, 0, 90, 0, 0])).decode()
TRUTHS: dict[str, dict[str, Any]] = {
    "two-alternative": {"query": 1},
    "intruder": {"intruder": 3},
    "verification": {
        "matches": [True] * 4 + [False] * 4,
        "kinds": ["active"] * 4 + ["random", "random", "hard", "hard"],
    },
    "pairwise": {"left": "other"},
    "patch-marking": {"maps": [MAP] * 4},
    "nature-origin": {},
    "alignment": {"mcs": 0.8, "null_percentile": 99},
    "spurious": {"class": "cat"},
}


def study_of(protocol: str) -> SmallStudy:
    """A study whose answers are simulated judgements, with a repeat and two verdicts."""
    small = make_study()
    Study.objects.filter(pk=small.study.pk).update(protocol=protocol)
    small.study.refresh_from_db()
    others = make_features(make_dictionary("another"), len(small.items))
    rng, asked = random.Random(3), PROTOCOLS[protocol]
    options = asked.settle_options({})
    for item, other in zip(small.items, others, strict=True):
        item.truth, item.variant, item.other_feature = TRUTHS[protocol], f"bin {item.pk % 2}", other
        item.save()
    for answer in Annotation.objects.select_related("item").order_by("id"):
        answer.payload = judge_payload(asked, options, answer.item, Skill(accuracy=0.7), rng)
        answer.save()
    for item in small.items[:2]:
        Verdict.objects.create(
            uuid=uuid.uuid4(), study=small.study, item=item, judge=small.researcher, rationale="seen",
            payload=judge_payload(asked, options, item, Skill(accuracy=0.7), rng), stimulus_id=item.stimulus_id,
            protocol_version="1.0",
        )  # fmt: skip
    return small


@pytest.mark.parametrize("protocol", sorted(TRUTHS))
def test_every_protocol_is_recomputed_from_its_export(
    tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small = study_of(protocol)
    unblind(study=small.study, user=small.researcher)
    report = report_of_study(small.study, include_simulated=False)
    expected = [
        {"level": level, "group": group, "name": name} | figure._asdict()
        for level, group, name, figure in figures_of(report)
    ]
    assert {"overall", "strength"} & {row["group"] for row in expected}
    assert "settled" in {row["group"] for row in expected}
    for file_format in ("csv", "jsonl", "parquet"):
        export_study(study=small.study, file_format=file_format, folder=tmp_path / file_format)
        call_command("recompute_report", str(tmp_path / file_format), "--json")
        *printed, tally = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert printed == expected, file_format
        assert tally == {"tally": report.tally._asdict()}


def test_without_a_card_the_protocol_must_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = make_study()
    unblind(study=small.study, user=small.researcher)
    export_study(study=small.study, file_format="csv", folder=tmp_path)
    (tmp_path / "card.json").unlink()
    with pytest.raises(CommandError, match=r"there is no card\.json beside it; name one with --protocol"):
        call_command("recompute_report", str(tmp_path))
    call_command("recompute_report", str(tmp_path), "--protocol", "rate-describe-categorise")
    assert "54 of 54 answers used" in capsys.readouterr().out


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
