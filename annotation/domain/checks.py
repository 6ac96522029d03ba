"""Checks of a person: gold that falls with experience, and their own items shown again.

Each is a slot that waits for its person, in a lane below 0 that nobody walks. Gold slots are made when somebody first
claims in a study with a schedule: everybody meets every gold item, in an order of their own, as often as the schedule
says. Neither is a judgement the study wants, so neither is counted in its progress.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from annotation.domain.queue_lanes import GOLD, REPEATS, random_key
from annotation.models import Condition, Item, Participation, Slot, Study

Schedule = tuple[tuple[int, float], ...]


def gold_schedule_of(study: Study) -> Schedule:
    """A launched study's version says which settings are in force, so its schedule is read once per process."""
    if study.locked_hash:
        return versioned_schedule(study.pk, study.locked_hash, study.version)
    return read_schedule(study.pk)


def read_schedule(study_id: int) -> Schedule:
    steps = Study.objects.values_list("gold_schedule", flat=True).get(pk=study_id)
    return tuple((int(start), float(share)) for start, share in steps)


@lru_cache(maxsize=256)
def versioned_schedule(study_id: int, locked_hash: str, version: str) -> Schedule:
    return read_schedule(study_id)


def make_gold_slots(*, study: Study, place: Participation) -> int:
    """Let every gold item wait for this person who begins, once; returns how many."""
    mine = Slot.objects.filter(annotator_id=place.user_id, item__study=study, lane=GOLD)
    if not study.gold_schedule or mine.exists():
        return 0
    gold = Item.objects.filter(study=study, condition=Condition.GOLD, repeat_of=None)
    unseen = gold.exclude(slots__annotator_id=place.user_id).order_by("id").values_list("id", flat=True)
    return len(make_waiting_slots(place, unseen, GOLD))


def make_waiting_slots(place: Participation, items: Iterable[int], lane: int) -> list[Slot]:
    return Slot.objects.bulk_create(
        Slot(
            study_id=place.study_id, item_id=item, annotator_id=place.user_id, state=Slot.State.WAITING, lane=lane,
            random_key=random_key(),
        )
        for item in items
    )  # fmt: skip


def take_checks(place: Participation, *, n_gold: int, n_repeats: int, until: datetime) -> list[int]:
    """Lease so many of the checks that wait for this person, if there are as many; the caller holds their row."""
    waiting = Slot.objects.filter(annotator_id=place.user_id, study_id=place.study_id, state=Slot.State.WAITING)
    ids: list[int] = []
    for lane, n in ((GOLD, n_gold), (REPEATS, n_repeats)):
        ids += waiting.filter(lane=lane, lane__lt=0).order_by("random_key", "id").values_list("id", flat=True)[:n]
    if ids:
        Slot.objects.filter(id__in=ids).update(state=Slot.State.LEASED, lease_until=until)
    return ids
