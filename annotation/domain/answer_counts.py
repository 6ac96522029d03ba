"""What is counted beside an answer, apart from storing it: uses of a label, and the study's progress.

Everybody's answers meet at these rows, so on PostgreSQL they are not locked while an answer is stored. A crash in
between costs a count, which closing the study puts right, never an answer.
"""

from __future__ import annotations

from django.db import connection

from annotation.models import Annotation

COUNT_TERM = """
INSERT INTO annotation_term (study_id, text, n_uses) VALUES (%s, %s, 1)
ON CONFLICT (study_id, text) DO UPDATE SET n_uses = annotation_term.n_uses + 1
"""
COUNT_SLOT = "UPDATE annotation_study SET n_slots_done = n_slots_done + %s WHERE id = %s"
# Both counts at once, also where a check adds nothing (it takes as long), the study's row last and for a moment only:
# this commit (never an answer's) does not wait for the disk, unless it is part of a larger transaction.
COUNT_POSTGRESQL = """
WITH unhurried AS (
    SELECT set_config(
        'synchronous_commit', CASE WHEN %(is_alone)s THEN 'off' ELSE current_setting('synchronous_commit') END, TRUE
    ) AS is_set
), term AS (
    INSERT INTO annotation_term (study_id, text, n_uses)
    SELECT %(study)s, %(label)s, 1 FROM unhurried WHERE %(label)s <> ''
    ON CONFLICT (study_id, text) DO UPDATE SET n_uses = annotation_term.n_uses + 1 RETURNING id
)
UPDATE annotation_study SET n_slots_done = n_slots_done + %(n)s
WHERE id = %(study)s AND (SELECT COUNT(*) FROM term) >= 0 AND (SELECT is_set FROM unhurried) IS NOT NULL
"""


def is_counted_apart() -> bool:
    """Not where there is one writer at a time (SQLite): to count apart would be to wait for its turn twice more."""
    return connection.vendor == "postgresql"


def count_afterwards(annotation: Annotation, *, fills_slot: bool) -> None:
    """One more use of the label, for type-ahead, and one more slot done where it fills one of the study's."""
    label = annotation.label[:120]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            values: dict[str, int | str] = {
                "study": annotation.study_id, "label": label, "n": int(fills_slot),
                "is_alone": not connection.in_atomic_block,
            }  # fmt: skip
            cursor.execute(COUNT_POSTGRESQL, values)
            return
        if label:
            cursor.execute(COUNT_TERM, [annotation.study_id, label])
        cursor.execute(COUNT_SLOT, [int(fills_slot), annotation.study_id])
