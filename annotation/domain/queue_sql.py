"""The statements of the queue: a look goes along the ring of one lane, which an index serves, until enough is found.

`annotation.domain.queue` says how they belong together, `annotation.domain.queue_at_once` has the common claim.
"""

from __future__ import annotations

# The window bounds what one look may read; it reads no further than it must, since nothing here wants more rows.
RING = """
        SELECT id, item_id, random_key FROM annotation_slot
        WHERE study_id = %(study)s AND state = 'open' AND lane = {lane}
          AND random_key >= {low} AND random_key < {high}
        ORDER BY lane, random_key LIMIT %(window)s
    """
# NOT EXISTS and GROUP BY: nothing this person has had, and one slot per item at most. OFFSET keeps PostgreSQL from
# making a join of it: while its statistics say that nobody has had anything yet, it would read all that they have had.
# On SQLite the order is that of the ring, which it reads row by row; asked for it, SQLite would sort the whole window.
FRESH = f"""fresh AS (
    SELECT id, item_id, random_key FROM ({RING}) ring
    WHERE NOT EXISTS (
        SELECT 1 FROM annotation_slot mine
        WHERE mine.item_id = ring.item_id AND mine.annotator_id = %(annotator)s
          AND mine.state IN ('leased', 'done', 'seen', 'waiting')
        LIMIT 1 OFFSET 0
    )
    {{order}} LIMIT %(wanted)s
), fit AS (
    SELECT MIN(id) AS id, MIN(random_key) AS random_key FROM fresh GROUP BY item_id
)"""
# A state in disguise (|| '') is not the condition of a partial index: the planner shall go by the key it is given, even
# while its statistics, a tenth of the table old, promise that the index of all leases is empty.
FREE = """free AS (
    SELECT id FROM annotation_slot
    WHERE id IN (SELECT id FROM fit) AND state || '' = 'open' {here} FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE annotation_slot SET state = 'leased', annotator_id = %(annotator)s, lease_until = %(until)s
    WHERE id IN (SELECT id FROM free) RETURNING id, item_id, lane, random_key
)"""
STRETCH = {"lane": "%(lane)s", "low": "%(low)s", "high": "%(high)s"}  # as parameters
IN_ORDER, AS_READ = {"order": "ORDER BY random_key"}, {"order": ""}
# How many were found and the last of them; where that is too few, how many slots were looked through and the last.
COUNTS = f"""
SELECT COUNT(*), MAX(random_key),
       CASE WHEN COUNT(*) < %(wanted)s THEN (SELECT COUNT(*) FROM ({RING.format(**STRETCH)}) ring) END,
       CASE WHEN COUNT(*) < %(wanted)s THEN (SELECT MAX(random_key) FROM ({RING.format(**STRETCH)}) ring) END,"""
CLAIM_POSTGRESQL = f"""
WITH {FRESH.format(**STRETCH, **IN_ORDER)}, {FREE.format(here="")}{COUNTS}
       (SELECT STRING_AGG(id::text, ',') FROM claimed) FROM fresh
"""
LOOK_SQLITE = f"WITH {FRESH.format(**STRETCH, **AS_READ)}{COUNTS} (SELECT GROUP_CONCAT(id) FROM fit) FROM fresh"
NEXT_LANE = """
SELECT MIN(lane) FROM annotation_slot WHERE study_id = %s AND state = 'open' AND lane >= %s AND lane < %s
"""
