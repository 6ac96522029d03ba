"""What a claim costs in statements, for a newcomer and for somebody who has judged nearly everything."""

from __future__ import annotations

import random
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotation.domain.queue import claim_slots, claim_step_by_step
from annotation.domain.queue_at_once import Wanted
from annotation.models import Slot, User
from annotation.models.study import FIRST_WINDOW
from tests.annotation.judging import place_of
from tests.annotation.small_study import SmallStudy, make_study

pytestmark = pytest.mark.django_db
N_ITEMS = 1200


@pytest.fixture
def small() -> SmallStudy:
    made = make_study(n_items=N_ITEMS, overlap=3, n_people=2)
    made.study.locked_hash = uuid.uuid4().hex  # launched: its schedule of gold is read once
    made.study.save()
    return made


def statements_per_claim(small: SmallStudy, person: User, n_claims: int) -> float:
    """Beyond the first claim, which finds the person's place."""
    n_statements = 0
    for number in range(n_claims + 1):
        place = place_of(small, person)
        with CaptureQueriesContext(connection) as queries:
            slots = claim_slots(study=small.study, annotator=person, n=5, place=place)
        n_statements += len(queries) if number else 0
        assert len(slots) == 5
        Slot.objects.filter(pk__in=[slot.pk for slot in slots]).update(state=Slot.State.DONE)
    return n_statements / n_claims


def test_the_common_claim_is_one_statement(small: SmallStudy) -> None:
    most = 1 if connection.vendor == "postgresql" else 5  # of these, BEGIN and COMMIT
    assert statements_per_claim(small, small.people[0], 20) <= most


def test_somebody_who_has_judged_nearly_everything_mostly_needs_one_too(small: SmallStudy) -> None:
    heavy, rest = small.people
    rng = random.Random(4)
    open_of_first_lane = set(Slot.objects.filter(lane=1).values_list("item_id", flat=True))
    fresh = set(rng.sample(sorted(open_of_first_lane), 100))
    others = Slot.objects.filter(lane=1).exclude(item__in=fresh)
    Slot.objects.filter(pk__in=others.values("pk")).update(state=Slot.State.DONE, annotator=heavy)
    judged = Slot.objects.filter(lane=2).exclude(item__in=fresh)
    Slot.objects.filter(pk__in=judged.values("pk")[:1000]).update(lane=1)  # open, and of items the heavy one has had
    most = 3 if connection.vendor == "postgresql" else 20
    assert statements_per_claim(small, heavy, 15) <= most
    assert place_of(small, heavy).queue_window > FIRST_WINDOW
    assert place_of(small, rest).queue_window == FIRST_WINDOW


def test_a_window_that_was_wide_enough_does_not_grow(small: SmallStudy) -> None:
    person = small.people[0]
    for _ in range(6):
        slots = claim_step_by_step(small.study, person, Wanted(5, ()), timezone.now())
        assert len(slots) == 5
        Slot.objects.filter(pk__in=[slot.pk for slot in slots]).update(state=Slot.State.DONE)
    assert place_of(small, person).queue_window == FIRST_WINDOW
