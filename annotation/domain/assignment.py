"""Named assignment: slots reserved for one person or one cohort, and given back to everybody when that is withdrawn.

A reservation moves open slots to a range of lanes of its own; whoever it is for is given them first. What somebody
holds or has judged already stays as it is.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import NamedTuple

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext

from annotation.domain.queue_lanes import LANES
from annotation.domain.studies import StudyError, log_event
from annotation.models import Assignment, Cohort, Participation, Slot, Study, User

BATCH = 1000


class AssignedWork(NamedTuple):
    """A reservation and how many of its slots are still open."""

    assignment: Assignment
    n_open: int


def cohort_named(study: Study, name: str) -> Cohort:
    """The study's cohort of this name, made if there is none."""
    settled = " ".join(name.split())[:60]
    if not settled:
        raise StudyError(gettext("Give the cohort a name."))
    cohort, _ = Cohort.objects.get_or_create(study=study, name=settled)
    return cohort


def put_in_cohort(*, participation: Participation, cohort: Cohort | None) -> None:
    """A person is in one cohort or none; what is reserved for it is theirs from the next claim on."""
    if cohort is not None and cohort.study_id != participation.study_id:
        raise StudyError(gettext("The cohort is of another study."))
    participation.cohort = cohort
    participation.queue_lane = None
    participation.save(update_fields=["cohort", "queue_lane"])


def form_cohort(*, cohort: Cohort, participations: Collection[int]) -> int:
    """Let exactly these people of the study be the cohort; returns how many they are."""
    people = Participation.objects.filter(study=cohort.study_id)
    with transaction.atomic():
        people.filter(cohort=cohort).exclude(pk__in=list(participations)).update(cohort=None, queue_lane=None)
        return people.filter(pk__in=list(participations)).update(cohort=cohort, queue_lane=None)


def assign_share(*, study: Study, share: float, to: Cohort | User, user: User | None) -> Assignment:
    """Reserve a share of the items that have open slots, drawn by the study's seed."""
    if not 0 < share <= 1:
        raise StudyError(gettext("Reserve a share of the items above 0 and up to 1."))
    free = open_slots(study).order_by("item_id").values_list("item_id", flat=True).distinct()
    ids = list(free)
    rng = random.Random(f"{study.seed}/assignment/{study.assignments.count()}")
    return assign_items(study=study, items=rng.sample(ids, round(share * len(ids))), to=to, user=user)


def assign_items(*, study: Study, items: Collection[int], to: Cohort | User, user: User | None) -> Assignment:
    """Reserve every open slot of these items that nobody else has reserved; raises StudyError if there are none."""
    cohort, person = (to, None) if isinstance(to, Cohort) else (None, to)
    if person is not None and not Participation.objects.filter(study=study, user=person).exists():
        raise StudyError(
            gettext("%(username)s is not in this study; they join by its link first.") % {"username": person.username}
        )
    with transaction.atomic():
        Study.objects.select_for_update().get(pk=study.pk)
        assignment = Assignment.objects.create(study=study, cohort=cohort, person=person, created_by=user)
        wanted = list(items)
        for start in range(0, len(wanted), BATCH):
            of_items = open_slots(study).filter(item_id__in=wanted[start : start + BATCH])
            assignment.n_slots += of_items.update(lane=F("lane") + assignment.pk * LANES)
        if assignment.n_slots == 0:
            raise StudyError(gettext("None of these items has an open slot that is not reserved already."))
        assignment.save(update_fields=["n_slots"])
        begin_anew(study, assignment)
        log_event(study, user, "reserved", n_slots=assignment.n_slots, name=name_of(assignment))
    return assignment


def withdraw_assignment(*, assignment: Assignment, user: User | None) -> int:
    """What is still open goes back to everybody; returns how many slots."""
    with transaction.atomic():
        locked = Assignment.objects.select_for_update(of=("self",)).select_related("study").get(pk=assignment.pk)
        if locked.withdrawn_at is not None:
            return 0
        low = locked.pk * LANES
        reserved = Slot.objects.filter(study=locked.study, lane__gte=low, lane__lt=low + LANES)
        n_open = reserved.filter(state=Slot.State.OPEN).count()
        reserved.exclude(state=Slot.State.DONE).update(lane=F("lane") - low)
        locked.withdrawn_at = timezone.now()
        locked.save(update_fields=["withdrawn_at"])
        log_event(locked.study, user, "reservation withdrawn", n_slots=n_open, name=name_of(locked))
    return n_open


def assigned_work(study: Study) -> list[AssignedWork]:
    """Reservations in force, with what is left of each."""
    rows = study.assignments.filter(withdrawn_at=None).select_related("cohort", "person")
    return [AssignedWork(row, n_open_of(study, row)) for row in rows]


def n_open_of(study: Study, assignment: Assignment) -> int:
    low = assignment.pk * LANES
    return Slot.objects.filter(study=study, state=Slot.State.OPEN, lane__gte=low, lane__lt=low + LANES).count()


def open_slots(study: Study) -> QuerySet[Slot]:
    """Open and reserved for nobody."""
    return Slot.objects.filter(study=study, state=Slot.State.OPEN, lane__gte=0, lane__lt=LANES)


def begin_anew(study: Study, assignment: Assignment) -> None:
    """Whom it is for walks from the first lane on with the next claim, and finds it there."""
    concerned = Participation.objects.filter(study=study)
    if assignment.cohort is not None:
        concerned = concerned.filter(cohort=assignment.cohort)
    elif assignment.person is not None:
        concerned = concerned.filter(user=assignment.person)
    concerned.update(queue_lane=None, queue_empty_at=None)


def name_of(assignment: Assignment) -> str:
    if assignment.cohort is not None:
        return f"the cohort {assignment.cohort.name}"  # as the log keeps it
    assert assignment.person is not None
    return assignment.person.username
