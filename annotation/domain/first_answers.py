"""The common case of a submit in one statement: the first answer to an ordinary item, in the slot the person holds.

One statement is one transaction and one round trip, and it changes all or nothing. Whatever is not the common case
changes nothing and is left to `annotation.domain.answers`, step by step: a replay, a revision, a late answer, a check,
somebody whose part has ended, an answer that does not fit. The person's row is locked before anything else, as
everywhere, so that their own requests go one after the other; a slot that changed while this one waited is looked at
again by PostgreSQL.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.db import IntegrityError, connection
from django.utils import timezone

from annotation.models import Annotation

STORE = """
WITH place AS (
    SELECT id FROM annotation_participation
    WHERE study_id = %(study)s AND user_id = %(person)s AND excluded_at IS NULL AND withdrawn_at IS NULL
    FOR UPDATE
), filled AS (
    UPDATE annotation_slot SET state = 'done', lease_until = NULL
    WHERE id = %(slot)s AND item_id = %(item)s AND annotator_id = %(person)s AND state = 'leased' AND lane >= 0
      AND (SELECT id FROM place) IS NOT NULL
      AND EXISTS (
          SELECT FROM annotation_item
          WHERE id = %(item)s AND study_id = %(study)s AND stimulus_id = %(stimulus)s AND accepted = '{}'
      )
      AND NOT EXISTS (SELECT FROM annotation_annotation WHERE uuid = %(uuid)s)
      AND NOT EXISTS (
          SELECT FROM annotation_annotation WHERE item_id = %(item)s AND annotator_id = %(person)s AND is_current
      )
    RETURNING id
), stored AS (
    INSERT INTO annotation_annotation (COLUMNS) SELECT VALUES FROM filled RETURNING id
), counted AS (
    UPDATE annotation_participation SET n_done = n_done + 1, last_seen_at = %(now)s
    WHERE id = (SELECT id FROM place) AND EXISTS (SELECT FROM stored) RETURNING n_done
)
SELECT stored.id, counted.n_done FROM stored, counted
"""


def store_first(annotation: Annotation) -> int | None:
    """Store the answer in the slot it names and return how many the person has given; None if nothing was stored."""
    if connection.vendor != "postgresql" or annotation.slot_id is None:
        return None
    values = column_values(annotation) | {
        "study": annotation.study_id, "person": annotation.annotator_id, "slot": annotation.slot_id,
        "item": annotation.item_id, "stimulus": annotation.stimulus_id, "uuid": annotation.uuid, "now": timezone.now(),
    }  # fmt: skip
    try:
        with connection.cursor() as cursor:
            cursor.execute(store_statement(), values)
            row = cursor.fetchone()
    except IntegrityError:  # the same UUID, or an answer to the item, came in between: all of this is undone
        if connection.in_atomic_block:
            raise
        return None
    if row is None:
        return None
    annotation.pk, n_done = row
    annotation._state.adding = False
    return int(n_done)


def column_values(annotation: Annotation) -> dict[str, Any]:
    return {
        f"column_{field.column}": field.get_db_prep_save(field.pre_save(annotation, add=True), connection)
        for field in Annotation._meta.concrete_fields
        if not field.primary_key
    }


@lru_cache(maxsize=1)
def store_statement() -> str:
    columns = [field.column for field in Annotation._meta.concrete_fields if not field.primary_key]
    named = STORE.replace("COLUMNS", ", ".join(f'"{column}"' for column in columns))
    return named.replace("VALUES", ", ".join(f"%(column_{column})s" for column in columns))
