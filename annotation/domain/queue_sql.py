"""The statements of the queue: a look goes through a window of the ring of one lane, which an index serves.

`annotation.domain.queue` says how they belong together.
"""

from __future__ import annotations

# NOT EXISTS and GROUP BY: nothing this person has had, and one slot per item at most. OFFSET keeps PostgreSQL from
# making a join of it: while its statistics say that nobody has had anything yet, it would read all that they have had.
FIT = """fit AS (
    SELECT MIN(ring.id) AS id, MIN(ring.random_key) AS random_key FROM ring
    WHERE NOT EXISTS (
        SELECT 1 FROM annotation_slot mine
        WHERE mine.item_id = ring.item_id AND mine.annotator_id = %(annotator)s
          AND mine.state IN ('leased', 'done', 'seen', 'waiting')
        LIMIT 1 OFFSET 0
    )
    GROUP BY ring.item_id ORDER BY 2 LIMIT %(wanted)s
)"""
# A state in disguise (|| '') is not the condition of a partial index: the planner shall go by the key it is given, even
# while its statistics, a tenth of the table old, promise that the index of all leases is empty.
FREE = """free AS (
    SELECT id FROM annotation_slot WHERE id IN (SELECT id FROM fit) AND state || '' = 'open' FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE annotation_slot SET state = 'leased', annotator_id = %(annotator)s, lease_until = %(until)s
    WHERE id IN (SELECT id FROM free) RETURNING id, item_id, lane, random_key
)"""
SCAN = f"""
WITH ring AS (
    SELECT id, item_id, random_key FROM annotation_slot
    WHERE study_id = %(study)s AND state = 'open' AND lane = %(lane)s
      AND random_key >= %(low)s AND random_key < %(high)s
    ORDER BY lane, random_key LIMIT %(window)s
), {FIT}"""
COUNTS = """
SELECT (SELECT COUNT(*) FROM ring), (SELECT MAX(random_key) FROM ring),
       (SELECT COUNT(*) FROM fit), (SELECT MAX(random_key) FROM fit),
       (SELECT COUNT(*) FROM ring WHERE random_key <= (SELECT MAX(random_key) FROM fit)),"""
CLAIM_POSTGRESQL = f"""{SCAN}, {FREE}{COUNTS} (SELECT STRING_AGG(id::text, ',') FROM claimed)"""
LOOK_SQLITE = f"{SCAN}{COUNTS} (SELECT GROUP_CONCAT(id) FROM fit)"
NEXT_LANE = """
SELECT MIN(lane) FROM annotation_slot WHERE study_id = %s AND state = 'open' AND lane >= %s AND lane < %s
"""
