"""The walk through the lanes, look by look: what a claim does when one look at the place reached is not enough.

A lane is a ring: a person walks it once, from their own start to its end and on from its beginning. What lies urgent is
looked through first, once each time that the study's epoch has moved; the place in the other lanes is kept meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from django.db import connection

from annotation.domain.queue_lanes import Range, lane_ranges
from annotation.domain.queue_sql import CLAIM_POSTGRESQL, LOOK_SQLITE, NEXT_LANE
from annotation.models import Participation, Slot
from annotation.models.study import QUEUE_KEYS

FIRST_WINDOW = 512
LARGEST_WINDOW = 4096
ENOUGH_LOOKED_AT = 512  # slots looked at after which a claim returns what it has rather than looking for more


class Stretch(NamedTuple):
    """A piece of a lane's ring: keys from low to below high."""

    lane: int
    low: int
    high: int


class Look(NamedTuple):
    """What one look along the ring gave."""

    slot_ids: list[int]
    n_seen: int
    has_more: bool
    reached: int


@dataclass
class Walk:
    """One claim on its way."""

    place: Participation
    wanted: int
    now: datetime
    until: datetime
    found: list[int] = field(default_factory=list)
    n_seen: int = 0
    window: int = FIRST_WINDOW

    @property
    def is_over(self) -> bool:
        """Enough was found, or something after a long look."""
        return len(self.found) >= self.wanted or bool(self.found and self.n_seen >= ENOUGH_LOOKED_AT)

    def through(self, stretch: Stretch) -> int | None:
        """Look through a stretch; the key reached where the walk is over before its end, else None."""
        low, has_more = stretch.low, True
        while has_more and not self.is_over:
            look = look_once(self, stretch._replace(low=low))
            self.found += look.slot_ids
            self.n_seen += look.n_seen
            low, has_more = look.reached, look.has_more
            self.window = min(self.window * 8, LARGEST_WINDOW)
        return low if has_more else None


def walk(place: Participation, wanted: int, *, epoch: int, now: datetime, until: datetime) -> list[int]:
    """Lease up to `wanted` slots to the person and move their place; the caller saves it."""
    one = Walk(place, wanted, now, until)
    ranges = lane_ranges(place)
    if place.queue_epoch != epoch:
        look_at_urgent(one, ranges, epoch)
    if not one.is_over:
        was_at_beginning = place.queue_lane is None
        walk_on(one, ranges)
        if not one.found and not was_at_beginning:
            walk_on(one, ranges)  # a whole lap, from the first lane
    return one.found


def look_at_urgent(one: Walk, ranges: Sequence[Range], epoch: int) -> None:
    """Go through the urgent lanes, the place in the others untouched; once they hold nothing, not again this epoch."""
    for lane, _ in ranges:
        for stretch in round_trip(lane, one.place.queue_start):
            one.through(stretch)
    if len(one.found) < one.wanted:
        one.place.queue_epoch = epoch


def walk_on(one: Walk, ranges: Sequence[Range]) -> None:
    """From the place reached to the end of the last lane, or until enough is found."""
    place = one.place
    for stretch in stretches(place, ranges):
        place.queue_lane, place.queue_position = stretch.lane, stretch.low
        reached = one.through(stretch)
        if reached is not None:
            place.queue_position = reached
            return
    place.queue_lane = None


def stretches(place: Participation, ranges: Sequence[Range]) -> Iterator[Stretch]:
    """The rest of the lane the person is in, then every lane after it that has open slots."""
    lane = place.queue_lane
    if lane is not None and any(low <= lane < high for low, high in ranges):
        if place.queue_position >= place.queue_start:
            yield Stretch(lane, place.queue_position, QUEUE_KEYS)
            yield Stretch(lane, 0, place.queue_start)
        else:
            yield Stretch(lane, place.queue_position, place.queue_start)
    else:
        lane = None
    while (lane := next_lane(place.study_id, ranges, lane)) is not None:
        yield from round_trip(lane, place.queue_start)


def round_trip(lane: int, start: int) -> list[Stretch]:
    return [Stretch(lane, start, QUEUE_KEYS), Stretch(lane, 0, start)]


def next_lane(study_id: int, ranges: Sequence[Range], after: int | None) -> int | None:
    """The first lane with open slots behind this one, in the order of the ranges."""
    at = next((index for index, (low, high) in enumerate(ranges) if after is not None and low <= after < high), 0)
    for index, (low, high) in enumerate(ranges[at:]):
        begin = after + 1 if after is not None and index == 0 else low
        with connection.cursor() as cursor:
            cursor.execute(NEXT_LANE, [study_id, begin, high])
            found: int | None = cursor.fetchone()[0]
        if found is not None:
            return found
    return None


def look_once(one: Walk, stretch: Stretch) -> Look:
    wanted = one.wanted - len(one.found)
    values: dict[str, int | datetime] = {
        "study": one.place.study_id, "annotator": one.place.user_id, "lane": stretch.lane, "low": stretch.low,
        "high": stretch.high, "window": one.window, "wanted": wanted,
    }  # fmt: skip
    if stretch.low >= stretch.high:
        return Look([], 0, False, stretch.high)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(CLAIM_POSTGRESQL, values | {"until": one.until})
        else:
            cursor.execute(LOOK_SQLITE, values)
        n_fresh, last_fresh, n_seen, last_seen, text = cursor.fetchone()
    ids = [int(part) for part in text.split(",")] if text else []
    if connection.vendor != "postgresql":
        lease_on_sqlite(ids, one)
    if n_fresh == wanted:
        return Look(ids, n_fresh, True, last_fresh + 1)
    has_more = n_seen == one.window
    return Look(ids, n_seen, has_more, last_seen + 1 if has_more else stretch.high)


def lease_on_sqlite(ids: Sequence[int], one: Walk) -> None:
    """SQLite has one writer, and this transaction is it (IMMEDIATE): a second statement takes what the first saw."""
    if ids:
        Slot.objects.filter(id__in=ids).update(
            state=Slot.State.LEASED, annotator_id=one.place.user_id, lease_until=one.until
        )
