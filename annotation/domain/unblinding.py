"""Unblinding: the logged act after which results by condition, block and dictionary may be seen.

Until then nobody sees them, so that nobody is led by them while answers still come in (design.md §8).
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from django.db import transaction
from django.utils.translation import gettext as _

from annotation.models import Study, StudyEvent, User

UNBLINDED = "unblinded"


class UnblindingError(Exception):
    """The study cannot be unblinded now; the message says what to do."""


class Unblinding(NamedTuple):
    at: datetime
    by: str
    n_annotations: int


def unblind(*, study: Study, user: User | None) -> StudyEvent:
    """Log the act once; a second call returns the first event."""
    with transaction.atomic():
        locked = Study.objects.select_for_update().get(pk=study.pk)
        if locked.state != Study.State.CLOSED:
            raise UnblindingError(
                _("'%(name)s' is %(state)s; close the study before you unblind it.")
                % {"name": locked.name, "state": locked.get_state_display()}
            )
        first = locked.events.filter(kind=UNBLINDED).order_by("id").first()
        if first is not None:
            return first
        detail = {"n_annotations": locked.annotations.count()}
        return StudyEvent.objects.create(study=locked, user=user, kind=UNBLINDED, detail=detail)


def unblinding_of(study: Study) -> Unblinding | None:
    """When, by whom and over how many answers; None while the study is blind."""
    if study.state != Study.State.CLOSED:
        return None
    event = study.events.filter(kind=UNBLINDED).select_related("user").order_by("id").first()
    if event is None:
        return None
    by = event.user.username if event.user else "a command"
    return Unblinding(event.at, by, int(event.detail.get("n_annotations", 0)))
