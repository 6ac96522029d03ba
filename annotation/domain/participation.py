"""One person in one study: joining by a link, consent, the guideline, and the counters of a session.

The steps come in one order (consent, guideline, practice, work) and the next is read from the row, never guessed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from django.db import transaction
from django.utils import timezone

from annotation.models import Guideline, Participation, Role, Study, User
from annotation.models.people import new_annotator_code


class ParticipationError(Exception):
    """The person cannot take this step now; the message is fit for them."""


class Step(StrEnum):
    CONSENT = "consent"
    GUIDELINE = "guideline"
    PRACTICE = "practice"
    WORK = "work"


class Progress(NamedTuple):
    """'23 of 60': answers given in the current session, and the session's length."""

    done: int
    of: int


def join_study(*, token: str, user: User | None = None) -> Participation:
    """Enter the study whose link was opened; without a user, a new annotator with a pseudonym is made."""
    study = Study.objects.filter(join_token=token).first()
    if study is None:
        raise ParticipationError("This link leads to no study; ask the person who sent it for a new one.")
    if study.state == Study.State.CLOSED:
        raise ParticipationError("This study is closed; thank you for your interest.")
    if study.state in {Study.State.DRAFT, Study.State.LAUNCHING}:
        raise ParticipationError("This study has not opened yet; try the link again later.")
    with transaction.atomic():
        person = user if user is not None else new_annotator()
        participation, _ = Participation.objects.get_or_create(study=study, user=person)
    return participation


def new_annotator(*, is_simulated: bool = False) -> User:
    """An account that only a link or an administrator opens: it has no password."""
    code = new_annotator_code()
    user = User(username=code.lower(), annotator_code=code, role=Role.ANNOTATOR, is_simulated=is_simulated)
    user.set_unusable_password()
    user.save()
    return user


def participation_of(*, study: Study, user: User) -> Participation:
    found = Participation.objects.filter(study=study, user=user).first()
    if found is None:
        raise ParticipationError(f"You have not joined '{study.name}'; open the link you were sent.")
    return found


def give_consent(*, participation: Participation) -> None:
    participation.consented_at = timezone.now()
    participation.consent_version = participation.study.consent_version
    participation.save(update_fields=["consented_at", "consent_version"])


def current_guideline(study: Study) -> Guideline | None:
    return study.guidelines.order_by("-version").first()


def confirm_guideline(*, participation: Participation) -> None:
    """Record which version was read; answers are stamped with the version in force when they are given."""
    guideline = current_guideline(participation.study)
    if guideline is None:
        raise ParticipationError("This study has no guideline yet.")
    participation.guideline_version = guideline.version
    participation.save(update_fields=["guideline_version"])


def next_step(participation: Participation) -> Step:
    """What the person has to do next; a new version of the consent text is asked for again."""
    if participation.consented_at is None or participation.consent_version != participation.study.consent_version:
        return Step.CONSENT
    if participation.guideline_version is None:
        return Step.GUIDELINE
    if participation.practised_at is None:
        return Step.PRACTICE
    return Step.WORK


def session_progress(participation: Participation, *, has_just_answered: bool = False) -> Progress:
    """Place in the current session; the last answer of a session reads '60 of 60', the next look '0 of 60'."""
    return progress_in(participation.study, participation.n_done, has_just_answered=has_just_answered)


def progress_in(study: Study, n_done: int, *, has_just_answered: bool = False) -> Progress:
    length = max(1, min(study.session_length, study.n_items or study.session_length))
    done = n_done % length
    if done == 0 and n_done > 0 and has_just_answered:
        done = length
    return Progress(done, length)
