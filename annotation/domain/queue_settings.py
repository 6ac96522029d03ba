"""How an open study hands out its work: order, cap per person and stopping rule, changed while it runs.

None of it changes what is asked or shown, so no answer is invalidated; every change is in the study's log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.db.models import F

from annotation.domain.queue_lanes import FIRST, LANES
from annotation.domain.stopping import validate_stopping
from annotation.domain.studies import StudyError, log_event
from annotation.models import Participation, Study, User

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


@dataclass(frozen=True)
class QueueSettings:
    """What can be set while a study runs; `stopping` as in annotation.domain.stopping."""

    order: str
    max_per_person: int | None
    stopping: dict[str, Any]

    def __post_init__(self) -> None:
        if self.order not in Study.QueueOrder.values:
            raise StudyError(f"'{self.order}' is no order of the queue.")
        if self.max_per_person is not None and self.max_per_person < 1:
            raise StudyError("One person must be allowed at least one judgement; leave the number out for any.")


def settings_of(study: Study) -> QueueSettings:
    return QueueSettings(study.queue_order, study.max_per_person, dict(study.stopping))


def change_queue(*, study: Study, settings: QueueSettings, user: User | None) -> None:
    """Put the settings in force; open slots are put in the new order."""
    stopping = validate_stopping(settings.stopping)
    with transaction.atomic():
        locked = Study.objects.select_for_update().get(pk=study.pk)
        if locked.state == Study.State.CLOSED:
            raise StudyError("The study is closed; its queue is empty.")
        sentence = change_in_words(settings_of(locked), settings)
        if not sentence:
            return
        if locked.queue_order != settings.order:
            put_in_order(locked, settings.order)
        locked.queue_order, locked.max_per_person, locked.stopping = settings.order, settings.max_per_person, stopping
        locked.save(update_fields=["queue_order", "max_per_person", "stopping"])
        log_event(locked, user, "queue changed", sentence=sentence)


def put_in_order(study: Study, order: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(ONE_LANE if order == Study.QueueOrder.FINISH else RELANE, [study.pk])
    Study.objects.filter(pk=study.pk).update(queue_epoch=F("queue_epoch") + 1, n_kept_up=0)
    Participation.objects.filter(study=study).update(queue_lane=None, queue_empty_at=None)


def change_in_words(before: QueueSettings, after: QueueSettings) -> str:
    parts = []
    if after.order != before.order:
        parts.append(str(Study.QueueOrder(after.order).label))
    if after.max_per_person != before.max_per_person:
        most = "any number of" if after.max_per_person is None else f"at most {after.max_per_person}"
        parts.append(f"{most} judgements per person")
    if validate_stopping(after.stopping) != before.stopping:
        half_width = after.stopping.get("half_width")
        parts.append(f"pauses itself at a half-width of {half_width:g}" if half_width else "no stopping rule")
    return "; ".join(parts)
