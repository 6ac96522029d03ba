"""The order of the queue as small numbers: every open slot lies in a lane, and lanes are walked in order.

Lane 0 of a range is urgent (items people disagree on, items begun, judgements wanted anew); from 1 on, breadth first,
lane k holds the k-th judgement of each item, so that every item is judged once before any is judged twice. A
reservation has a range of its own, a hundred lanes from 100 times its number on. Below 0 lie checks of a person, which
are not wanted by the study and are walked by nobody: gold of a schedule, and a person's own items shown again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from annotation.models import Assignment, Participation, Study
from annotation.models.study import QUEUE_KEYS

URGENT, FIRST = 0, 1
GOLD, REPEATS = -1, -2
LANES = 100  # of everybody, and of each reservation
REPEAT_CHANCE = 0.15  # that the next item is one of a person's own again, while there are such

Range = tuple[int, int]


def first_lane(study: Study, number: int) -> int:
    """The lane of an item's slot number 0, 1, ...: all alike where what was begun is finished first."""
    if study.queue_order == Study.QueueOrder.FINISH:
        return FIRST
    return FIRST + min(number, LANES - FIRST - 1)


def random_key() -> int:
    """A place in the ring of a lane."""
    return random.randrange(QUEUE_KEYS)


def lane_ranges(place: Participation) -> list[Range]:
    """What a person may be given, first what is reserved for them, then for their cohort, then everybody's."""
    mine = Assignment.objects.filter(study_id=place.study_id, withdrawn_at=None)
    own = list(mine.filter(person_id=place.user_id).order_by("id").values_list("id", flat=True))
    if place.cohort_id is not None:
        own += mine.filter(cohort_id=place.cohort_id).order_by("id").values_list("id", flat=True)
    return [(number * LANES, (number + 1) * LANES) for number in [*own, 0]]


def gold_share(schedule: Sequence[Sequence[float]], n_done: int) -> float:
    """The share of gold among the next items of somebody who has answered this many; 0 without a schedule."""
    reached = [(start, share) for start, share in schedule if n_done >= start]
    return max(reached)[1] if reached else 0.0


def draw_gold(schedule: Sequence[Sequence[float]], n_done: int, n: int, rng: random.Random) -> int:
    """How many of the next n items are gold."""
    return sum(rng.random() < gold_share(schedule, n_done + number) for number in range(n)) if schedule else 0


def draw_repeats(place: Participation, n: int, rng: random.Random) -> int:
    return sum(rng.random() < REPEAT_CHANCE for _ in range(n)) if place.n_repeats else 0
