"""The log of a study is told in words."""

from __future__ import annotations

import pytest

from annotation.models import StudyEvent
from annotation.templatetags.study_log import event_sentence


@pytest.mark.parametrize(
    ("kind", "detail", "sentence"),
    [
        (
            "opened",
            {"n_items": 129, "n_slots": 1273, "stimuli": "ab"},
            "Opened with 129 items and 1,273 judgements to give",
        ),
        ("role given", {"username": "ada", "role": "reviewer"}, "ada is now reviewer here"),
        ("gold item added", {"feature": 7}, "Gold item added"),
        (
            "stopped itself",
            {"half_width": 0.05, "n_judgements": 48},
            "Paused itself after 48 judgements: the interval of its main quantity is within 5 % on either side",
        ),
        ("version", {"version": "1.1", "level": "minor", "reason": "Shorter"}, "Version 1.1: Shorter"),
        ("opened", {}, "Opened"),
        ("a {strange} kind", {}, "A {strange} kind"),
    ],
)
def test_an_event_is_a_sentence(kind: str, detail: dict[str, object], sentence: str) -> None:
    assert event_sentence(StudyEvent(kind=kind, detail=detail)) == sentence
