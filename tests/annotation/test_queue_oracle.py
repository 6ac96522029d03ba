"""The common claim and submit, done at once, leave the same rows as the way step by step, whatever happens between.

Two copies of a study are driven through the same seeded course: one as everybody is, one step by step only.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest
from django.db import connection, models
from django.utils import timezone

from annotation.domain import answers, queue
from annotation.domain.answer_message import Answer, AnswerError
from annotation.domain.answers import asked_in, submit_answer, submit_step_by_step
from annotation.domain.first_answers import store_first
from annotation.domain.participation import ParticipationError
from annotation.domain.priorities import make_urgent
from annotation.domain.protocols import validate
from annotation.domain.queue_at_once import claim_at_once
from annotation.domain.queue_order import put_in_order
from annotation.domain.remarks import RemarkText, add_remark
from annotation.models import Annotation, Condition, Item, Participation, Slot, Study, Term
from annotation.models.study import QUEUE_KEYS
from tests.annotation.small_study import NOON, SmallStudy, make_study

pytestmark = pytest.mark.django_db

N_STEPS = 45
PAYLOADS: list[dict[str, Any]] = [
    {"patch_rating": 3, "image_rating": 4, "category": "shape", "label": "round things"},
    {"patch_rating": None, "image_rating": 1, "category": "", "label": ""},
    {"patch_rating": 1, "image_rating": None, "category": "color", "label": "Grün – “gray” 'x' %s {}"},
    {"patch_rating": 2, "image_rating": 2, "category": "other", "label": "x" * 120},
    {"patch_rating": 9, "image_rating": 2},
]


class Course(NamedTuple):
    """What the study is like."""

    n_items: int
    overlap: int
    n_people: int
    order: str
    max_per_person: int | None
    schedule: list[list[float]]


COURSES = [
    Course(30, 1, 3, "breadth", None, []),
    Course(40, 3, 2, "finish", None, [[0, 0.4], [10, 0.2]]),
    Course(30, 2, 2, "breadth", 25, [[0, 0.4], [10, 0.2]]),
    Course(4, 20, 2, "finish", None, []),
    Course(10, 3, 3, "breadth", None, []),
]


@dataclass
class Way:
    """One copy of the study and the way its people claim and submit."""

    small: SmallStudy
    at_once: bool
    hands: dict[int, list[int]] = field(default_factory=dict)
    sent: list[tuple[int, Answer]] = field(default_factory=list)
    first_slot: int = 0

    def __post_init__(self) -> None:
        self.first_slot = min(Slot.objects.filter(study=self.small.study).values_list("pk", flat=True))

    @property
    def study(self) -> Study:
        return Study.objects.get(pk=self.small.study.pk)

    def item_at(self, number: int) -> Item:
        return self.small.items[number]

    def claim(self, who: int, n: int, have: list[int], now: datetime) -> list[int]:
        person, study = self.small.people[who], self.study
        if self.at_once:
            slots = queue.claim_slots(study=study, annotator=person, n=n, have=have, now=now)
        elif study.state != Study.State.OPEN:
            slots = []
        else:
            place = Participation.objects.get(study=study, user=person)
            slots = queue.claim_step_by_step(study, person, queue.drawn(study, place, n, have), now)
        return sorted(slot.pk for slot in slots)

    def submit(self, who: int, answer: Answer) -> tuple[str, int]:
        person, study = self.small.people[who], self.study
        if self.at_once:
            result = submit_answer(annotator=person, study=study, answer=answer)
        else:
            asked = asked_in(study)
            payload = validate(asked.questions, answer.payload, categories=asked.categories)
            result = submit_step_by_step(person, study, answer, payload)
        return result.stored, result.progress.done


def make_way(course: Course, seed: int, *, at_once: bool) -> Way:
    rng = random.Random(seed)
    slug = "at-once" if at_once else "step-by-step"
    small = make_study(n_items=course.n_items, overlap=course.overlap, n_people=course.n_people, slug=slug)
    Study.objects.filter(pk=small.study.pk).update(
        queue_order=course.order, max_per_person=course.max_per_person, gold_schedule=course.schedule, session_length=7
    )
    if course.order == Study.QueueOrder.FINISH:
        Slot.objects.filter(study=small.study).update(lane=1)
    keys = rng.choice([QUEUE_KEYS, course.n_items * course.overlap])  # few keys: the ends of the ring
    slots = list(Slot.objects.filter(study=small.study).order_by("id"))
    for slot, key in zip(slots, rng.sample(range(keys), len(slots)), strict=True):
        slot.random_key = key
    Slot.objects.bulk_update(slots, ["random_key"])
    for person in small.people:
        Participation.objects.filter(user=person).update(
            queue_start=rng.choice([0, rng.randrange(keys), QUEUE_KEYS - 1])
        )
    for item in small.items[: len(small.items) // 5]:
        item.accepted = {"patch_rating": [3, 4]}
        item.condition = Condition.CATCH
        if course.schedule:
            item.condition = Condition.GOLD
            Slot.objects.filter(item=item).delete()
        item.save()
    return Way(small, at_once)


Act = Callable[[Way, random.Random, datetime], object]


def claim(way: Way, rng: random.Random, now: datetime) -> object:
    who, n = rng.randrange(len(way.small.people)), rng.choice([1, 1, 2, 2, 5, 10])
    hand = way.hands.setdefault(who, [])
    kept = list(hand) if rng.random() < 0.9 else [slot for slot in hand if rng.random() < 0.5]
    queue.chance.seed(rng.random())
    given = way.claim(who, n, kept, now)
    hand += [slot for slot in given if slot not in hand]
    return [relative(way, Slot.objects.get(pk=slot)) for slot in given] if given else []


def relative(way: Way, slot: Slot) -> tuple[int, int, int]:
    return slot.item_id - way.small.items[0].pk, slot.lane, slot.random_key if slot.lane >= 0 else 0


def answer(way: Way, rng: random.Random, now: datetime) -> object:
    who = rng.randrange(len(way.small.people))
    hand = way.hands.setdefault(who, [])
    draw, pick, what = rng.random(), rng.randrange(10**6), rng.randrange(len(PAYLOADS))
    payload = PAYLOADS[0 if rng.random() < 0.6 else what]
    if not hand:
        return None
    ordered = sorted(hand, key=lambda pk: relative(way, Slot.objects.get(pk=pk)))
    slot = Slot.objects.select_related("item").get(pk=ordered[pick % len(ordered)])
    item, stimulus = slot.item, slot.item.stimulus_id
    named: int | None = slot.pk
    revised: uuid.UUID | None = None
    if draw < 0.05:
        stimulus = "wrong"
    elif draw < 0.10:
        item = way.item_at(pick % len(way.small.items))
        stimulus = item.stimulus_id
    elif draw < 0.15:
        named = way.first_slot + pick % 7
    elif draw < 0.20:
        named = None
    elif draw < 0.23:
        revised = uuid.UUID(int=rng.getrandbits(128))
    sent = Answer(
        uuid=uuid.UUID(int=rng.getrandbits(127) * 2 + way.at_once), item=item.pk, slot=named, payload=payload,
        submitted_at=NOON + timedelta(microseconds=pick), stimulus_id=stimulus, guideline_version=1,
        timing={"visible_ms": pick % 9000, "shown_at": "2026-11-21T12:00:00+02:00"}, revision_of=revised,
    )  # fmt: skip
    way.sent.append((who, sent))
    stored = way.submit(who, sent)
    hand.remove(slot.pk)
    return stored


def answer_again(way: Way, rng: random.Random, now: datetime) -> object:
    pick, draw = rng.randrange(10**6), rng.random()
    number = rng.getrandbits(127)
    if not way.sent:
        return None
    who, sent = way.sent[pick % len(way.sent)]
    if draw < 0.3:
        sent = Answer(**(vars(sent) | {"uuid": uuid.UUID(int=number * 2 + way.at_once)}))
    elif draw < 0.5:
        sent = Answer(**(vars(sent) | {"payload": PAYLOADS[pick % 3]}))
    elif draw < 0.6:
        who = pick % len(way.small.people)
    return way.submit(who, sent)


def skip(way: Way, rng: random.Random, now: datetime) -> object:
    who, number = rng.randrange(len(way.small.people)), rng.randrange(10**6)
    item = way.item_at(number % len(way.small.items))
    remark = RemarkText(uuid=uuid.UUID(int=rng.getrandbits(127) * 2 + way.at_once), item=item.pk, kind="skip")
    add_remark(annotator=way.small.people[who], study=way.study, remark=remark)
    return None


def come_and_go(way: Way, rng: random.Random, now: datetime) -> object:
    place = Participation.objects.filter(user=rng.choice(way.small.people))
    values: list[dict[str, Any]] = [
        {"excluded_at": now}, {"withdrawn_at": now, "excluded_at": now}, {"practised_at": None},
        {"practised_at": None, "n_old_rounds": 1},
    ]  # fmt: skip
    back = {"excluded_at": None, "withdrawn_at": None, "practised_at": now, "queue_lane": None}
    return place.update(**(back if rng.random() < 0.8 else rng.choice(values)))


def run_study(way: Way, rng: random.Random, now: datetime) -> object:
    study, draw, number = way.study, rng.random(), rng.randrange(10**6)
    if draw < 0.3:
        return make_urgent(study=study, items=[way.item_at(number % len(way.small.items)).pk])
    if draw < 0.5:
        return queue.expire_leases(study=study, now=now + timedelta(hours=number % 2))
    if draw < 0.6:
        put_in_order(study, ["breadth", "finish"][number % 2])
        return None
    if draw < 0.8:
        return Study.objects.filter(pk=study.pk).update(state=["open", "paused"][number % 2])
    return Study.objects.filter(pk=study.pk).update(state="open")


ACTS: list[tuple[Act, int]] = [
    (claim, 14),
    (answer, 20),
    (answer_again, 4),
    (skip, 1),
    (come_and_go, 1),
    (run_study, 2),
]


def outcome(act: Act, way: Way, seed: str, now: datetime) -> object:
    try:
        return act(way, random.Random(seed), now)
    except (AnswerError, ParticipationError) as error:
        return str(error).replace(way.small.study.name, "the study")


def rows_of(way: Way) -> dict[str, list[dict[str, Any]]]:
    """Everything that claims and submits write, as it lies in the database, ids by their places."""
    study = way.small.study
    return {model.__name__: raw_rows(model, study.pk) for model in (Slot, Annotation, Participation, Term)} | {
        "Study": [{"n_slots_done": way.study.n_slots_done, "queue_epoch": way.study.queue_epoch}]
    }


def raw_rows(model: type[models.Model], study: int) -> list[dict[str, Any]]:
    kinds = {str(kind.column): kind for kind in model._meta.concrete_fields}
    columns = ", ".join(f'"{column}"' for column in kinds)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM {model._meta.db_table} WHERE study_id = %s ORDER BY id", [study])
        rows = cursor.fetchall()
    return [{name: plain(kinds[name], value) for name, value in zip(kinds, row, strict=True)} for row in rows]


def plain(kind: models.Field[Any, Any], value: object) -> object:
    """A time by its form, a UUID without the bit that tells the copies apart; ids are made relative by the caller."""
    if isinstance(kind, models.DateTimeField):
        return value and re.sub(r"(\.0+)?(\+00:00)?$", "", re.sub(r"\d", "0", str(value)))
    if isinstance(kind, models.UUIDField):
        return type(value), len(str(value)), str(value)[:-1]
    return type(value).__name__, value


def without_ids(rows: dict[str, list[dict[str, Any]]], way: Way) -> dict[str, list[dict[str, Any]]]:
    """Each id by its place among the ids of its copy."""
    places = {name: {row["id"]: place for place, row in enumerate(of)} for name, of in rows.items() if name != "Study"}
    people = {("int", person.pk): place for place, person in enumerate(way.small.people)}
    places |= {
        "id": {}, "study_id": {("int", way.small.study.pk): 0}, "annotator_id": people, "user_id": people,
        "item_id": {("int", item.pk): place for place, item in enumerate(way.small.items)},
        "slot_id": places["Slot"], "revision_of_id": places["Annotation"],
    }  # fmt: skip
    return {
        name: [
            {
                column: places.get(name if column == "id" else column, {}).get(value, value)
                for column, value in row.items()
            }
            for row in of
        ]
        for name, of in rows.items()
    }


def noting_success(function: Callable[..., Any], successes: set[str]) -> Callable[..., Any]:
    def noting(*given: Any, **named: Any) -> Any:
        result = function(*given, **named)
        if result:
            successes.add(function.__name__)
        return result

    return noting


@pytest.mark.parametrize("seed", range(len(COURSES)))
def test_both_ways_leave_the_same_rows(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "chance", random.Random())
    successes: set[str] = set()
    monkeypatch.setattr(queue, "claim_at_once", noting_success(claim_at_once, successes))
    monkeypatch.setattr(answers, "store_first", noting_success(store_first, successes))
    ways = [make_way(COURSES[seed], seed, at_once=at_once) for at_once in (True, False)]
    rng, now = random.Random(f"{seed}/acts"), timezone.now()
    for number in range(N_STEPS):
        (act,) = rng.choices(*zip(*ACTS, strict=True)) if number > 9 else [(claim, answer)[number % 2]]
        now += timedelta(seconds=rng.choice([1, 1, 10, 300]))
        outcomes = []
        for way in ways:
            random.seed(f"{seed}/{number}")  # the keys of gold slots that are made
            outcomes.append(outcome(act, way, f"{seed}/{number}", now))
        assert outcomes[0] == outcomes[1], (number, act.__name__)
    at_once, step_by_step = (without_ids(rows_of(way), way) for way in ways)
    for name, rows in step_by_step.items():
        assert at_once[name] == rows
    assert "store_first" in successes
    assert "claim_at_once" in successes or COURSES[seed].n_items < 10  # where hardly anything is the common case
