"""The statements of the queue: a look goes through a window of the ring of one lane, which an index serves.

`annotation.domain.queue` says how they belong together.
"""

from __future__ import annotations

from annotation.models.study import QUEUE_KEYS

# NOT EXISTS and GROUP BY: nothing this person has had, and one slot per item at most.
FIT = """fit AS (
    SELECT MIN(ring.id) AS id, MIN(ring.random_key) AS random_key FROM ring
    WHERE NOT EXISTS (
        SELECT 1 FROM annotation_slot mine
        WHERE mine.item_id = ring.item_id AND mine.annotator_id = %(annotator)s
          AND mine.state IN ('leased', 'done', 'seen', 'waiting')
    )
    GROUP BY ring.item_id ORDER BY 2 LIMIT %(wanted)s
)"""
FREE = """free AS (
    SELECT id FROM annotation_slot WHERE id IN (SELECT id FROM fit) AND state = 'open' FOR UPDATE SKIP LOCKED
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
# The common case whole: lock the person's row, see that no lease of theirs was lost and no other claim of theirs went
# before while this one waited, look through the first window, lease, take the checks drawn, move the place.
CLAIM_AT_ONCE = f"""
WITH place AS (
    SELECT id, queue_lane AS lane, queue_position AS low, xmin AS version,
           CASE WHEN queue_position < queue_start THEN queue_start ELSE {QUEUE_KEYS} END AS high
    FROM annotation_participation
    WHERE study_id = %(study)s AND user_id = %(annotator)s AND practised_at IS NOT NULL AND excluded_at IS NULL
      AND queue_lane IS NOT NULL AND n_done <= %(most_done)s
      AND queue_epoch = (SELECT queue_epoch FROM annotation_study WHERE id = %(study)s)
      AND (queue_empty_at IS NULL OR queue_empty_at <= %(empty_before)s)
    FOR UPDATE
), ready AS (
    SELECT id, lane, low, high FROM place
    WHERE version = (
          SELECT xmin FROM annotation_participation WHERE study_id = %(study)s AND user_id = %(annotator)s
      )
      AND NOT EXISTS (
          SELECT FROM annotation_slot
          WHERE annotator_id = %(annotator)s AND study_id = %(study)s AND state = 'leased' AND id <> ALL (%(have)s)
      )
), ring AS (
    SELECT id, item_id, random_key FROM annotation_slot
    WHERE study_id = %(study)s AND state = 'open' AND lane = (SELECT lane FROM ready)
      AND random_key >= (SELECT low FROM ready) AND random_key < (SELECT high FROM ready)
    ORDER BY lane, random_key LIMIT %(window)s
), {FIT}, {FREE}, checks AS (
    (SELECT id FROM annotation_slot
     WHERE annotator_id = %(annotator)s AND study_id = %(study)s AND lane = -1 AND state = 'waiting'
     ORDER BY random_key LIMIT %(n_gold)s)
    UNION ALL
    (SELECT id FROM annotation_slot
     WHERE annotator_id = %(annotator)s AND study_id = %(study)s AND lane = -2 AND state = 'waiting'
     ORDER BY random_key LIMIT %(n_repeats)s)
), checked AS (
    UPDATE annotation_slot SET state = 'leased', lease_until = %(until)s
    WHERE id IN (SELECT id FROM checks) AND state = 'waiting' AND EXISTS (SELECT FROM ready)
    RETURNING id, item_id, lane, random_key
), moved AS (
    UPDATE annotation_participation
    SET queue_empty_at = NULL, last_seen_at = %(now)s, queue_position = COALESCE(CASE
        WHEN (SELECT COUNT(*) FROM fit) = %(wanted)s THEN (SELECT MAX(random_key)::bigint + 1 FROM fit)
        WHEN (SELECT COUNT(*) FROM ring) = %(window)s THEN (SELECT MAX(random_key)::bigint + 1 FROM ring)
        END, queue_position)
    WHERE id = (SELECT id FROM ready)
)
SELECT given.id, given.item_id, given.lane, given.random_key, item.seed, item.stimulus_id
FROM (SELECT * FROM claimed UNION ALL SELECT * FROM checked) given
JOIN annotation_item item ON item.id = given.item_id ORDER BY given.random_key
"""
