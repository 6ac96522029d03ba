"""What lies in a study's queue now: how many slots are open, by priority, held, done, and kept as checks."""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import Count, Q

from annotation.domain.queue_lanes import LANES
from annotation.models import Annotation, Slot, Study


class QueueState(NamedTuple):
    """Numbers of slots, and of answers that came too late to fill one."""

    n_urgent: int
    n_open: int
    n_reserved: int
    n_leased: int
    n_done: int
    n_checks_waiting: int
    n_late_extras: int
    n_left_out: int


def queue_state(study: Study) -> QueueState:
    wanted = Q(lane__gte=0)
    is_open = Q(state=Slot.State.OPEN) & wanted
    counts = Slot.objects.filter(study=study).aggregate(
        n_urgent=Count("id", filter=is_open & Q(lane=0)),
        n_open=Count("id", filter=is_open & Q(lane__lt=LANES)),
        n_reserved=Count("id", filter=is_open & Q(lane__gte=LANES)),
        n_leased=Count("id", filter=Q(state=Slot.State.LEASED)),
        n_done=Count("id", filter=Q(state=Slot.State.DONE) & wanted),
        n_checks_waiting=Count("id", filter=Q(state=Slot.State.WAITING)),
    )
    answers = Annotation.objects.filter(study=study, is_current=True).aggregate(
        n_late_extras=Count("id", filter=Q(is_late_extra=True)),
        n_left_out=Count("id", filter=~Q(excluded_reason="")),
    )
    return QueueState(**counts, **answers)
