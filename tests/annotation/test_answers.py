"""Answers are stored once, revised by appending, and never lost."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from annotation.domain.answer_message import Answer, AnswerError
from annotation.domain.answers import SubmitResult, submit_answer
from annotation.domain.queue import claim_slots, expire_leases
from annotation.models import Annotation, Item, Participation, Slot, Study, Term, User
from tests.annotation.small_study import SmallStudy, make_answer, make_person, make_study

pytestmark = pytest.mark.django_db


def claim_one(small: SmallStudy, person: User) -> tuple[Slot, Item]:
    slot = claim_slots(study=small.study, annotator=person, n=1)[0]
    return slot, slot.item


def submit(small: SmallStudy, person: User, answer: Answer) -> SubmitResult:
    return submit_answer(annotator=person, study=small.study, answer=answer)


def test_an_answer_fills_its_slot_and_moves_the_counters() -> None:
    small = make_study()
    person = small.people[0]
    slot, item = claim_one(small, person)
    result = submit(small, person, make_answer(item, slot))
    assert (result.stored, result.progress) == ("new", (1, 12))
    stored = Annotation.objects.get()
    assert (stored.patch_rating, stored.image_rating, stored.category, stored.label) == (3, 4, "shape", "round things")
    assert (stored.slot_id, stored.visible_ms, stored.is_current, stored.is_late_extra) == (slot.pk, 4100, True, False)
    slot.refresh_from_db()
    small.study.refresh_from_db()
    assert (slot.state, slot.annotator_id, small.study.n_slots_done) == (Slot.State.DONE, person.pk, 1)
    assert Participation.objects.get(user=person).n_done == 1
    assert list(Term.objects.values_list("text", "n_uses")) == [("round things", 1)]


def test_the_same_answer_sent_twice_is_one_row() -> None:
    small = make_study()
    slot, item = claim_one(small, small.people[0])
    answer = make_answer(item, slot)
    first, second = submit(small, small.people[0], answer), submit(small, small.people[0], answer)
    assert (first.stored, second.stored, first.annotation.pk) == ("new", "replayed", second.annotation.pk)
    small.study.refresh_from_db()
    assert (Annotation.objects.count(), small.study.n_slots_done) == (1, 1)


def test_a_uuid_with_other_content_or_of_another_person_is_refused() -> None:
    small = make_study(overlap=2)
    slot, item = claim_one(small, small.people[0])
    answer = make_answer(item, slot)
    submit(small, small.people[0], answer)
    changed = replace(answer, payload={"patch_rating": 1, "image_rating": 1})
    with pytest.raises(AnswerError, match="already another answer's"):
        submit(small, small.people[0], changed)
    with pytest.raises(AnswerError, match="already another answer's"):
        submit(small, small.people[1], answer)
    assert Annotation.objects.count() == 1


def test_a_revision_is_a_new_row_and_only_the_last_is_current() -> None:
    small = make_study()
    slot, item = claim_one(small, small.people[0])
    first = submit(small, small.people[0], make_answer(item, slot)).annotation
    payload = {"patch_rating": None, "image_rating": 1, "category": "", "label": ""}
    result = submit(small, small.people[0], make_answer(item, slot, payload=payload, revision_of=first.uuid))
    assert (result.stored, result.annotation.revision_of_id) == ("revision", first.pk)
    rows = Annotation.objects.order_by("id").values_list("image_rating", "is_current", "slot_id")
    assert list(rows) == [(4, False, slot.pk), (1, True, slot.pk)]
    assert Participation.objects.get(user=small.people[0]).n_done == 1


def test_a_second_answer_from_another_tab_revises_the_first() -> None:
    small = make_study()
    slot, item = claim_one(small, small.people[0])
    submit(small, small.people[0], make_answer(item, slot))
    assert submit(small, small.people[0], make_answer(item, slot)).stored == "revision"


def test_a_late_answer_takes_the_slot_that_came_back() -> None:
    small = make_study(n_items=1)
    slot, item = claim_one(small, small.people[0])
    expire_leases(study=small.study, now=timezone.now() + timedelta(hours=1))
    assert submit(small, small.people[0], make_answer(item, slot)).stored == "new"
    slot.refresh_from_db()
    assert (slot.state, slot.annotator_id) == (Slot.State.DONE, small.people[0].pk)


def test_a_late_answer_without_a_free_slot_is_kept_as_an_extra() -> None:
    small = make_study(n_items=1)
    slot, item = claim_one(small, small.people[0])
    expire_leases(study=small.study, now=timezone.now() + timedelta(hours=1))
    other_slot, _ = claim_one(small, small.people[1])
    result = submit(small, small.people[0], make_answer(item, slot))
    assert (result.stored, result.annotation.slot_id, result.annotation.is_late_extra) == ("late_extra", None, True)
    assert submit(small, small.people[1], make_answer(item, other_slot)).stored == "new"
    small.study.refresh_from_db()
    assert small.study.n_slots_done == 1


@pytest.mark.parametrize("state", [Study.State.PAUSED, Study.State.CLOSED])
def test_what_was_leased_is_kept_when_the_study_stops(state: str) -> None:
    small = make_study()
    slot, item = claim_one(small, small.people[0])
    Study.objects.update(state=state)
    small.study.refresh_from_db()
    assert submit(small, small.people[0], make_answer(item, slot)).stored == "new"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"payload": {"patch_rating": 5, "image_rating": 1}}, "patch_rating is 5"),
        ({"payload": {"patch_rating": True, "image_rating": 1}}, "patch_rating is True"),
        ({"payload": {"image_rating": 1}}, "no patch_rating"),
        ({"payload": {"patch_rating": 1, "image_rating": 1, "category": "smell"}}, "no category 'smell'"),
        ({"payload": {"patch_rating": 1, "image_rating": 1, "block": 7}}, "does not ask for"),
        ({"payload": {"patch_rating": 1, "image_rating": 1, "label": "x" * 201}}, "201 characters"),
        ({"stimulus_id": "0"}, "another stimulus"),
        ({"item": 10**9}, "not in this study"),
        ({"revision_of": uuid.UUID(int=7)}, "never stored"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_stored(change: dict[str, Any], sentence: str) -> None:
    small = make_study()
    slot, item = claim_one(small, small.people[0])
    with pytest.raises(AnswerError, match=sentence):
        submit(small, small.people[0], replace(make_answer(item, slot), **change))
    assert not Annotation.objects.exists()


def test_a_stranger_is_refused() -> None:
    small = make_study()
    with pytest.raises(AnswerError, match="not joined"):
        submit(small, make_person("stranger"), make_answer(small.items[0]))


def test_answers_of_simulated_annotators_are_marked() -> None:
    small = make_study()
    small.people[0].is_simulated = True
    slot, item = claim_one(small, small.people[0])
    assert submit(small, small.people[0], make_answer(item, slot)).annotation.is_simulated


@pytest.mark.django_db(transaction=True)
def test_the_same_answer_sent_at_once_from_many_connections_is_one_row() -> None:
    small = make_study(overlap=3)
    slot, item = claim_one(small, small.people[0])
    answer = make_answer(item, slot)
    results: list[str] = []

    def send() -> None:
        try:
            results.append(submit(small, small.people[0], answer).stored)
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    small.study.refresh_from_db()
    assert sorted(results) == ["new", *["replayed"] * 5]
    assert (Annotation.objects.count(), small.study.n_slots_done) == (1, 1)
    assert Slot.objects.filter(item=item, state=Slot.State.DONE).count() == 1


@pytest.mark.django_db(transaction=True)
def test_answers_of_one_person_sent_at_once_are_all_counted() -> None:
    small = make_study(n_items=6)
    person = small.people[0]
    slots = claim_slots(study=small.study, annotator=person, n=6)
    shared = uuid.uuid4()  # the last two carry one UUID: one of them is stored, the other refused and its slot left
    answers = [make_answer(slot.item, slot) for slot in slots]
    answers[4], answers[5] = replace(answers[4], uuid=shared), replace(answers[5], uuid=shared)
    outcomes: list[str] = []

    def send(answer: Answer) -> None:
        try:
            outcomes.append(submit(small, person, answer).stored)
        except AnswerError as error:
            outcomes.append(str(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=send, args=(answer,)) for answer in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    small.study.refresh_from_db()
    refused = "The UUID of this answer is already another answer's; make a new one."
    assert sorted(outcomes) == sorted([*["new"] * 5, refused])
    assert (Participation.objects.get(user=person).n_done, small.study.n_slots_done) == (5, 5)
    assert sorted(Slot.objects.exclude(state=Slot.State.OPEN).values_list("state", flat=True)) == [
        *["done"] * 5,
        "leased",
    ]


@pytest.mark.parametrize("missing", ["consented_at", "practised_at"])
def test_no_first_answer_comes_before_consent_and_practice_though_a_slot_is_held(missing: str) -> None:
    small = make_study()
    slot, item = claim_one(small, small.people[0])
    Participation.objects.update(**{missing: None})
    with pytest.raises(AnswerError, match="Give your consent"):
        submit(small, small.people[0], make_answer(item, slot))
    Participation.objects.update(n_old_rounds=1, consented_at=timezone.now())  # practice was asked for anew
    assert submit(small, small.people[0], make_answer(item, slot)).stored == "new"
