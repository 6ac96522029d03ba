"""Joining, consent, guideline, practice, and the place in a session; skips, flags, comments and reports."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from annotation.domain.answer_message import AnswerError, parse_answer
from annotation.domain.answers import submit_answer
from annotation.domain.participation import (
    ParticipationError,
    Step,
    confirm_guideline,
    give_consent,
    join_study,
    next_step,
    session_progress,
)
from annotation.domain.practice import check_practice
from annotation.domain.protocols import PROTOCOLS, validate_accepted
from annotation.domain.queue import claim_slots
from annotation.domain.remarks import RemarkText, add_remark
from annotation.domain.studies import write_guideline
from annotation.models import Participation, PracticeAnswer, ReferenceItem, Remark, Slot, Study
from tests.annotation.judging import next_practice_item, place_of
from tests.annotation.small_study import make_answer, make_person, make_study

pytestmark = pytest.mark.django_db

RIGHT = {"patch_rating": 4, "image_rating": 1, "category": "shape", "label": ""}


def add_practice(study: Study, n: int = 2) -> list[ReferenceItem]:
    features = [item.feature for item in study.items.all()[:n]]
    return ReferenceItem.objects.bulk_create(
        ReferenceItem(
            study=study, kind="practice", position=index, feature=feature, reason="All are round.",
            accepted={"patch_rating": [3, 4], "category": ["shape"]},
        )
        for index, feature in enumerate(features)
    )  # fmt: skip


def test_the_steps_come_in_order() -> None:
    study = make_study().study
    practice = add_practice(study)
    participation = join_study(token=study.join_token)
    assert not participation.user.has_usable_password()
    assert next_step(participation) == Step.CONSENT
    give_consent(participation=participation)
    assert next_step(participation) == Step.GUIDELINE
    confirm_guideline(participation=participation)
    assert (next_step(participation), participation.guideline_version) == (Step.PRACTICE, 1)
    for reference in practice:
        assert next_practice_item(participation) == reference
        check_practice(participation=participation, reference=reference, payload=RIGHT)
    assert next_step(participation) == Step.WORK


def test_feedback_says_which_question_was_right_and_why() -> None:
    study = make_study().study
    reference = add_practice(study)[0]
    participation = Participation.objects.filter(study=study)[0]
    feedback = check_practice(
        participation=participation, reference=reference, payload=RIGHT | {"category": "other", "patch_rating": None}
    )
    assert feedback == (
        False, {"patch_rating": False, "category": False}, reference.accepted, "All are round.",
        ("passed", 1, 2, 1, 3, None, ""),
    )  # fmt: skip
    assert PracticeAnswer.objects.get().is_right is False


def test_practice_waits_for_consent_and_takes_only_its_own_items() -> None:
    small, other = make_study(), make_study(slug="second")
    reference = add_practice(small.study)[0]
    stranger = join_study(token=small.study.join_token)
    with pytest.raises(ParticipationError, match="Give your consent"):
        check_practice(participation=stranger, reference=reference, payload=RIGHT)
    elsewhere = Participation.objects.filter(study=other.study)[0]
    with pytest.raises(ParticipationError, match="no practice item"):
        check_practice(participation=elsewhere, reference=reference, payload=RIGHT)


def test_joining_twice_is_one_participation() -> None:
    small = make_study()
    person = make_person("ada")
    first, second = (join_study(token=small.study.join_token, user=person) for _ in range(2))
    assert first.pk == second.pk


@pytest.mark.parametrize(
    ("state", "sentence"),
    [("draft", "not opened yet"), ("launching", "not opened yet"), ("closed", "is closed")],
)
def test_a_study_that_is_not_open_cannot_be_joined(state: str, sentence: str) -> None:
    study = make_study().study
    Study.objects.update(state=state)
    with pytest.raises(ParticipationError, match=sentence):
        join_study(token=study.join_token)


def test_a_wrong_link_is_told_so() -> None:
    make_study()
    with pytest.raises(ParticipationError, match="leads to no study"):
        join_study(token="wrong")


def test_new_consent_text_is_asked_for_again() -> None:
    small = make_study()
    participation = place_of(small, small.people[0])
    assert next_step(participation) == Step.WORK
    participation.study.consent_version = "2.0"
    assert next_step(participation) == Step.CONSENT


def test_progress_counts_within_the_session() -> None:
    small = make_study(n_items=100)
    participation = place_of(small, small.people[0])
    assert session_progress(participation) == (0, 60)
    participation.n_done = 83
    assert session_progress(participation) == (23, 60)
    participation.n_done = 120
    assert session_progress(participation, has_just_answered=True) == (60, 60)
    assert session_progress(participation) == (0, 60)


def test_the_same_guideline_again_is_no_new_version() -> None:
    small = make_study()
    assert write_guideline(study=small.study, text="Look, then say.", user=None).version == 1
    assert write_guideline(study=small.study, text="Look again.", user=None).version == 2


def test_a_skip_gives_the_slot_to_somebody_else_for_good() -> None:
    small = make_study(n_items=1)
    first, second = small.people
    slot = claim_slots(study=small.study, annotator=first)[0]
    remark = RemarkText(uuid.uuid4(), slot.item_id, "skip", "too small to see")
    for _ in range(2):  # sent twice
        add_remark(annotator=first, study=small.study, remark=remark)
    assert (Remark.objects.count(), Participation.objects.get(user=first).n_skipped) == (1, 1)
    assert claim_slots(study=small.study, annotator=first) == []
    assert [one.item_id for one in claim_slots(study=small.study, annotator=second)] == [slot.item_id]
    assert sorted(Slot.objects.values_list("state", flat=True)) == ["leased", "seen"]


def test_a_flag_and_a_comment_leave_the_slot_alone() -> None:
    small = make_study(n_items=1)
    slot = claim_slots(study=small.study, annotator=small.people[0])[0]
    for kind in ("flag", "comment"):
        add_remark(
            annotator=small.people[0], study=small.study, remark=RemarkText(uuid.uuid4(), slot.item_id, kind, "odd")
        )
    slot.refresh_from_db()
    assert slot.state == Slot.State.LEASED


def test_wrong_remarks_are_refused() -> None:
    small = make_study()
    with pytest.raises(AnswerError, match="not 'praise'"):
        RemarkText(uuid.uuid4(), 1, "praise")
    with pytest.raises(AnswerError, match="needs some text"):
        RemarkText(uuid.uuid4(), 1, "comment", " ")
    with pytest.raises(AnswerError, match="not in this study"):
        add_remark(annotator=small.people[0], study=small.study, remark=RemarkText(uuid.uuid4(), 10**9, "flag"))
    used = uuid.uuid4()
    add_remark(annotator=small.people[0], study=small.study, remark=RemarkText(used, small.items[0].pk, "flag"))
    with pytest.raises(AnswerError, match="already another remark's"):
        add_remark(annotator=small.people[1], study=small.study, remark=RemarkText(used, small.items[0].pk, "flag"))


def raw_answer(**changes: Any) -> dict[str, Any]:
    answer = {
        "uuid": str(uuid.UUID(int=5)), "slot": 3, "item": 4, "revision_of": None, "payload": RIGHT, "timing": {},
        "submitted_at": "2026-11-21T12:00:00Z", "stimulus_id": "ab", "protocol_version": "1.0", "guideline_version": 2,
    }  # fmt: skip
    return answer | changes


def test_an_answer_is_parsed_into_its_types() -> None:
    parsed = parse_answer(raw_answer())
    assert (parsed.uuid, parsed.slot, parsed.item, parsed.submitted_at.hour) == (uuid.UUID(int=5), 3, 4, 12)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"uuid": "x"}, "must be a UUID"),
        ({"item": "4"}, "whole number"),
        ({"item": None}, "whole number"),
        ({"slot": 2**70}, "whole number"),
        ({"payload": []}, "JSON objects"),
        ({"submitted_at": "yesterday"}, "ISO date"),
        ({"submitted_at": "2026-13-41T00:00:00Z"}, "ISO date"),
        ({"submitted_at": "1970-01-01T00:00:00Z"}, "set the clock"),
        ({"stimulus_id": "x" * 65}, "65 characters"),
        ({"timing": {str(i): i for i in range(41)}}, "41 entries"),
    ],
)
def test_a_malformed_answer_names_what_is_wrong(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AnswerError, match=sentence):
        parse_answer(raw_answer(**changes))


@pytest.mark.parametrize(
    ("accepted", "sentence"),
    [
        ({}, "at least one question"),
        ({"label": ["red"]}, "'label' cannot"),
        ({"patch_rating": []}, "list of accepted answers"),
        ({"patch_rating": [5]}, "5 is no possible answer"),
        ({"category": ["smell"]}, "'smell' is no possible answer"),
    ],
)
def test_wrong_accepted_answers_are_refused(accepted: dict[str, list[Any]], sentence: str) -> None:
    with pytest.raises(AnswerError, match=sentence):
        validate_accepted(PROTOCOLS["rate-describe-categorise"].questions({}), accepted, categories={"shape"})


def test_a_skipped_item_can_still_be_answered_late() -> None:
    small = make_study(n_items=1)
    slot = claim_slots(study=small.study, annotator=small.people[0])[0]
    add_remark(
        annotator=small.people[0], study=small.study, remark=RemarkText(uuid.uuid4(), slot.item_id, "skip", "hm")
    )
    result = submit_answer(annotator=small.people[0], study=small.study, answer=make_answer(slot.item))
    assert result.stored == "late_extra"
