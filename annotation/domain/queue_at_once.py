"""The common claim: all that was wanted lies at the place reached, and nothing else is to be seen to.

On PostgreSQL it is one statement, on SQLite three under the lock of the one writer. Whatever is not the common case
changes nothing there and is left to `annotation.domain.queue`, step by step: leases the browser has lost, people who
are refused, a long way to the next slots, the first claim of all.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from annotation.domain.queue_lanes import GOLD, REPEATS
from annotation.domain.queue_sql import AS_READ, FREE, FRESH, IN_ORDER
from annotation.models import Item, Slot, Study, User
from annotation.models.study import QUEUE_KEYS

EMPTY_SECONDS = 5
NO_LIMIT = 2**31 - 1
WINDOW = 1024  # slots that are looked through at once; who has judged nearly everything needs hundreds

PLACE = f"""
    SELECT id, queue_lane AS lane, queue_position AS low, VERSION AS version,
           CASE WHEN queue_position < queue_start THEN queue_start ELSE {QUEUE_KEYS} END AS high
    FROM annotation_participation
    WHERE study_id = %(study)s AND user_id = %(annotator)s AND practised_at IS NOT NULL AND excluded_at IS NULL
      AND queue_lane IS NOT NULL AND n_done <= %(most_done)s
      AND queue_epoch = (SELECT queue_epoch FROM annotation_study WHERE id = %(study)s AND state = 'open')
      AND (queue_empty_at IS NULL OR queue_empty_at <= %(empty_before)s)"""
LOST_LEASE = """EXISTS (
        SELECT 1 FROM annotation_slot
        WHERE annotator_id = %(annotator)s AND study_id = %(study)s AND lease_until IS NOT NULL
          AND state || '' = 'leased' AND HELD
    )"""
CHECKS = """SELECT id FROM annotation_slot
     WHERE annotator_id = %(annotator)s AND study_id = %(study)s AND lane = LANE AND lane < 0
       AND state || '' = 'waiting'
     ORDER BY random_key, id LIMIT"""
HERE = {name: f"(SELECT {name} FROM ready)" for name in ("lane", "low", "high")}
# Lock the person's row, see that no lease of theirs was lost and no other claim of theirs went before while this one
# waited, look along the ring; where all that is wanted lies there and the checks drawn are waiting, lease them and move
# the place. What a lock hides is missing: fewer are given then.
ON_POSTGRESQL = f"""
WITH place AS ({PLACE.replace("VERSION", "xmin")}
    FOR UPDATE
), ready AS (
    SELECT id, lane, low, high FROM place
    WHERE version = (
        SELECT xmin FROM annotation_participation WHERE study_id = %(study)s AND user_id = %(annotator)s
    ) AND NOT {LOST_LEASE.replace("HELD", "id <> ALL (%(have)s)")}
), {FRESH.format(**HERE, **IN_ORDER)}, checks AS (
    ({CHECKS.replace("LANE", str(GOLD))} %(n_gold)s)
    UNION ALL
    ({CHECKS.replace("LANE", str(REPEATS))} %(n_repeats)s)
), enough AS (
    SELECT id FROM ready
    WHERE (SELECT COUNT(*) FROM fit) = %(wanted)s AND (SELECT COUNT(*) FROM checks) = %(n_gold)s + %(n_repeats)s
), {FREE.format(here="AND EXISTS (SELECT FROM enough)")}, checked AS (
    UPDATE annotation_slot SET state = 'leased', lease_until = %(until)s
    WHERE id = ANY (ARRAY(SELECT id FROM checks)) AND state || '' = 'waiting' AND EXISTS (SELECT FROM enough)
    RETURNING id, item_id, lane, random_key
), moved AS (
    UPDATE annotation_participation
    SET queue_empty_at = NULL, last_seen_at = %(now)s,
        queue_position = COALESCE((SELECT MAX(random_key)::bigint + 1 FROM fresh), queue_position)
    WHERE id = (SELECT id FROM enough)
)
SELECT given.id, given.item_id, given.lane, given.random_key, item.seed, item.stimulus_id
FROM (SELECT * FROM claimed UNION ALL SELECT * FROM checked) given
JOIN annotation_item item ON item.id = given.item_id ORDER BY given.random_key
"""
LOOK_ON_SQLITE = f"""
WITH ready AS ({PLACE.replace("VERSION", "0")}
      AND NOT {LOST_LEASE.replace("HELD", "id NOT IN (SELECT value FROM json_each(%(have)s))")}
), {FRESH.format(**HERE, **AS_READ)}, given AS (
    SELECT id FROM fit
    UNION ALL SELECT id FROM ({CHECKS.replace("LANE", str(GOLD))} %(n_gold)s) WHERE EXISTS (SELECT 1 FROM ready)
    UNION ALL SELECT id FROM ({CHECKS.replace("LANE", str(REPEATS))} %(n_repeats)s) WHERE EXISTS (SELECT 1 FROM ready)
)
SELECT slot.id, slot.item_id, slot.lane, slot.random_key, item.seed, item.stimulus_id
FROM given, annotation_slot slot, annotation_item item
WHERE slot.id = given.id AND item.id = slot.item_id ORDER BY slot.random_key
"""
LEASE_ON_SQLITE = """
UPDATE annotation_slot SET state = 'leased', annotator_id = %(annotator)s, lease_until = %(until)s
WHERE id IN (SELECT value FROM json_each(%(found)s))
"""
MOVE_ON_SQLITE = """
UPDATE annotation_participation SET queue_empty_at = NULL, last_seen_at = %(now)s,
    queue_position = COALESCE(%(reached)s, queue_position)
WHERE study_id = %(study)s AND user_id = %(annotator)s
"""

Row = tuple[int, int, int, int, int, str]


class Wanted(NamedTuple):
    """What is asked for: n items, so many of them checks, beside the slots the browser still holds."""

    n: int
    have: Collection[int]
    n_gold: int = 0
    n_repeats: int = 0
    is_begun: bool = False  # the same claim has given something already

    @property
    def n_ordinary(self) -> int:
        return self.n - self.n_gold - self.n_repeats


def claim_at_once(study: Study, annotator: User, wanted: Wanted, *, now: datetime) -> list[Slot]:
    """The slots leased: none where it is not the common case, fewer than wanted where another claim holds some."""
    values = claim_values(study, annotator, wanted, now=now)
    rows = rows_on_postgresql(values) if connection.vendor == "postgresql" else rows_on_sqlite(values, wanted)
    return [leased_slot(row, study, annotator, lease_end(now)) for row in rows]


def rows_on_postgresql(values: dict[str, Any]) -> list[Row]:
    try:
        with connection.cursor() as cursor:
            cursor.execute(ON_POSTGRESQL, values)
            rows: list[Row] = cursor.fetchall()
    except IntegrityError:  # another request of theirs leased a slot of the same item meanwhile: nothing was changed
        if connection.in_atomic_block:
            raise
        return []
    return rows


def rows_on_sqlite(values: dict[str, Any], wanted: Wanted) -> list[Row]:
    """All or nothing: checks that are drawn and not waiting are made up for step by step."""
    given = {name: adapted(value) for name, value in values.items()}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOOK_ON_SQLITE, given)
        rows: list[Row] = cursor.fetchall()
        if len(rows) < wanted.n:
            return []
        ordinary = [row for row in rows if row[2] >= 0]
        cursor.execute(LEASE_ON_SQLITE, given | {"found": json.dumps([row[0] for row in rows])})
        cursor.execute(MOVE_ON_SQLITE, given | {"reached": ordinary[-1][3] + 1 if ordinary else None})
    return rows


def adapted(value: Any) -> Any:
    """As SQLite takes it: moments as text, lists as JSON."""
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    return json.dumps(value) if isinstance(value, list) else value


def claim_values(study: Study, annotator: User, wanted: Wanted, *, now: datetime) -> dict[str, Any]:
    limit = NO_LIMIT if study.max_per_person is None else study.max_per_person
    return {
        "study": study.pk, "annotator": annotator.pk, "wanted": wanted.n_ordinary, "have": list(wanted.have),
        "n_gold": wanted.n_gold, "n_repeats": wanted.n_repeats, "window": WINDOW, "now": now, "until": lease_end(now),
        "most_done": limit - wanted.n - len(wanted.have), "empty_before": now - timedelta(seconds=EMPTY_SECONDS),
    }  # fmt: skip


def leased_slot(row: tuple[int, int, int, int, int, str], study: Study, annotator: User, until: datetime) -> Slot:
    """The row as it was written; what is left out is read when somebody asks for it."""
    slot_id, item_id, lane, random_key, seed, stimulus_id = row
    slot = Slot(
        id=slot_id, study_id=study.pk, item_id=item_id, state=Slot.State.LEASED, lane=lane, random_key=random_key,
        annotator_id=annotator.pk, lease_until=until,
    )  # fmt: skip
    slot._state.adding, slot._state.db = False, connection.alias
    slot.item = Item.from_db(
        connection.alias, ("id", "study_id", "seed", "stimulus_id"), (item_id, study.pk, seed, stimulus_id)
    )
    return slot


def lease_end(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.LEASE_SECONDS)
