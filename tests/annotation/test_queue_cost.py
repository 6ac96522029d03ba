"""What a claim costs in statements, for a newcomer and for somebody who has judged nearly everything."""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotation.domain.queue import claim_slots
from annotation.domain.queue_at_once import LOOK_ON_SQLITE, ON_POSTGRESQL, Wanted, adapted, claim_values
from annotation.models import Participation, Slot, User
from tests.annotation.judging import place_of
from tests.annotation.small_study import SmallStudy, make_study

pytestmark = pytest.mark.django_db
N_ITEMS = 1200


@pytest.fixture
def small() -> SmallStudy:
    made = make_study(n_items=N_ITEMS, overlap=3, n_people=2)
    made.study.locked_hash = uuid.uuid4().hex  # launched: its schedule of gold is read once
    made.study.save()
    Participation.objects.update(queue_start=0)  # nobody comes to the end of the ring, where a claim costs more
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
    heavy = small.people[0]
    rng = random.Random(4)
    open_of_first_lane = set(Slot.objects.filter(lane=1).values_list("item_id", flat=True))
    fresh = set(rng.sample(sorted(open_of_first_lane), 100))
    others = Slot.objects.filter(lane=1).exclude(item__in=fresh)
    Slot.objects.filter(pk__in=others.values("pk")).update(state=Slot.State.DONE, annotator=heavy)
    judged = Slot.objects.filter(lane=2).exclude(item__in=fresh)
    Slot.objects.filter(pk__in=judged.values("pk")[:1000]).update(lane=1)  # open, and of items the heavy one has had
    most = 3 if connection.vendor == "postgresql" else 20
    assert statements_per_claim(small, heavy, 15) <= most


def test_a_claim_goes_by_keys_though_the_statistics_are_old(small: SmallStudy) -> None:
    """PostgreSQL counts its rows anew when a tenth of a table has changed; until then it believes that nobody did."""
    busy, other = small.people
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE annotation_slot")
    claim_slots(study=small.study, annotator=busy, n=5)
    others = Slot.objects.filter(lane=2, state=Slot.State.OPEN)
    Slot.objects.filter(pk__in=others.values("pk")[:500]).update(state=Slot.State.DONE, annotator=other)
    Slot.objects.filter(pk__in=others.values("pk")[:500]).update(
        state=Slot.State.LEASED, annotator=other, lease_until=timezone.now()
    )
    held = Slot.objects.filter(annotator=busy, state=Slot.State.LEASED).values_list("pk", flat=True)
    values = claim_values(small.study, busy, Wanted(5, list(held), n_gold=1), now=timezone.now())
    assert n_rows_passed(values) < 60


def n_rows_passed(values: dict[str, Any]) -> int:
    """Slots read and not wanted; on SQLite, which has no such counts, the greatest number if it reads a whole table."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {ON_POSTGRESQL}", values)
            told = cursor.fetchone()[0]
            return rows_removed((json.loads(told) if isinstance(told, str) else told)[0]["Plan"])
        cursor.execute(f"EXPLAIN QUERY PLAN {LOOK_ON_SQLITE}", {name: adapted(value) for name, value in values.items()})
        return sum(N_ITEMS for *_, step in cursor.fetchall() if step.startswith("SCAN annotation_"))


def rows_removed(plan: dict[str, Any]) -> int:
    here = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Join Filter", 0)
    return int(here * plan["Actual Loops"]) + sum(rows_removed(part) for part in plan.get("Plans", []))
