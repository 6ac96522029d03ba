"""Changing a live study makes a version that says what it does; answers keep the version they were given under."""

from __future__ import annotations

import pytest

from annotation.domain.answers import submit_answer
from annotation.domain.participation import Step, next_step
from annotation.domain.queue import claim_slots
from annotation.domain.studies import StudyError
from annotation.domain.versions import (
    change_guideline,
    change_live_study,
    next_consent,
    next_version,
    plan_change,
    plan_guideline,
)
from annotation.models import Annotation, Participation, Study, StudyVersion
from tests.annotation.small_study import SmallStudy, make_answer, make_study

pytestmark = pytest.mark.django_db


@pytest.fixture
def small() -> SmallStudy:
    return make_study(n_items=6)


def answer_one(small: SmallStudy) -> Annotation:
    small.study.refresh_from_db()
    [slot] = claim_slots(study=small.study, annotator=small.people[0], n=1)
    answer = make_answer(slot.item, slot)
    return submit_answer(annotator=small.people[0], study=small.study, answer=answer).annotation


def test_a_minor_change_is_a_version_and_answers_carry_theirs(small: SmallStudy) -> None:
    before = answer_one(small)
    version = change_live_study(
        study=small.study, user=None, values={"session_length": 20, "max_per_person": 50}, reason="Shorter  sessions"
    )
    after = answer_one(small)
    assert (before.study_version, after.study_version) == ("1.0", "1.1")
    assert (version.kind, version.reason, version.n_answers_before) == ("minor", "Shorter sessions", 1)
    assert version.changes == [["session_length", 60, 20], ["max_per_person", None, 50]]
    assert Study.objects.get().session_length == 20
    assert small.study.events.filter(kind="version", detail__version="1.1").exists()


def test_a_major_change_raises_the_first_number(small: SmallStudy) -> None:
    plan = plan_change(study=small.study, values={"min_viewing_ms": 1500, "session_length": 20})
    assert (plan.version, plan.kind, len(plan.invalidates)) == ("2.0", "major", 2)
    assert next_version("2.7", "minor") == "2.8"
    assert StudyVersion.objects.count() == 0  # a plan changes nothing


def test_a_major_guideline_is_read_and_practised_again(small: SmallStudy) -> None:
    change_guideline(study=small.study, user=None, text="Look, then say it.", is_major=False, reason="Typo")
    assert next_step(Participation.objects.first() or Participation()) == Step.WORK
    guideline = change_guideline(study=small.study, user=None, text="Only shapes.", is_major=True, reason="New aim")
    assert guideline.version == 3
    assert [version.version for version in StudyVersion.objects.order_by("id")] == ["1.1", "2.0"]
    assert {next_step(one) for one in Participation.objects.all()} == {Step.GUIDELINE}


def test_a_text_that_a_form_sends_back_unchanged_asks_nobody_again(small: SmallStudy) -> None:
    Study.objects.update(consent_text="You may stop.\n")
    small.study.refresh_from_db()
    sent = {"session_length": 20, "consent_text": "You may stop."}
    version = change_live_study(study=small.study, user=None, values=sent, reason="Shorter sessions")
    assert version.changes == [["session_length", 60, 20]]
    assert Study.objects.get().consent_version == "1.0"
    assert next_step(Participation.objects.first() or Participation()) == Step.WORK


def test_consent_is_asked_again(small: SmallStudy) -> None:
    change_live_study(study=small.study, user=None, values={"consent_text": "You may stop."}, reason="Lawyers")
    assert {next_step(one) for one in Participation.objects.select_related("study")} == {Step.CONSENT}
    assert next_consent("1.9") == "1.10"
    assert next_consent("draft") == "draft.1"


@pytest.mark.parametrize(
    ("values", "reason", "words"),
    [
        ({"protocol": "intruder"}, "x", "frozen at launch"),
        ({"session_length": 3}, "x", "a whole number from 5 to 500"),
        ({"session_length": True}, "x", "a whole number from 5 to 500"),
        ({"queue_order": "random"}, "x", "breadth, uncertainty, finish"),
        ({"session_length": 60}, "x", "Nothing is different"),
        ({"session_length": 20}, "  ", "Say why"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    small: SmallStudy, values: dict[str, object], reason: str, words: str
) -> None:
    with pytest.raises(StudyError, match=words):
        change_live_study(study=small.study, user=None, values=values, reason=reason)
    assert Study.objects.get().version == "1.0"
    assert not StudyVersion.objects.exists()


def test_only_a_live_study_has_versions(small: SmallStudy) -> None:
    Study.objects.update(state=Study.State.CLOSED)
    small.study.refresh_from_db()
    with pytest.raises(StudyError, match="is closed"):
        plan_guideline(study=small.study, text="Else.", is_major=False)
    with pytest.raises(StudyError, match="is closed"):
        plan_change(study=small.study, values={"session_length": 20})
