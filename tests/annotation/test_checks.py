"""Gold that falls with experience, own items again, catch items: silent, and no work the study wants."""

from __future__ import annotations

import random
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotation.domain.opening import make_slots
from annotation.domain.own_progress import own_progress
from annotation.domain.queue import claim_slots, expire_leases, fewer, release_slots, rest_of
from annotation.domain.queue_at_once import Wanted
from annotation.domain.queue_lanes import draw_gold, gold_share
from annotation.domain.remarks import RemarkText, add_remark
from annotation.domain.repeats import begin_return
from annotation.models import Annotation, Condition, Item, Slot, Study, User
from tests.annotation.judging import INTERPRETABLE, NOTHING, answer, date_back, judge, judge_all, place_of
from tests.annotation.small_study import SmallStudy, make_study

pytestmark = pytest.mark.django_db
ALWAYS = [[0, 1.0], [4, 0.0]]
YESTERDAY = timezone.now() - timedelta(hours=25)


def study_with_gold(n_gold: int = 6, n_ordinary: int = 20, schedule: list[list[float]] | None = None) -> SmallStudy:
    """Gold items accept only what is interpretable."""
    small = make_study(n_items=n_gold + n_ordinary, n_people=2)
    gold = small.items[:n_gold]
    Item.objects.filter(pk__in=[item.pk for item in gold]).update(
        condition=Condition.GOLD, accepted={"patch_rating": [3, 4]}
    )
    Slot.objects.all().delete()
    Study.objects.update(gold_schedule=ALWAYS if schedule is None else schedule)
    small.study.refresh_from_db()
    small.study.n_slots = make_slots(small.study, Item.objects.filter(study=small.study))
    small.study.save()
    return small


def n_gold_of(person: User) -> int:
    return Annotation.objects.filter(annotator=person, item__condition=Condition.GOLD).count()


def test_the_share_of_gold_falls_with_experience() -> None:
    schedule = [[0, 0.4], [20, 0.2], [60, 0.1]]
    assert [gold_share(schedule, n) for n in (0, 19, 20, 59, 60, 1000)] == [0.4, 0.4, 0.2, 0.2, 0.1, 0.1]
    assert gold_share([[5, 0.5]], 4) == gold_share([], 4) == 0
    rng = random.Random(3)
    shares = [sum(draw_gold(schedule, start, 5, rng) for _ in range(2000)) / 10_000 for start in (0, 30, 100)]
    assert shares == pytest.approx([0.4, 0.2, 0.1], abs=0.015)


def test_gold_of_a_schedule_is_not_wanted_work_and_comes_while_the_schedule_says_so() -> None:
    small = study_with_gold()
    assert (small.study.n_slots, Slot.objects.filter(item__condition=Condition.GOLD).count()) == (20, 0)
    person = small.people[0]
    assert [one.item.condition for one in judge(small, person, 3)] == [Condition.GOLD] * 3
    assert [one.item.condition for one in judge(small, person, 3)].count(Condition.GOLD) == 1
    assert judge_all(small, person) == 18
    small.study.refresh_from_db()
    assert (n_gold_of(person), small.study.n_slots_done, place_of(small, person).n_gold) == (4, 20, 4)


def test_everybody_meets_gold_of_their_own() -> None:
    small = study_with_gold(n_gold=3, schedule=[[0, 1.0]])
    for person in small.people:
        assert {one.item.condition for one in judge(small, person, 3)} == {Condition.GOLD}
    assert Slot.objects.filter(lane=-1, state=Slot.State.DONE).count() == 6
    assert [one.item.condition for one in judge(small, small.people[0], 2)] == [Condition.REAL] * 2  # none is left


def test_checks_that_are_given_back_expire_or_are_skipped_never_go_to_others() -> None:
    small = study_with_gold(n_gold=3, schedule=[[0, 1.0]])
    person = small.people[0]
    first, second, third = claim_slots(study=small.study, annotator=person, n=3)
    assert release_slots(annotator=person, slot_ids=[first.pk]) == 1
    remark = RemarkText(uuid=uuid.uuid4(), item=third.item_id, kind="skip")
    add_remark(annotator=person, study=small.study, remark=remark)
    assert expire_leases(study=small.study, now=timezone.now() + timedelta(hours=1)) == 1
    states = dict(Slot.objects.filter(lane=-1, annotator=person).values_list("item_id", "state"))
    assert states == {first.item_id: "waiting", second.item_id: "waiting", third.item_id: "seen"}
    assert not Slot.objects.filter(state=Slot.State.OPEN, lane__lt=0).exists()
    assert answer(small, person, second).is_gold_right is True  # late, and the check still counts
    small.study.refresh_from_db()
    assert (place_of(small, person).n_gold, small.study.n_slots_done) == (1, 0)


def test_a_check_is_stored_by_the_statements_of_any_answer() -> None:
    """Else the time that the reply takes would tell it."""
    small = study_with_gold(n_gold=4, n_ordinary=4, schedule=[[0, 1.0], [4, 0.0]])
    person, statements = small.people[0], []
    for n_answered in range(8):
        slot = claim_slots(study=small.study, annotator=person, n=1)[0]
        with CaptureQueriesContext(connection) as queries:
            stored = answer(small, person, slot)
        assert stored.is_gold_right is (True if n_answered < 4 else None)
        statements.append(len(queries))
    assert statements[1:] == statements[-1:] * 7  # the first reads what is read once per process
    small.study.refresh_from_db()
    place = place_of(small, person)
    assert (place.n_done, place.n_gold, place.n_gold_right, small.study.n_slots_done) == (8, 4, 4, 4)


def test_a_check_given_back_does_not_come_back_next() -> None:
    """An ordinary item does not either; a page that is opened anew would tell them apart."""
    small = study_with_gold(n_gold=6, schedule=[[0, 1.0]])
    person = small.people[0]
    first = claim_slots(study=small.study, annotator=person, n=1)[0]
    release_slots(annotator=person, slot_ids=[first.pk])
    given = [answer(small, person, claim_slots(study=small.study, annotator=person, n=1)[0]) for _ in range(6)]
    assert [one.item_id for one in given].index(first.item_id) == 5


def test_own_accuracy_is_told_from_five_checks_on() -> None:
    small = study_with_gold(n_gold=8, n_ordinary=20, schedule=[[0, 1.0]])
    person = small.people[0]
    judge(small, person, 4, lambda item: INTERPRETABLE)
    told = own_progress(place_of(small, person))
    assert (told.done, told.skipped, told.session_done, told.n_checks, told.checks_right) == (4, 0, 4, 0, None)
    assert (told.median_seconds, told.left) == (4.1, None)
    judge(small, person, 2, lambda item: NOTHING)
    Study.objects.update(max_per_person=12)
    told = own_progress(place_of(small, person))
    assert (told.n_checks, told.checks_right, told.left) == (
        0,
        None,
        6,
    )  # the last would be known as a check
    judge(small, person, 3, lambda item: NOTHING)
    assert own_progress(place_of(small, person)).n_checks == 0
    judge(small, person, 1, lambda item: NOTHING)
    told = own_progress(place_of(small, person))
    assert told.checks_right == pytest.approx(4 / 5)  # the sixth is told with the tenth: nobody learns of a single one
    assert (told.n_checks, told.left) == (5, 2)


def test_own_items_come_again_among_the_others_of_an_invited_return() -> None:
    small = make_study(n_items=60, overlap=2, n_people=1)
    person = small.people[0]
    Study.objects.update(repeat_share=0.1)
    while Annotation.objects.count() < 40:
        judge(small, person, 5)
    assert begin_return(participation=place_of(small, person)) == 0  # not before a day has passed
    date_back(YESTERDAY)
    assert begin_return(participation=place_of(small, person)) == 4
    assert begin_return(participation=place_of(small, person)) == 0  # they wait already
    judged = set(Annotation.objects.values_list("item_id", flat=True))
    again = Item.objects.exclude(repeat_of=None)
    assert {item.repeat_of_id for item in again} <= judged
    assert {item.condition for item in again} == {Condition.REAL}
    judge_all(small, person)  # those that chance left over come at the end
    repeats = Annotation.objects.filter(item__in=again)
    small.study.refresh_from_db()
    assert (repeats.count(), small.study.n_slots_done) == (4, 60)


def test_gold_and_catch_items_are_not_repeated_and_nothing_is_repeated_thrice() -> None:
    small = make_study(n_items=10, n_people=1)
    person = small.people[0]
    Item.objects.filter(pk__in=[item.pk for item in small.items[:4]]).update(condition=Condition.CATCH)
    Study.objects.update(repeat_share=1.0)
    judge_all(small, person)
    date_back(YESTERDAY)
    assert begin_return(participation=place_of(small, person)) == 6
    Slot.objects.filter(lane=-2).update(state=Slot.State.DONE)
    assert begin_return(participation=place_of(small, person)) == 0
    assert Item.objects.filter(repeat_of__condition=Condition.CATCH).count() == 0


def test_an_answer_before_the_minimum_viewing_time_is_kept_and_marked() -> None:
    small = make_study()
    Study.objects.update(min_viewing_ms=1500)
    small.study.refresh_from_db()
    quick, slow = (judge(small, small.people[0], 1, visible_ms=ms)[0] for ms in (1499, 1500))
    assert (quick.is_too_quick, slow.is_too_quick) == (True, False)


def test_a_claim_is_filled_with_ordinary_items_where_no_check_is_left() -> None:
    small = study_with_gold(n_gold=1, schedule=[[0, 0.5]])
    person = small.people[0]
    for _ in range(3):
        assert len(judge(small, person, 5)) == 5
    assert n_gold_of(person) <= 1


def test_what_a_claim_still_wants_counts_the_checks_that_it_gave() -> None:
    given = [Slot(pk=1, lane=-1), Slot(pk=2, lane=1), Slot(pk=3, lane=-2)]
    assert rest_of(Wanted(6, [7], n_gold=2, n_repeats=1), given) == Wanted(3, [7, 1, 2, 3], 1, 0, is_begun=True)


def test_a_claim_that_needs_fewer_items_has_no_larger_share_of_checks() -> None:
    kinds = [fewer(Wanted(5, [], n_gold=1, n_repeats=1), 1) for _ in range(2000)]
    assert {kind.n for kind in kinds} == {1}
    assert sum(kind.n_gold for kind in kinds) / 2000 == pytest.approx(0.2, abs=0.06)  # 6.7 standard errors
    assert sum(kind.n_repeats for kind in kinds) / 2000 == pytest.approx(0.2, abs=0.06)
