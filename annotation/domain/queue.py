"""The queue: slots are claimed under a lease, by one statement, and never counted (research/annotation.md R1, R2).

The open slots of a study form a ring ordered by their random key. A person starts at a random place and walks on, so
people neither wait for each other's rows nor share an order. The walk looks at the ring through a window that an index
serves, and one look at (item, annotator) per slot of the window tells what this person may not be offered. The place
reached is kept, so that what was passed over once is not looked at again before the next lap: a person who has judged
nearly everything costs no more than a newcomer. A lap that finds nothing returns expired leases, and is remembered.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from annotation.domain.participation import ParticipationError
from annotation.models import Item, Participation, Slot, Study, User
from annotation.models.study import QUEUE_KEYS

FIRST_WINDOW = 64
LARGEST_WINDOW = 4096
ENOUGH_LOOKED_AT = 512  # slots looked at after which a claim returns what it has rather than looking for more
EMPTY_SECONDS = 5
EXPIRE_AT_ONCE = 1000

# NOT EXISTS and GROUP BY: nothing this person has had, and one slot per item at most.
FIT = """fit AS (
    SELECT MIN(ring.id) AS id, MIN(ring.random_key) AS random_key FROM ring
    WHERE NOT EXISTS (
        SELECT 1 FROM annotation_slot mine
        WHERE mine.item_id = ring.item_id AND mine.annotator_id = %(annotator)s
          AND mine.state IN ('leased', 'done', 'seen')
    )
    GROUP BY ring.item_id ORDER BY 2 LIMIT %(wanted)s
)"""
FREE = """free AS (
    SELECT id FROM annotation_slot WHERE id IN (SELECT id FROM fit) AND state = 'open' FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE annotation_slot SET state = 'leased', annotator_id = %(annotator)s, lease_until = %(until)s
    WHERE id IN (SELECT id FROM free) RETURNING id, item_id, random_key
)"""
SCAN = f"""
WITH ring AS (
    SELECT id, item_id, random_key FROM annotation_slot
    WHERE study_id = %(study)s AND state = 'open' AND random_key >= %(low)s AND random_key < %(high)s
    ORDER BY random_key LIMIT %(window)s
), {FIT}"""
COUNTS = """
SELECT (SELECT COUNT(*) FROM ring), (SELECT MAX(random_key) FROM ring),
       (SELECT COUNT(*) FROM fit), (SELECT MAX(random_key) FROM fit),"""
CLAIM_POSTGRESQL = f"""{SCAN}, {FREE}{COUNTS} (SELECT STRING_AGG(id::text, ',') FROM claimed)"""
# The common case whole: lock the person's row, see that no lease of theirs was lost and no other claim of theirs went
# before while this one waited, look through the first window, lease, move the place.
CLAIM_AT_ONCE = f"""
WITH place AS (
    SELECT id, queue_position, xmin AS version FROM annotation_participation
    WHERE study_id = %(study)s AND user_id = %(annotator)s AND practised_at IS NOT NULL
      AND (queue_empty_at IS NULL OR queue_empty_at <= %(empty_before)s)
    FOR UPDATE
), ring AS (
    SELECT id, item_id, random_key FROM annotation_slot
    WHERE study_id = %(study)s AND state = 'open' AND random_key >= (SELECT queue_position FROM place)
      AND (SELECT version FROM place) = (
          SELECT xmin FROM annotation_participation WHERE study_id = %(study)s AND user_id = %(annotator)s
      )
      AND NOT EXISTS (
          SELECT FROM annotation_slot
          WHERE annotator_id = %(annotator)s AND study_id = %(study)s AND state = 'leased' AND id <> ALL (%(have)s)
      )
    ORDER BY random_key LIMIT %(window)s
), {FIT}, {FREE}, moved AS (
    UPDATE annotation_participation
    SET queue_empty_at = NULL, last_seen_at = %(now)s, queue_position = CASE
        WHEN (SELECT COUNT(*) FROM fit) = %(wanted)s THEN (SELECT MAX(random_key)::bigint + 1 FROM fit)
        WHEN (SELECT COUNT(*) FROM ring) = %(window)s THEN (SELECT MAX(random_key)::bigint + 1 FROM ring)
        ELSE queue_position END
    WHERE id = (SELECT id FROM place)
)
SELECT claimed.id, claimed.item_id, claimed.random_key, item.seed, item.stimulus_id
FROM claimed JOIN annotation_item item ON item.id = claimed.item_id ORDER BY claimed.random_key
"""
LOOK_SQLITE = f"{SCAN}{COUNTS} (SELECT GROUP_CONCAT(id) FROM fit)"


class Look(NamedTuple):
    """What one look through the window gave."""

    slot_ids: list[int]
    n_seen: int
    has_more: bool
    reached: int


def claim_slots(
    *, study: Study, annotator: User, n: int = 5, have: Collection[int] = (), now: datetime | None = None
) -> list[Slot]:
    """Lease up to n slots to the annotator: first those leased to them already that their browser has lost.

    `have` names the slots their browser still holds, answers not yet acknowledged included. Empty when the study is
    not open, or nothing is left for this person. Raises ParticipationError before practice is passed.
    """
    moment = now or timezone.now()
    if study.state != Study.State.OPEN:
        return []
    slots = claim_at_once(study, annotator, (n, have), moment)
    return slots if len(slots) == n else claim_step_by_step(study, annotator, (n, have), moment)


def claim_at_once(study: Study, annotator: User, wanted: tuple[int, Collection[int]], now: datetime) -> list[Slot]:
    """The common case in one statement; gives fewer slots than wanted (leased all the same) where it is another."""
    if connection.vendor != "postgresql":
        return []
    try:
        with connection.cursor() as cursor:
            cursor.execute(CLAIM_AT_ONCE, claim_values(study, annotator, *wanted, now=now))
            rows = cursor.fetchall()
    except IntegrityError:  # another request of theirs leased a slot of the same item meanwhile: nothing was changed
        if connection.in_atomic_block:
            raise
        return []
    return [leased_slot(row, study, annotator, lease_end(now)) for row in rows]


def claim_values(
    study: Study, annotator: User, n: int, have: Collection[int] = (), now: datetime | None = None
) -> dict[str, Any]:
    moment = now or timezone.now()
    return {
        "study": study.pk, "annotator": annotator.pk, "wanted": n, "have": list(have), "window": FIRST_WINDOW,
        "now": moment, "until": lease_end(moment), "empty_before": moment - timedelta(seconds=EMPTY_SECONDS),
    }  # fmt: skip


def leased_slot(row: tuple[int, int, int, int, str], study: Study, annotator: User, until: datetime) -> Slot:
    """The row as it was written; what is left out is read when somebody asks for it."""
    slot_id, item_id, random_key, seed, stimulus_id = row
    slot = Slot(
        id=slot_id, study_id=study.pk, item_id=item_id, state=Slot.State.LEASED, random_key=random_key,
        annotator_id=annotator.pk, lease_until=until,
    )  # fmt: skip
    slot._state.adding, slot._state.db = False, connection.alias
    slot.item = Item.from_db(
        connection.alias, ("id", "study_id", "seed", "stimulus_id"), (item_id, study.pk, seed, stimulus_id)
    )
    return slot


def claim_step_by_step(
    study: Study, annotator: User, wanted: tuple[int, Collection[int]], moment: datetime
) -> list[Slot]:
    """Every case: leases the browser has lost, people who are refused, any number of looks, expired leases."""
    n, have = wanted
    with transaction.atomic():
        place = Participation.objects.select_for_update().filter(study=study, user=annotator).first()
        if place is None or place.practised_at is None:
            raise ParticipationError(f"Finish the practice of '{study.name}' before you begin.")
        ids = held_slots(study, annotator, have)[:n]
        extend_leases(annotator=annotator, slot_ids=ids, now=moment)
        if len(ids) < n:
            ids += claim_new(place, n - len(ids), moment)
    slots = Slot.objects.select_related("item").in_bulk(ids)
    return [slots[slot_id] for slot_id in ids]


def held_slots(study: Study, annotator: User, have: Collection[int]) -> list[int]:
    leased = Slot.objects.filter(annotator=annotator, study=study, state=Slot.State.LEASED)
    return [pk for pk in leased.order_by("id").values_list("id", flat=True) if pk not in set(have)]


def claim_new(place: Participation, n: int, now: datetime) -> list[int]:
    if place.queue_empty_at is not None and now - place.queue_empty_at < timedelta(seconds=EMPTY_SECONDS):
        return []
    ids = walk(place, n, now)
    if not ids and expire_leases(study=place.study, now=now):
        ids = walk(place, n, now)
    place.queue_empty_at = None if ids else now
    place.last_seen_at = now
    place.save(update_fields=["queue_position", "queue_empty_at", "last_seen_at"])
    return ids


def walk(place: Participation, n: int, now: datetime) -> list[int]:
    """Walk on round the ring from the place reached, at most one lap; moves the place."""
    start = place.queue_position
    found: list[int] = []
    n_seen, window = (
        0,
        FIRST_WINDOW * (8 if connection.vendor == "postgresql" else 1),
    )  # the first look was claim_at_once
    for low, high in ((start, QUEUE_KEYS), (0, start)):
        position, has_more = low, True
        while has_more and len(found) < n and not (found and n_seen >= ENOUGH_LOOKED_AT):
            look = look_once(place, (position, high, window), n - len(found), now)
            found += look.slot_ids
            n_seen += look.n_seen
            position, has_more = look.reached, look.has_more
            window = min(window * 8, LARGEST_WINDOW)
            place.queue_position = position
    return found


def look_once(place: Participation, window: tuple[int, int, int], wanted: int, now: datetime) -> Look:
    low, high, size = window
    values: dict[str, int | datetime] = {
        "study": place.study_id, "annotator": place.user_id, "low": low, "high": high, "window": size,
        "wanted": wanted, "until": lease_end(now),
    }  # fmt: skip
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(CLAIM_POSTGRESQL, values)
        else:
            del values["until"]
            cursor.execute(LOOK_SQLITE, values)
        n_seen, last_seen, n_fit, last_fit, text = cursor.fetchone()
    ids = [int(part) for part in text.split(",")] if text else []
    if connection.vendor != "postgresql":
        lease_on_sqlite(ids, place.user_id, now)
    if n_fit == wanted:
        return Look(ids, n_seen, True, last_fit + 1)
    return Look(ids, n_seen, n_seen == size, high if n_seen < size else last_seen + 1)


def lease_on_sqlite(ids: Sequence[int], annotator_id: int, now: datetime) -> None:
    """SQLite has one writer, and this transaction is it (IMMEDIATE): a second statement takes what the first saw."""
    if ids:
        Slot.objects.filter(id__in=ids).update(
            state=Slot.State.LEASED, annotator_id=annotator_id, lease_until=lease_end(now)
        )


def lease_end(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.LEASE_SECONDS)


def extend_leases(*, annotator: User, slot_ids: Collection[int], now: datetime | None = None) -> int:
    """The heartbeat: renew the leases still held, expired ones that nobody took included; returns how many."""
    if not slot_ids:
        return 0
    mine = Slot.objects.filter(id__in=list(slot_ids), annotator=annotator, state=Slot.State.LEASED)
    return mine.update(lease_until=lease_end(now or timezone.now()))


def release_slots(*, annotator: User, slot_ids: Collection[int]) -> int:
    """Give leases back, as when the page is left; returns how many."""
    if not slot_ids:
        return 0
    mine = Slot.objects.filter(id__in=list(slot_ids), annotator=annotator, state=Slot.State.LEASED)
    return mine.update(state=Slot.State.OPEN, annotator=None, lease_until=None)


def expire_leases(*, study: Study, now: datetime | None = None) -> int:
    """Return slots whose lease has run out; answers that come later are still kept (annotation.domain.answers)."""
    moment = now or timezone.now()
    with transaction.atomic():
        expired = Slot.objects.filter(study=study, state=Slot.State.LEASED, lease_until__lt=moment)
        if connection.features.has_select_for_update_skip_locked:
            expired = expired.select_for_update(skip_locked=True)
        ids = list(expired.order_by("lease_until").values_list("id", flat=True)[:EXPIRE_AT_ONCE])
        return Slot.objects.filter(id__in=ids).update(state=Slot.State.OPEN, annotator=None, lease_until=None)
