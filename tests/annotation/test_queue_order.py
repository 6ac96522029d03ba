"""In which order slots are handed out, and to whom."""

from __future__ import annotations

import pytest
from django.db.models import F

from annotation.domain.assignment import (
    assign_items,
    assign_share,
    assigned_work,
    cohort_named,
    put_in_cohort,
    withdraw_assignment,
)
from annotation.domain.priorities import reprioritise
from annotation.domain.queue import claim_slots, release_slots
from annotation.domain.queue_lanes import URGENT, first_lane
from annotation.domain.studies import StudyError
from annotation.domain.study_upkeep import keep_up
from annotation.models import Annotation, Participation, Slot, Study
from tests.annotation.judging import INTERPRETABLE, NOTHING, answer, judge, judge_all, place_of
from tests.annotation.small_study import SmallStudy, join, make_person, make_study

pytestmark = pytest.mark.django_db


def set_order(small: SmallStudy, order: str) -> None:
    Study.objects.update(queue_order=order)
    small.study.refresh_from_db()


def test_every_item_is_judged_once_before_any_is_judged_twice() -> None:
    small = make_study(n_items=12, overlap=3, n_people=3)
    seen: dict[int, int] = dict.fromkeys((item.pk for item in small.items), 0)
    for number in range(18):
        (slot,) = claim_slots(study=small.study, annotator=small.people[number % 3], n=1)
        answer(small, small.people[number % 3], slot)
        seen[slot.item_id] += 1
        if number == 11:
            assert set(seen.values()) == {1}
    assert set(seen.values()) == {1, 2}


def test_where_what_was_begun_is_finished_first_all_slots_of_an_item_lie_in_one_lane() -> None:
    study = make_study().study
    assert [first_lane(study, number) for number in range(3)] == [1, 2, 3]
    study.queue_order = Study.QueueOrder.FINISH
    assert [first_lane(study, number) for number in range(3)] == [1, 1, 1]


def test_what_was_begun_comes_first_to_the_others() -> None:
    small = make_study(n_items=30, overlap=3, n_people=2)
    set_order(small, Study.QueueOrder.FINISH)
    Slot.objects.update(lane=1)
    begun = {one.item_id for one in judge(small, small.people[0], 4)}
    judge(small, small.people[1], 1)  # is on their way already
    assert reprioritise(study=small.study, n_new=5) == sum(
        Slot.objects.filter(item_id=item, state="open").count()
        for item in begun | set(Annotation.objects.values_list("item_id", flat=True))
    )
    given = {slot.item_id for slot in claim_slots(study=small.study, annotator=small.people[1], n=4)}
    answered = set(Annotation.objects.filter(annotator=small.people[1]).values_list("item_id", flat=True))
    assert given >= begun - answered


def test_items_people_disagree_on_or_that_lie_near_the_boundary_become_urgent() -> None:
    small = make_study(n_items=10, overlap=4, n_people=3)
    set_order(small, Study.QueueOrder.UNCERTAINTY)
    split, near, clear = small.items[:3]
    Slot.objects.exclude(item__in=[split, near, clear]).update(state=Slot.State.WITHDRAWN)
    middling = {"patch_rating": 2, "image_rating": 3, "category": "", "label": ""}
    for number, person in enumerate(small.people[:2]):
        judge(small, person, 3, lambda item, number=number: {  # type: ignore[misc]
            split.pk: (INTERPRETABLE, NOTHING)[number], near.pk: middling, clear.pk: INTERPRETABLE
        }[item.pk])  # fmt: skip
    assert reprioritise(study=small.study, n_new=6) == 4
    urgent = Slot.objects.filter(state=Slot.State.OPEN, lane=URGENT)
    assert set(urgent.values_list("item_id", flat=True)) == {split.pk, near.pk}
    small.study.refresh_from_db()
    assert small.study.queue_epoch == 1
    assert reprioritise(study=small.study, n_new=6) == 0  # and the epoch rests


def test_urgent_slots_are_handed_out_before_somebody_walks_on_and_their_place_is_kept() -> None:
    small = make_study(n_items=40, overlap=2, n_people=1)
    person = small.people[0]
    judge(small, person, 5)
    before = place_of(small, person)
    fresh = [item for item in small.items if not Annotation.objects.filter(item=item).exists()]
    hot = fresh[-3:]
    Slot.objects.filter(item__in=hot, lane=2).update(lane=URGENT)
    Study.objects.update(queue_epoch=F("queue_epoch") + 1)
    slots = claim_slots(study=small.study, annotator=person, n=3)
    assert {slot.item_id for slot in slots} == {item.pk for item in hot}
    after = place_of(small, person)
    assert (after.queue_lane, after.queue_position) == (before.queue_lane, before.queue_position)
    assert claim_slots(study=small.study, annotator=person, n=3, have=[slot.pk for slot in slots])[0].lane == 1
    assert place_of(small, person).queue_epoch == 1


def test_upkeep_looks_after_a_study_every_so_many_answers() -> None:
    small = make_study(n_items=10, overlap=4)
    set_order(small, Study.QueueOrder.FINISH)
    judge(small, small.people[0], 2)
    assert keep_up() == 0
    Study.objects.update(n_slots_done=25)
    assert keep_up() == 1
    assert Slot.objects.filter(lane=URGENT).count() == 6
    assert keep_up() == 0


def test_nobody_judges_more_than_one_person_may() -> None:
    small = make_study(n_items=20)
    Study.objects.update(max_per_person=7)
    small.study.refresh_from_db()
    first = claim_slots(study=small.study, annotator=small.people[0], n=5)
    more = claim_slots(study=small.study, annotator=small.people[0], n=5, have=[slot.pk for slot in first])
    assert (len(first), len(more)) == (5, 2)
    for slot in [*first, *more]:
        answer(small, small.people[0], slot)
    assert claim_slots(study=small.study, annotator=small.people[0], n=5) == []
    assert len(claim_slots(study=small.study, annotator=small.people[1], n=5)) == 5


def test_reserved_items_go_to_their_cohort_first_and_to_nobody_else() -> None:
    small = make_study(n_items=20, overlap=1, n_people=2)
    expert, other = small.people
    cohort = cohort_named(small.study, " experts ")
    put_in_cohort(participation=place_of(small, expert), cohort=cohort)
    chosen = {item.pk for item in small.items[:6]}
    assignment = assign_items(study=small.study, items=chosen, to=cohort, user=None)
    assert (assignment.n_slots, [work.n_open for work in assigned_work(small.study)]) == (6, [6])
    first = {slot.item_id for slot in claim_slots(study=small.study, annotator=expert, n=6)}
    assert first == chosen
    assert judge_all(small, other) == 14


def test_a_share_is_reserved_for_a_person_and_comes_back_when_that_is_withdrawn() -> None:
    small = make_study(n_items=20, overlap=2, n_people=2)
    ada, bob = small.people
    assignment = assign_share(study=small.study, share=0.25, to=ada, user=None)
    assert assignment.n_slots == 10
    held = claim_slots(study=small.study, annotator=ada, n=2)
    assert all(slot.lane // 100 == assignment.pk for slot in held)
    assert withdraw_assignment(assignment=assignment, user=None) == 8
    release_slots(annotator=ada, slot_ids=[slot.pk for slot in held])
    assert set(Slot.objects.values_list("lane", flat=True)) == {1, 2}
    assert judge_all(small, bob) == 20


def test_what_cannot_be_reserved_is_said() -> None:
    small = make_study(n_items=4)
    with pytest.raises(StudyError, match="is not in this study"):
        assign_items(study=small.study, items=[small.items[0].pk], to=make_person("eve"), user=None)
    assign_items(study=small.study, items=[small.items[0].pk], to=small.people[0], user=None)
    with pytest.raises(StudyError, match="None of these items"):
        assign_items(study=small.study, items=[small.items[0].pk], to=small.people[1], user=None)
    assert small.study.assignments.count() == 1
    elsewhere = make_study(slug="second")
    with pytest.raises(StudyError, match="another study"):
        put_in_cohort(participation=place_of(small, small.people[0]), cohort=cohort_named(elsewhere.study, "x"))


def test_somebody_who_joins_late_walks_through_every_lane() -> None:
    small = make_study(n_items=9, overlap=3, n_people=2)
    for person in small.people:
        assert judge_all(small, person) == 9
    late = make_person("late")
    join(small.study, late)
    assert judge_all(small, late) == 9
    assert Participation.objects.get(user=late).queue_lane is None
    assert not Slot.objects.filter(state=Slot.State.OPEN).exists()
