"""Claims measured in SQL: annotators in several processes claim five items at a time, at a pace or as fast as they can.

The time of a claim is the sum of its statements as the client sees them, while all annotators claim: round trips,
locks, the wait for the disk and for a turn on the processor included. The time inside PostgreSQL, planning included, is
that of the same statement under EXPLAIN ANALYZE, alone and rolled back.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import threading
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import connection, connections, transaction
from django.utils import timezone

from annotation.domain.queue import claim_slots
from annotation.domain.queue_at_once import ON_POSTGRESQL, Wanted, claim_values
from annotation.models import Participation, Slot, Study, User
from annotation.models.study import QUEUE_KEYS

N_PROCESSES = 4


@dataclass(frozen=True)
class ClaimLoad:
    """`pause` seconds between two claims of one annotator; 0 is a closed loop."""

    study: int
    users: tuple[int, ...]
    seconds: float
    pause: float
    n: int = 5


class ClaimTimes(NamedTuple):
    """Milliseconds per claim by annotator, and the slots each was given."""

    milliseconds: dict[int, list[float]]
    slots: dict[int, list[int]]
    n_empty: int


def measure_claims(load: ClaimLoad) -> ClaimTimes:
    connections.close_all()  # a forked child must not share one
    context = multiprocessing.get_context("fork")
    shares = [load.users[index::N_PROCESSES] for index in range(N_PROCESSES)]
    with context.Pool(N_PROCESSES) as pool:
        parts = pool.starmap(claim_as, [(load, share) for share in shares if share])
    times: dict[int, list[float]] = {}
    slots: dict[int, list[int]] = {}
    for part in parts:
        times |= part.milliseconds
        slots |= part.slots
    return ClaimTimes(times, slots, sum(part.n_empty for part in parts))


def times_inside_postgresql(study: Study, users: tuple[int, ...], n_claims: int = 160) -> list[float]:
    """Milliseconds of the first look of a claim of five, mostly all of it, for another person and place each time."""
    times: list[float] = []
    people = list(User.objects.filter(pk__in=users))
    rng = random.Random(7)
    for number in range(n_claims):
        user = people[number % len(people)]
        with transaction.atomic(), connection.cursor() as cursor:
            place = Participation.objects.filter(study=study, user=user)
            place.update(queue_lane=1, queue_position=rng.randrange(QUEUE_KEYS), queue_start=0, queue_empty_at=None)
            values = claim_values(study, user, Wanted(5, ()), now=timezone.now())
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {ON_POSTGRESQL}", values)
            plan = cursor.fetchone()[0]
            transaction.set_rollback(True)
        told = (json.loads(plan) if isinstance(plan, str) else plan)[0]
        times.append(told["Planning Time"] + told["Execution Time"])
    return times


def claim_as(load: ClaimLoad, users: tuple[int, ...]) -> ClaimTimes:
    """One process: a thread per annotator."""
    result = ClaimTimes({user: [] for user in users}, {user: [] for user in users}, 0)
    empty: list[int] = []
    threads = [threading.Thread(target=claim_until, args=(load, user, result, empty)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result._replace(n_empty=len(empty))


def claim_until(load: ClaimLoad, user_id: int, result: ClaimTimes, empty: list[int]) -> None:
    study, user = Study.objects.get(pk=load.study), User.objects.get(pk=user_id)
    rng = random.Random(user_id)
    spent = [0.0]

    def stopwatch(execute: Any, *arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return execute(*arguments)
        finally:
            spent[0] += time.perf_counter() - start

    time.sleep(rng.random() * min(load.pause, load.seconds))
    deadline = time.monotonic() + load.seconds
    while time.monotonic() < deadline:
        spent[0] = 0.0
        place = Participation.objects.get(study=study, user=user)  # a request has it from looking up its session
        with connection.execute_wrapper(stopwatch):
            slots = claim_slots(study=study, annotator=user, n=load.n, place=place)
        result.milliseconds[user_id].append(1000 * spent[0])
        result.slots[user_id] += [slot.pk for slot in slots]
        Slot.objects.filter(pk__in=[slot.pk for slot in slots]).update(state="done", lease_until=None)
        if not slots:
            empty.append(user_id)
        if load.pause:
            time.sleep(load.pause * rng.uniform(0.5, 1.5))
    connection.close()
