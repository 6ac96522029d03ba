"""Settings, answers and events are told in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotation.domain.setting_words import change_in_words, share_words
from annotation.domain.study_checklist import reference_checks
from annotation.models import ReferenceItem, StudyEvent
from annotation.templatetags.quantities import work_time
from annotation.templatetags.setting_words import accepted_words, protocol_title
from annotation.templatetags.study_log import log_lines
from tests.annotation.launchable_study import make_launchable


@pytest.mark.parametrize(("share", "words"), [(0.05, "5 %"), (0.025, "2.5 %"), (1.0, "100 %"), (0.0, "0 %")])
def test_a_share_is_percent(share: float, words: str) -> None:
    assert share_words(share) == words


@pytest.mark.parametrize(
    ("hours", "words"), [(0.0, "0 min"), (0.001, "1 min"), (0.29, "17 min"), (2.0, "2.0 h"), (1234.5, "1,234.5 h")]
)
def test_work_is_minutes_first_and_then_hours(hours: float, words: str) -> None:
    assert work_time(hours) == words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["max_per_person", None, 40], ("Judgements per person, at most", "none", "40")),
        (["stopping", {"half_width": 0.05}, {}], ("Stopping rule", "within ±5 %, from 0 judgements on", "none")),
        (["guideline", 1, 2], ("Guideline", "1", "2")),
        (["of_an_older_site", True, False], ("of_an_older_site", "True", "False")),
    ],
)
def test_a_change_names_setting_and_values(change: list[object], words: tuple[str, str, str]) -> None:
    assert change_in_words(change) == words


@pytest.mark.django_db
def test_what_a_gold_item_takes_is_said_as_it_is_asked(artifact_root: Path, tmp_path: Path) -> None:
    study = make_launchable(tmp_path).study
    item = ReferenceItem(study=study, accepted={"image_rating": [3, None], "category": ["color"], "gone": [1]})
    assert accepted_words(item) == [("images", "mostly, can’t tell"), ("category", "color")]
    assert protocol_title(study) == "Rate, describe, categorise"
    study.protocol = "of-an-older-site"
    assert protocol_title(study) == "of-an-older-site"


@pytest.mark.django_db
def test_gold_that_is_there_is_counted_and_gold_that_is_not_explained(artifact_root: Path, tmp_path: Path) -> None:
    study = make_launchable(tmp_path).study
    study.reference_items.filter(kind="gold").delete()
    assert reference_checks(study)[1].words.startswith("without any, ")
    study.reference_items.update(kind="gold")
    assert reference_checks(study)[1].words == f"{study.reference_items.count()} of your own"


def test_the_same_done_again_and_again_is_one_line() -> None:
    kinds = ["gold item added", "practice item added", "practice item added", "gold item added"]
    lines = log_lines([StudyEvent(kind=kind) for kind in kinds])
    assert [(line.sentence, line.n) for line in lines] == [
        ("Gold item added", 1), ("Practice item added", 2), ("Gold item added", 1),
    ]  # fmt: skip
