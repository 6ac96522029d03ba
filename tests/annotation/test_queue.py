"""Slots are leased once, never twice for one item, and come back."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from annotation.domain.participation import ParticipationError
from annotation.domain.queue import claim_slots, expire_leases, extend_leases, release_slots
from annotation.models import Participation, Slot, Study, User
from annotation.models.study import QUEUE_KEYS
from tests.annotation.small_study import SmallStudy, make_person, make_study

pytestmark = pytest.mark.django_db


def forget_emptiness(study: Study) -> None:
    Participation.objects.filter(study=study).update(queue_empty_at=None)


def finish(slots: list[Slot]) -> None:
    Slot.objects.filter(pk__in=[slot.pk for slot in slots]).update(state=Slot.State.DONE, lease_until=None)


def test_a_claim_leases_the_wanted_number_of_slots_of_different_items() -> None:
    small = make_study(n_items=6, overlap=3)
    slots = claim_slots(study=small.study, annotator=small.people[0], n=5)
    assert len({slot.item_id for slot in slots}) == 5
    rows = Slot.objects.filter(annotator=small.people[0], state=Slot.State.LEASED)
    assert sorted(rows.values_list("pk", flat=True)) == sorted(slot.pk for slot in slots)


def test_one_person_gets_every_item_once_and_then_nothing() -> None:
    small = make_study(n_items=11, overlap=3)
    seen: list[int] = []
    while slots := claim_slots(study=small.study, annotator=small.people[0], n=4):
        seen += [slot.item_id for slot in slots]
        finish(slots)
    assert sorted(seen) == sorted(item.pk for item in small.items)


def test_every_slot_is_used_when_enough_people_work() -> None:
    small = make_study(n_items=8, overlap=3, n_people=4)
    for _ in range(3):
        for person in small.people:
            finish(claim_slots(study=small.study, annotator=person, n=5))
    assert Slot.objects.filter(state=Slot.State.DONE).count() == 24


def test_a_reloaded_page_gets_its_own_leases_back_first() -> None:
    small = make_study()
    first = claim_slots(study=small.study, annotator=small.people[0], n=3)
    again = claim_slots(study=small.study, annotator=small.people[0], n=3)
    assert [slot.pk for slot in again] == sorted(slot.pk for slot in first)
    more = claim_slots(study=small.study, annotator=small.people[0], n=3, have=[slot.pk for slot in first])
    assert not {slot.pk for slot in more} & {slot.pk for slot in first}


def test_people_start_at_different_places() -> None:
    small = make_study(n_items=200, n_people=2)
    Participation.objects.filter(user=small.people[0]).update(queue_start=0)
    Participation.objects.filter(user=small.people[1]).update(queue_start=2**30)
    a, b = (claim_slots(study=small.study, annotator=person, n=5) for person in small.people)
    assert max(slot.random_key for slot in a) < 2**30 <= min(slot.random_key for slot in b)


def test_an_expired_lease_goes_to_somebody_else() -> None:
    small = make_study(n_items=2)
    claim_slots(study=small.study, annotator=small.people[0], n=2)
    assert claim_slots(study=small.study, annotator=small.people[1], n=2) == []
    later = timezone.now() + timedelta(minutes=16)
    assert len(claim_slots(study=small.study, annotator=small.people[1], n=2, now=later)) == 2


def test_a_heartbeat_keeps_the_lease() -> None:
    small = make_study(n_items=2)
    slots = claim_slots(study=small.study, annotator=small.people[0], n=2)
    later = timezone.now() + timedelta(minutes=14)
    assert extend_leases(annotator=small.people[0], slot_ids=[slot.pk for slot in slots], now=later) == 2
    assert expire_leases(study=small.study, now=later + timedelta(minutes=14)) == 0
    assert expire_leases(study=small.study, now=later + timedelta(minutes=16)) == 2


def test_nobody_extends_or_releases_the_lease_of_another() -> None:
    small = make_study(n_items=2)
    ids = [slot.pk for slot in claim_slots(study=small.study, annotator=small.people[0], n=2)]
    assert extend_leases(annotator=small.people[1], slot_ids=ids) == 0
    assert release_slots(annotator=small.people[1], slot_ids=ids) == 0
    assert release_slots(annotator=small.people[0], slot_ids=ids) == 2
    assert Slot.objects.filter(state=Slot.State.OPEN, annotator=None).count() == 2


def test_an_empty_queue_is_remembered_for_some_seconds() -> None:
    small = make_study(n_items=1)
    now = timezone.now()
    finish(claim_slots(study=small.study, annotator=small.people[0], n=1, now=now))
    assert claim_slots(study=small.study, annotator=small.people[1], n=1, now=now) == []
    Slot.objects.update(state=Slot.State.OPEN, annotator=None)
    assert claim_slots(study=small.study, annotator=small.people[1], n=1, now=now + timedelta(seconds=4)) == []
    assert len(claim_slots(study=small.study, annotator=small.people[1], n=1, now=now + timedelta(seconds=6))) == 1


def test_a_paused_study_hands_out_nothing() -> None:
    small = make_study()
    small.study.state = Study.State.PAUSED
    assert claim_slots(study=small.study, annotator=small.people[0]) == []


def test_strangers_and_people_without_practice_are_refused() -> None:
    small = make_study()
    with pytest.raises(ParticipationError, match="Finish the practice"):
        claim_slots(study=small.study, annotator=make_person("stranger"))
    Participation.objects.filter(user=small.people[0]).update(practised_at=None)
    with pytest.raises(ParticipationError, match="Finish the practice"):
        claim_slots(study=small.study, annotator=small.people[0])


def test_an_item_that_was_passed_over_is_not_offered_again() -> None:
    small = make_study(n_items=3, overlap=2)
    Slot.objects.create(study=small.study, item=small.items[0], annotator=small.people[0], state=Slot.State.SEEN)
    slots = claim_slots(study=small.study, annotator=small.people[0], n=5)
    assert {slot.item_id for slot in slots} == {small.items[1].pk, small.items[2].pk}


def work_until_empty(small: SmallStudy, person: User, claimed: list[tuple[int, int]], problems: list[str]) -> None:
    try:
        while slots := claim_slots(study=small.study, annotator=person, n=3):
            claimed += [(slot.pk, slot.item_id) for slot in slots]
            finish(slots)
    except Exception as error:
        problems.append(repr(error))
        raise
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_people_who_claim_at_once_never_get_the_same_slot_nor_an_item_twice() -> None:
    small = make_study(n_items=40, overlap=3, n_people=6)
    Participation.objects.update(queue_start=0)  # the worst case: everybody walks the same way
    claimed: list[list[tuple[int, int]]] = [[] for _ in small.people]
    problems: list[str] = []
    threads = [
        threading.Thread(target=work_until_empty, args=(small, person, claimed[index], problems))
        for index, person in enumerate(small.people)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    slots = [slot for one in claimed for slot, _ in one]
    assert len(slots) == len(set(slots))
    assert all(len({item for _, item in one}) == len(one) for one in claimed)
    assert Slot.objects.filter(state=Slot.State.DONE).count() == len(slots)
    for person in small.people:  # what a lock hid from somebody comes with their next lap
        forget_emptiness(small.study)
        while more := claim_slots(study=small.study, annotator=person, n=5):
            finish(more)
    assert Slot.objects.filter(state=Slot.State.DONE).count() == 120


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("n_items", [20, 400])
def test_one_person_who_claims_from_many_connections_at_once_gets_the_same_slots(n_items: int) -> None:
    small = make_study(n_items=n_items, overlap=3)
    person = small.people[0]
    claims: list[set[int]] = []

    def claim() -> None:
        try:
            claims.append({slot.pk for slot in claim_slots(study=small.study, annotator=person, n=3)})
        finally:
            connection.close()

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    leased = set(Slot.objects.filter(annotator=person, state=Slot.State.LEASED).values_list("pk", flat=True))
    assert (len(leased), claims) == (3, [leased] * 8)


def test_the_last_place_of_the_ring_is_followed_by_the_first() -> None:
    small = make_study(n_items=2)
    first, last = Slot.objects.order_by("id")
    Slot.objects.filter(pk=first.pk).update(random_key=0)
    Slot.objects.filter(pk=last.pk).update(random_key=QUEUE_KEYS - 1)
    Participation.objects.update(queue_start=QUEUE_KEYS - 1)
    given = [claim_slots(study=small.study, annotator=small.people[0], n=1, have=[last.pk])[0].pk for _ in range(2)]
    assert given == [last.pk, first.pk]


@pytest.mark.parametrize("is_known", [False, True])
def test_a_study_that_closes_after_a_claim_has_begun_hands_out_nothing_more(is_known: bool) -> None:
    small = make_study()
    held = claim_slots(study=small.study, annotator=small.people[0], n=2) if is_known else []
    Study.objects.update(state=Study.State.CLOSED)
    assert small.study.state == Study.State.OPEN  # as the request read it
    have = [slot.pk for slot in held]
    assert claim_slots(study=small.study, annotator=small.people[0], n=2, have=have) == []
    assert claim_slots(study=small.study, annotator=small.people[0], n=2) == sorted(held, key=lambda slot: slot.pk)
