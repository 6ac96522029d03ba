"""What open studies need between answers: priorities and the stopping rule, looked at by a worker now and then."""

from __future__ import annotations

from django.db.models import F, Q

from annotation.domain.priorities import reprioritise
from annotation.domain.stopping import stop_if_reached
from annotation.models import Study

EVERY = 25  # judgements between two looks at a study's priorities
SHARE = 0.02  # of all judgements between two looks at its interval, which reads every answer


def keep_up() -> int:
    """Look after every open study that has moved on enough; returns how many were looked at.

    Two workers may do the same: both do what is right, and neither undoes anything.
    """
    moving = Study.objects.filter(state=Study.State.OPEN, n_slots_done__gte=F("n_kept_up") + EVERY).filter(
        ~Q(stopping={}) | ~Q(queue_order=Study.QueueOrder.BREADTH)
    )
    n = 0
    for study in moving:
        reprioritise(study=study, n_new=study.n_slots_done - study.n_kept_up)
        step = max(EVERY, int(SHARE * study.n_slots))
        if study.n_slots_done // step > study.n_kept_up // step:
            stop_if_reached(study=study)
        Study.objects.filter(pk=study.pk).update(n_kept_up=study.n_slots_done)
        n += 1
    return n
