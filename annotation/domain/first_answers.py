"""The common case of a submit: the first answer to an item, in the slot the person holds.

On PostgreSQL it is one statement, which is one transaction and one round trip; on SQLite it is a few under the lock of
the one writer, the counts beside it among them. It changes all or nothing. Whatever is not the common case changes
nothing and is left to `annotation.domain.answers`, step by step: a replay, a revision, a late answer, somebody whose
part has ended, an answer that does not fit. A check is the common case too: it comes scored, and by the time its reply
takes nobody can tell it. The person's row is locked before anything else, as everywhere, so
that their own requests go one after the other; a slot that changed while this one waited is looked at again by
PostgreSQL.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from annotation.domain.answer_counts import count_afterwards
from annotation.models import Annotation

IN_FORCE = """study_id = %(column_study_id)s AND user_id = %(column_annotator_id)s
      AND excluded_at IS NULL AND withdrawn_at IS NULL
      AND consented_at IS NOT NULL AND (practised_at IS NOT NULL OR n_old_rounds > 0)"""
FILL = """UPDATE annotation_slot SET state = 'done', lease_until = NULL
    WHERE id = %(column_slot_id)s AND item_id = %(column_item_id)s AND annotator_id = %(column_annotator_id)s
      AND state || '' = 'leased'
      AND EXISTS (
          SELECT 1 FROM annotation_item
          WHERE id = %(column_item_id)s AND study_id = %(column_study_id)s AND stimulus_id = %(column_stimulus_id)s
            AND (accepted = '{}') = (%(n_gold)s = 0)
      )
      AND NOT EXISTS (SELECT 1 FROM annotation_annotation WHERE uuid = %(column_uuid)s)
      AND NOT EXISTS (
          SELECT 1 FROM annotation_annotation
          WHERE item_id = %(column_item_id)s AND annotator_id = %(column_annotator_id)s AND is_current
      )"""
COUNTS = """n_done = n_done + 1, n_gold = n_gold + %(n_gold)s, n_gold_right = n_gold_right + %(n_right)s,
      last_seen_at = %(now)s"""
ON_POSTGRESQL = f"""
WITH place AS (
    SELECT id FROM annotation_participation
    WHERE {IN_FORCE}
    FOR UPDATE
), filled AS (
    {FILL} AND (SELECT id FROM place) IS NOT NULL
    RETURNING id, lane
), stored AS (
    INSERT INTO annotation_annotation (COLUMNS) SELECT ANSWER FROM filled RETURNING id
), counted AS (
    UPDATE annotation_participation SET {COUNTS}
    WHERE id = (SELECT id FROM place) AND EXISTS (SELECT FROM stored) RETURNING n_done
)
SELECT stored.id, counted.n_done, filled.lane FROM stored, counted, filled
"""
FILL_ON_SQLITE = f"{FILL} AND EXISTS (SELECT 1 FROM annotation_participation WHERE {IN_FORCE}) RETURNING lane"
STORE_ON_SQLITE = "INSERT INTO annotation_annotation (COLUMNS) VALUES (ANSWER) RETURNING id"
COUNT_ON_SQLITE = f"UPDATE annotation_participation SET {COUNTS} WHERE {IN_FORCE} RETURNING n_done"


def store_first(annotation: Annotation) -> int | None:
    """Store the scored answer in the slot it names and return how many the person has given; None if it was not."""
    if annotation.slot_id is None:
        return None
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    store = store_on_postgresql if connection.vendor == "postgresql" else store_on_sqlite
    try:
        stored = store(annotation, column_values(annotation) | gold_counts(annotation) | {"now": now})
    except IntegrityError:  # the same UUID, or an answer to the item, came in between: all of this is undone
        if connection.in_atomic_block:
            raise
        return None
    if stored is None:
        return None
    annotation.pk, n_done = stored
    annotation._state.adding = False
    return n_done


def store_on_postgresql(annotation: Annotation, values: dict[str, Any]) -> tuple[int, int] | None:
    with connection.cursor() as cursor:
        cursor.execute(with_columns(ON_POSTGRESQL), values)
        stored: tuple[int, int, int] | None = cursor.fetchone()
    if stored is None:
        return None
    pk, n_done, lane = stored
    count_afterwards(annotation, fills_slot=lane >= 0)
    return pk, n_done


def store_on_sqlite(annotation: Annotation, values: dict[str, Any]) -> tuple[int, int] | None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(FILL_ON_SQLITE, values)
        filled = cursor.fetchone()
        if filled is None:
            return None
        cursor.execute(with_columns(STORE_ON_SQLITE), values)
        pk = cursor.fetchone()[0]
        cursor.execute(COUNT_ON_SQLITE, values)
        n_done = cursor.fetchone()[0]
        count_afterwards(annotation, fills_slot=filled[0] >= 0)
    return pk, n_done


def gold_counts(annotation: Annotation) -> dict[str, int]:
    return {"n_gold": int(annotation.is_gold_right is not None), "n_right": int(bool(annotation.is_gold_right))}


def column_values(annotation: Annotation) -> dict[str, Any]:
    return {
        f"column_{field.column}": field.get_db_prep_save(field.pre_save(annotation, add=True), connection)
        for field in Annotation._meta.concrete_fields
        if not field.primary_key
    }


@lru_cache(maxsize=2)
def with_columns(statement: str) -> str:
    columns = [field.column for field in Annotation._meta.concrete_fields if not field.primary_key]
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(f"%(column_{column})s" for column in columns)
    return statement.replace("COLUMNS", names).replace("ANSWER", values)
