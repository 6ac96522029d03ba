"""Invitations: links that let one person in, once; and links by which the same person comes back once more.

A link is used up by the first who opens it and goes on. The page that did so may send its form again (a double click, a
lost reply): it names itself by `visit`, and gets the same place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Max, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.domain.assignment import cohort_named, put_in_cohort
from annotation.domain.crowd_consent import recruitment_of
from annotation.domain.crowd_sessions import begin_session
from annotation.domain.participation import ParticipationError, admit, require_account, require_open
from annotation.domain.retention import find_identity, keep_identity, place_of_identity
from annotation.domain.studies import StudyError, log_event
from annotation.models import ExternalIdentity, Invitation, Participation, Role, Study, User, WorkSession

MOST_AT_ONCE = 5000
EMAIL = ExternalIdentity.Source.EMAIL


class InvitedBack(NamedTuple):
    """How many were invited back, and why the others were not."""

    n_invited: int
    n_open: int
    n_not_yet: int


def invite(
    *, study: Study, user: User, emails: Sequence[str] = (), n_anonymous: int = 0, batch: str = "",
    expires_at: datetime | None = None,
) -> list[Invitation]:  # fmt: skip
    """Single-use links, one for each e-mail address and so many without a name; raises StudyError."""
    batch = " ".join(batch.split())[:60]
    wanted = [*settle_emails(study, emails), *([""] * n_anonymous)]
    if not 0 < len(wanted) <= MOST_AT_ONCE:
        raise StudyError(
            _("%(n)s invitations are asked for; it can be 1 to %(most_at_once)s at once.")
            % {"n": len(wanted), "most_at_once": MOST_AT_ONCE}
        )
    if expires_at is not None and expires_at <= timezone.now():
        raise StudyError(_("The invitations would expire before they are sent; choose a later day."))
    with transaction.atomic():
        made = Invitation.objects.bulk_create(
            Invitation(study=study, email=email, batch=batch, expires_at=expires_at, created_by=user)
            for email in wanted
        )
        log_event(study, user, "invited", n_invitations=len(made), batch=batch)
    return made


def settle_emails(study: Study, emails: Sequence[str]) -> list[str]:
    """Each address once, those already invited left out; raises StudyError that names a wrong one."""
    settled = list(dict.fromkeys(email.strip().casefold() for email in emails if email.strip()))
    for email in settled:
        try:
            validate_email(email)
        except ValidationError as error:
            raise StudyError(_("'%(email)s' is no e-mail address; nobody was invited.") % {"email": email}) from error
    is_still_good = Q(revoked_at__isnull=True) & (Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now()))
    invited = Invitation.objects.filter(is_still_good, study=study, kind=Invitation.Kind.FIRST, email__in=settled)
    known = set(invited.values_list("email", flat=True))
    if settled and known.issuperset(settled):
        raise StudyError(_("All of these addresses were invited before."))
    return [email for email in settled if email not in known]


def split_emails(text: str) -> list[str]:
    """Addresses as people paste them: by line, comma, semicolon or blank."""
    return [part for part in re.split(r"[\s,;]+", text) if part]


def invite_back(*, study: Study, user: User, participations: Iterable[Participation] | None = None) -> InvitedBack:
    """A return invitation for everybody who has ended a session long enough ago, or for those named."""
    wait = timedelta(days=recruitment_of(study).return_after_days)
    people = Participation.objects.filter(study=study, role=Role.ANNOTATOR, work_sessions__ended_at__isnull=False)
    under_way = WorkSession.objects.filter(participation__study=study, ended_at__isnull=True)
    people = people.exclude(pk__in=under_way.values("participation"))
    if participations is not None:
        people = people.filter(pk__in=[participation.pk for participation in participations])
    able = people.filter(withdrawn_at=None, screened_out_at=None, excluded_at=None, n_done__gt=0)
    ended = {row.pk: row for row in able.annotate(last_end=Max("work_sessions__ended_at"))}
    invited = set(open_returns(study).values_list("participation_id", flat=True))
    now = timezone.now()
    due = [row for pk, row in ended.items() if pk not in invited and row.last_end + wait <= now]
    with transaction.atomic():
        Invitation.objects.bulk_create(
            (
                Invitation(study=study, kind=Invitation.Kind.RETURN, participation=row, batch="return", created_by=user)
                for row in due
            ),
            ignore_conflicts=True,
        )
        if due:
            log_event(study, user, "invited back", n_invitations=len(due))
    n_open = len(invited & set(ended))
    return InvitedBack(len(due), n_open, len(ended) - len(due) - n_open)


def open_returns(study: Study) -> QuerySet[Invitation]:
    return Invitation.objects.filter(
        study=study, kind=Invitation.Kind.RETURN, used_at__isnull=True, revoked_at__isnull=True
    )


def revoke(*, study: Study, user: User, invitations: Iterable[int]) -> int:
    """Take back links that nobody has used; returns how many."""
    with transaction.atomic():
        unused = Invitation.objects.filter(
            study=study, pk__in=list(invitations), used_at__isnull=True, revoked_at__isnull=True
        )
        n_revoked = unused.update(revoked_at=timezone.now())
        if n_revoked:
            log_event(study, user, "invitations revoked", n_invitations=n_revoked)
    return n_revoked


def invitation_of(token: str) -> Invitation:
    """The invitation of a link; raises ParticipationError for none."""
    found = Invitation.objects.select_related("study__created_by", "participation__user").filter(token=token).first()
    if found is None:
        raise ParticipationError(_("This link leads to no invitation; ask the person who sent it for a new one."))
    return found


def accept_invitation(*, token: str, user: User | None, visit: str = "") -> Participation:
    """The place this link opens: a new one, or for a return the one the person has. Used up by that."""
    try:
        return accept(token, user, visit)
    except IntegrityError:  # another invitation of the same address was used at this moment
        return accept(token, user, visit)


def accept(token: str, user: User | None, visit: str) -> Participation:
    with transaction.atomic():
        invitation = Invitation.objects.select_for_update(of=("self",)).filter(pk=invitation_of(token).pk).get()
        study = invitation.study
        if invitation.used_at is not None:
            return place_of_used(invitation, user, visit)
        require_usable(invitation)
        if invitation.kind == Invitation.Kind.RETURN:
            place = own_place(invitation)
            require_account(place, user)
            use(invitation, place, visit)
            begin_session(participation=place, is_return=True)
            return place
        mine = Participation.objects.filter(study=study, user=user).first() if user is not None else None
        if mine is not None:
            return mine  # in already: the invitation stays good for somebody else
        place = place_for(invitation, user)
        use(invitation, place, visit)
    return place


def place_for(invitation: Invitation, user: User | None) -> Participation:
    """A new place, or that of the e-mail address if it came before by another invitation."""
    if invitation.email:
        identity = find_identity(invitation.study, EMAIL, invitation.email)
        if identity is not None:
            place = place_of_identity(identity)
            require_account(place, user)
            return place
    place = admit(study=invitation.study, user=user, came_by=Participation.CameBy.INVITATION)
    if invitation.batch:  # work can be reserved for those of a batch
        put_in_cohort(participation=place, cohort=cohort_named(invitation.study, invitation.batch))
    if invitation.email:
        keep_identity(participation=place, source=EMAIL, external_id=invitation.email)
    return place


def own_place(invitation: Invitation) -> Participation:
    assert invitation.participation is not None
    return invitation.participation


def use(invitation: Invitation, place: Participation, visit: str) -> None:
    invitation.used_at, invitation.participation, invitation.visit = timezone.now(), place, visit[:40]
    invitation.save(update_fields=["used_at", "participation", "visit"])


def place_of_used(invitation: Invitation, user: User | None, visit: str) -> Participation:
    """A used link still leads on its own person, in the browser it was opened in."""
    place = own_place(invitation)
    is_same_page = bool(visit) and visit[:40] == invitation.visit
    if is_same_page or (user is not None and place.user_id == user.pk):
        require_account(place, user)
        return place
    raise ParticipationError(
        _("This invitation was used already; go on in the browser where you first opened it, or ask for a new one.")
    )


def require_usable(invitation: Invitation) -> None:
    require_open(invitation.study)
    if invitation.state == "revoked":
        raise ParticipationError(_("This invitation was taken back; ask the person who sent it for a new one."))
    if invitation.state == "expired":
        raise ParticipationError(_("This invitation has expired; ask the person who sent it for a new one."))
    if invitation.kind == Invitation.Kind.FIRST and not recruitment_of(invitation.study).by_invitation:
        raise ParticipationError(_("This study takes nobody by invitation any more; thank you for your interest."))


def use_return(*, participation: Participation) -> bool:
    """Use the person's open return invitation, if they have one: for those who come back another way than its link."""
    with transaction.atomic():
        invitation = open_returns(participation.study).filter(participation=participation)
        found = invitation.select_for_update(of=("self",)).first()
        if found is None or found.state != "open":
            return False
        use(found, participation, "")
        begin_session(participation=participation, is_return=True)
    return True
