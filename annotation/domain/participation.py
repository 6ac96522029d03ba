"""One person in one study: joining by a link, consent, the guideline, and the counters of a session.

The steps come in one order (consent, guideline, practice, work) and the next is read from the row, never guessed.
Where sessions are counted (annotation.domain.crowd_sessions) the row also says when the one under way is over.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.domain.crowd_consent import recruitment_of, session_length
from annotation.models import Guideline, Participation, Role, Study, User
from annotation.models.people import new_annotator_code


class ParticipationError(Exception):
    """The person cannot take this step now; the message is fit for them."""


class Step(StrEnum):
    CONSENT = "consent"
    GUIDELINE = "guideline"
    PRACTICE = "practice"
    WORK = "work"
    ENDED = "ended"


class Progress(NamedTuple):
    """'23 of 60': answers given in the current session, and the session's length."""

    done: int
    of: int


def study_of_link(token: str) -> Study:
    """The study a link leads to, if somebody may enter it now."""
    study = Study.objects.filter(join_token=token).first()
    if study is None:
        raise ParticipationError(_("This link leads to no study; ask the person who sent it for a new one."))
    require_open(study)
    return study


def require_open(study: Study) -> None:
    if study.state == Study.State.CLOSED:
        raise ParticipationError(_("This study is closed; thank you for your interest."))
    if study.state in {Study.State.DRAFT, Study.State.LAUNCHING}:
        raise ParticipationError(_("This study has not opened yet; try the link again later."))


def join_study(*, token: str, user: User | None = None) -> Participation:
    """Enter the study whose link was opened; without a user, a new annotator with a pseudonym is made."""
    study = study_of_link(token)
    if not is_in(study, user) and not recruitment_of(study).by_link:
        raise ParticipationError(_("This study takes part by invitation only; open the link of your own invitation."))
    return admit(study=study, user=user, came_by=Participation.CameBy.LINK)


def is_in(study: Study, user: User | None) -> bool:
    return user is not None and Participation.objects.filter(study=study, user=user).exists()


def admit(*, study: Study, user: User | None, came_by: str) -> Participation:
    """The person's place in the study, made if it is new."""
    with transaction.atomic():
        person = user if user is not None else new_annotator()
        participation, _is_new = Participation.objects.get_or_create(
            study=study, user=person, defaults={"came_by": came_by}
        )
    return participation


def new_annotator(*, is_simulated: bool = False) -> User:
    """An account that only a link or an administrator opens: it has no password."""
    code = new_annotator_code()
    user = User(username=code.lower(), annotator_code=code, role=Role.ANNOTATOR, is_simulated=is_simulated)
    user.set_unusable_password()
    user.save()
    return user


def opens_by_link(owner: User) -> bool:
    """Whether a link may sign in to this account: links made it, and it has neither a password nor a role anywhere."""
    if owner.has_usable_password() or owner.role != Role.ANNOTATOR or owner.is_staff or owner.is_superuser:
        return False
    return not owner.participations.exclude(role=Role.ANNOTATOR).exists()


def require_account(place: Participation, user: User | None) -> None:
    """A link signs in only to accounts that links made; to one with a password or a role, its owner signs in first."""
    if user is not None and user.pk == place.user_id:
        return
    if not place.user.is_active:
        raise ParticipationError(_("The account of this link was switched off; ask the person who runs the study."))
    if not opens_by_link(place.user):
        raise ParticipationError(
            _("This link belongs to an account with a password: sign in first, then open it again.")
        )


def give_consent(*, participation: Participation) -> None:
    participation.consented_at = timezone.now()
    participation.consent_version = participation.study.consent_version
    participation.declined_at = None
    participation.save(update_fields=["consented_at", "consent_version", "declined_at"])


def decline_consent(*, participation: Participation) -> None:
    """The person does not want to take part; they may still change their mind."""
    if participation.consented_at is not None:
        raise ParticipationError(_("You have agreed before; to stop, leave the session or take your answers back."))
    participation.declined_at = timezone.now()
    participation.save(update_fields=["declined_at"])


def current_guideline(study: Study) -> Guideline | None:
    return study.guidelines.order_by("-version").first()


def confirm_guideline(*, participation: Participation) -> None:
    """Record which version was read; answers are stamped with the version in force when they are given."""
    guideline = current_guideline(participation.study)
    if guideline is None:
        raise ParticipationError(_("This study has no guideline yet."))
    participation.guideline_version = guideline.version
    participation.save(update_fields=["guideline_version"])


def next_step(participation: Participation) -> Step:
    """What the person has to do next; a new version of the consent text is asked for again."""
    if is_over(participation):
        return Step.ENDED
    if participation.consented_at is None or participation.consent_version != participation.study.consent_version:
        return Step.CONSENT
    if participation.guideline_version is None:
        return Step.GUIDELINE
    if participation.practised_at is None:
        return Step.PRACTICE
    return Step.WORK


def is_over(participation: Participation) -> bool:
    """Whether this person has nothing more to do in this session."""
    if participation.withdrawn_at or participation.screened_out_at or participation.excluded_at:
        return True
    return participation.session_to is not None and participation.n_done >= participation.session_to


def items_left(participation: Participation, *, n_held: int = 0) -> int | None:
    """How many further items the session has, beside those the browser holds; None where sessions are not counted."""
    if participation.session_to is None:
        return None
    return max(0, participation.session_to - participation.n_done - n_held)


def session_progress(participation: Participation, *, has_just_answered: bool = False) -> Progress:
    """Place in the current session; the last answer of a session reads '60 of 60', the next look '0 of 60'."""
    if participation.session_to is None:
        return progress_in(participation.study, participation.n_done, has_just_answered=has_just_answered)
    of = max(1, participation.session_to - participation.session_from)
    return Progress(min(of, max(0, participation.n_done - participation.session_from)), of)


def progress_after(participation: Participation, stored: str) -> Progress:
    """The place after a submit, from the row as it was read before: only new and late answers are counted."""
    if stored in {"new", "late_extra"}:
        participation.n_done += 1
    return session_progress(participation, has_just_answered=True)


def progress_in(study: Study, n_done: int, *, has_just_answered: bool = False) -> Progress:
    length = session_length(study)
    done = n_done % length
    if done == 0 and n_done > 0 and has_just_answered:
        done = length
    return Progress(done, length)
