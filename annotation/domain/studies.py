"""Making a study, pausing, resuming and closing it; each is written to the study's log."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotation.models import Category, Guideline, Participation, Role, Slot, Study, StudyEvent, User

N_PRACTICE = 10
DEFAULT_CATEGORIES = (
    ("object or part", "o"), ("shape or edge", "h"), ("texture", "x"), ("color", "v"), ("position", "p"),
    ("scene or background", "g"), ("other", "m"),
)  # fmt: skip
DEFAULT_CONSENT = (
    "You will look at pictures and say what they have in common. Your answers are stored under a pseudonym, with the "
    "time you took, and used for research. You may stop at any time."
)


class StudyError(Exception):
    """What was asked of a study cannot be done; the message is fit for the user."""


def create_study(*, name: str, user: User | None, **settings: Any) -> Study:
    """A draft with the usual categories and consent text; `settings` are fields of the study."""
    with transaction.atomic():
        values = {"consent_text": DEFAULT_CONSENT, "control_kinds": ["random_directions", "shuffled"]} | settings
        study = Study.objects.create(name=name, slug=unused_slug(name), created_by=user, **values)
        Category.objects.bulk_create(
            Category(study=study, name=category, key=key, position=position)
            for position, (category, key) in enumerate(DEFAULT_CATEGORIES)
        )
        if user is not None:
            Participation.objects.create(study=study, user=user, role=Role.RESEARCHER)
        log_event(study, user, "created")
    return study


def unused_slug(name: str) -> str:
    wanted = slugify(name)[:70] or "study"
    taken = set(Study.objects.filter(slug__startswith=wanted).values_list("slug", flat=True))
    candidates = [wanted, *(f"{wanted}-{n}" for n in range(2, len(taken) + 2))]
    return next(slug for slug in candidates if slug not in taken)


def write_guideline(*, study: Study, text: str, user: User | None) -> Guideline:
    """A new version of the guideline; the same text again makes none."""
    with transaction.atomic():
        locked = Study.objects.select_for_update().get(pk=study.pk)
        last = locked.guidelines.order_by("-version").first()
        if last is not None and last.text == text:
            return last
        version = last.version + 1 if last else 1
        guideline = Guideline.objects.create(study=locked, version=version, text=text, created_by=user)
        log_event(locked, user, "guideline", version=version)
    return guideline


def pause_study(*, study: Study, user: User | None) -> None:
    """No more items are handed out; answers to those in people's hands are kept."""
    change_state(study, user, {Study.State.OPEN}, Study.State.PAUSED, gettext_noop("paused"))


def resume_study(*, study: Study, user: User | None) -> None:
    change_state(study, user, {Study.State.PAUSED}, Study.State.OPEN, gettext_noop("resumed"))


def close_study(*, study: Study, user: User | None) -> None:
    """The end of data taking; only a closed study can be unblinded."""
    change_state(study, user, {Study.State.OPEN, Study.State.PAUSED}, Study.State.CLOSED, gettext_noop("closed"))
    n_done = Slot.objects.filter(study=study, state=Slot.State.DONE, lane__gte=0).count()
    Study.objects.filter(pk=study.pk).update(closed_at=timezone.now(), n_slots_done=n_done)


def change_state(study: Study, user: User | None, allowed: set[Study.State], state: Study.State, kind: str) -> None:
    with transaction.atomic():
        locked = Study.objects.select_for_update().get(pk=study.pk)
        if locked.state not in allowed:
            raise StudyError(
                _("'%(name)s' is %(state)s; it cannot be %(kind)s now.")
                % {"name": locked.name, "state": locked.get_state_display(), "kind": _(kind)}
            )
        locked.state = state
        locked.save(update_fields=["state"])
        log_event(locked, user, kind)
    study.state = state


def log_event(study: Study, user: User | None, kind: str, **detail: Any) -> StudyEvent:
    return StudyEvent.objects.create(study=study, user=user, kind=kind, detail=detail)
