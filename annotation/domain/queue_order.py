"""Putting the open slots of a study in another order."""

from __future__ import annotations

from django.db import connection
from django.db.models import F

from annotation.domain.queue_lanes import FIRST, LANES
from annotation.models import Participation, Study

# Slots that are wanted, in their order within the item; open ones get the lane of their number.
RELANE = f"""
UPDATE annotation_slot SET lane = lane - lane %% {LANES} + (
    SELECT CASE WHEN COUNT(*) + {FIRST} < {LANES} THEN COUNT(*) + {FIRST} ELSE {LANES - 1} END
    FROM annotation_slot earlier
    WHERE earlier.item_id = annotation_slot.item_id AND earlier.id < annotation_slot.id
      AND earlier.lane >= 0 AND earlier.state NOT IN ('seen', 'withdrawn', 'waiting')
)
WHERE study_id = %s AND state = 'open' AND lane >= 0
"""
ONE_LANE = f"""
UPDATE annotation_slot SET lane = lane - lane %% {LANES} + {FIRST}
WHERE study_id = %s AND state = 'open' AND lane >= 0
"""


def put_in_order(study: Study, order: str) -> None:
    """Open slots get the lanes of this order, and everybody walks them from the first one on."""
    with connection.cursor() as cursor:
        cursor.execute(ONE_LANE if order == Study.QueueOrder.FINISH else RELANE, [study.pk])
    Study.objects.filter(pk=study.pk).update(queue_epoch=F("queue_epoch") + 1, n_kept_up=0)
    Participation.objects.filter(study=study).update(queue_lane=None, queue_empty_at=None)
