"""The log of a study is told in words."""

from __future__ import annotations

import pytest
from django.utils import translation

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


def test_an_event_is_told_in_the_language_of_the_reader() -> None:
    with translation.override("de"):
        opened = StudyEvent(kind="opened", detail={"n_items": 129, "n_slots": 1273})
        assert event_sentence(opened) == "Geöffnet mit 129 Aufgaben und 1,273 gewünschten Urteilen"
        given = StudyEvent(kind="role given", detail={"username": "ada", "role": "reviewer"})
        assert event_sentence(given) == "ada ist hier jetzt Prüfer/in"
        assert event_sentence(StudyEvent(kind="gold item added", detail={"feature": 7})) == "Goldaufgabe hinzugefügt"
