"""Sessions of a fixed number of judgements: begun under the spending cap, left early or done, each with its code.

A session that begins reserves the most it can cost; the study's recruitment row is locked meanwhile, so that two people
at once cannot both take the last of the money. Whether a session is over is read from the person's counters; settling
it (its ending, code, minutes and what it earned) happens the first time anybody looks.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Least
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.domain.assignment import cohort_named, put_in_cohort
from annotation.domain.crowd_consent import recruitment_of, session_length
from annotation.domain.crowd_money import agreed_pay, earned_by, session_price, terms_of
from annotation.domain.participation import ParticipationError, give_consent, is_over, require_open
from annotation.domain.payments import money_spent
from annotation.domain.queue import give_back
from annotation.domain.repeats import begin_return
from annotation.models import Annotation, Participation, PayEntry, Recruitment, Slot, Study, WorkSession

Ending = WorkSession.Ending
RETURNED = "invited return"
LONGEST_LOOK_MS = 600_000  # at one item; beyond it somebody has gone for coffee


class SessionState(NamedTuple):
    """Where a person is: n of so many; once it is over, the code, and where to go with it if that is elsewhere."""

    n: int
    of: int
    is_over: bool
    code: str
    return_url: str
    may_leave: bool


def agree(*, participation: Participation) -> None:
    """Consent, and with it the first session; if no session can begin, nothing is stored."""
    with transaction.atomic():
        # locked first, as wherever a session begins
        recruitment = Recruitment.objects.select_for_update().filter(study=participation.study).first()
        give_consent(participation=participation)
        if recruitment is not None and not participation.work_sessions.exists():
            begin_session(participation=participation)


def begin_session(*, participation: Participation, is_return: bool = False) -> WorkSession:
    """The session under way, or a new one; raises ParticipationError with the reason why there can be none."""
    study = participation.study
    with transaction.atomic():
        recruitment = Recruitment.objects.select_for_update().filter(study=study).first()
        if recruitment is None:
            raise ParticipationError(_("This study has no sessions: answer as long as you like."))
        place = locked_place(participation)
        under_way = place.work_sessions.filter(ended_at__isnull=True).first()
        if under_way is not None:
            return under_way
        require_session(study, recruitment, place, is_return=is_return)
        session = WorkSession.objects.create(
            participation=place, number=place.work_sessions.count() + 1, length=session_length(study),
            is_return=is_return, reserved=session_price(recruitment), terms=terms_of(recruitment),
        )  # fmt: skip
        place.session_from, place.session_to = place.n_done, place.n_done + session.length
        place.is_return, place.queue_empty_at = is_return, None
        place.save(update_fields=["session_from", "session_to", "is_return", "queue_empty_at"])
        if is_return:
            prepare_return(place)
    copy_counters(place, participation)
    return session


def prepare_return(place: Participation) -> None:
    """Own items to be shown again, and work reserved for returns unless something else is reserved for the person."""
    begin_return(participation=place)
    if place.cohort_id is None:
        put_in_cohort(participation=place, cohort=cohort_named(place.study, RETURNED))


def require_session(study: Study, recruitment: Recruitment, place: Participation, *, is_return: bool) -> None:
    """Raise the reason why this person cannot begin a session now."""
    if place.withdrawn_at or place.screened_out_at or place.excluded_at:
        raise ParticipationError(_("You cannot take another session in this study."))
    require_open(study)
    n_taken = place.work_sessions.filter(is_return=False).count()
    if not is_return and recruitment.sessions_per_person is not None and n_taken >= recruitment.sessions_per_person:
        raise ParticipationError(_("You have taken part already; this study is done once. Thank you!"))
    require_room(study, recruitment)


def require_room(study: Study, recruitment: Recruitment) -> None:
    """Raise a sentence if nothing is left to judge, or the money set aside does not reach for one more session."""
    if study.n_slots and study.n_slots_done >= study.n_slots:
        raise ParticipationError(_("Everything in this study has been judged; thank you for your interest."))
    if recruitment.spending_cap is None:
        return
    if money_spent(study) + money_reserved(study) + session_price(recruitment) > recruitment.spending_cap:
        raise ParticipationError(
            _("This study cannot take anybody new: the money set aside for it is spent. Thank you for your interest.")
        )


def entry_problem(study: Study, place: Participation | None) -> str:
    """Why somebody cannot enter or go on now, in a sentence; empty if they can."""
    recruitment = recruitment_of(study)
    if recruitment.pk is None or (place is not None and place.work_sessions.exists()):
        return ""
    try:
        require_open(study)
        require_room(study, recruitment)
    except ParticipationError as error:
        return str(error)
    return ""


def next_session_problem(participation: Participation) -> str:
    """Why this person cannot begin another session now, in a sentence; empty if they can."""
    recruitment = recruitment_of(participation.study)
    try:
        require_session(participation.study, recruitment, participation, is_return=False)
    except ParticipationError as error:
        return str(error)
    return ""


def money_reserved(study: Study) -> Decimal:
    under_way = WorkSession.objects.filter(participation__study=study, ended_at__isnull=True)
    return under_way.aggregate(total=Sum("reserved"))["total"] or Decimal(0)


def session_state(*, participation: Participation) -> SessionState:
    """What the person is told of their session; settles it if it is over."""
    session = settle_if_over(participation)
    recruitment = recruitment_of(participation.study)
    if session is None:
        n_done, of = uncounted(participation)
        is_screened_out = bool(participation.screened_out_at) and recruitment.pk is not None
        code = recruitment.screen_out_code if is_screened_out else ""
        return SessionState(
            n_done, of, is_over(participation), code, return_address(participation, recruitment, code), False
        )
    if session.ended_at is None:
        n_done = max(0, participation.n_done - participation.session_from)
        return SessionState(min(n_done, session.length), session.length, False, "", "", True)
    return_url = return_address(participation, recruitment, session.code)
    return SessionState(session.n_done, session.length, True, session.code, return_url, False)


def uncounted(participation: Participation) -> tuple[int, int]:
    length = session_length(participation.study)
    return participation.n_done % length, length


def return_address(participation: Participation, recruitment: Recruitment, code: str) -> str:
    """Where somebody who came from Prolific is sent back; empty for everybody else, and without a code."""
    if participation.came_by != Participation.CameBy.PROLIFIC or not code:
        return ""
    return recruitment.return_url.replace("CODE", code)


def settle_if_over(participation: Participation, *, now: datetime | None = None) -> WorkSession | None:
    """The person's last session, settled if it is over; None where there was none."""
    moment = now or timezone.now()
    session = participation.work_sessions.order_by("-number").first()
    if session is None or session.ended_at is not None:
        return session
    recruitment = recruitment_of(participation.study)
    if ending_due(session, participation, recruitment, moment) is None:
        return session
    with transaction.atomic():
        place = locked_place(participation)
        session = WorkSession.objects.select_for_update().get(pk=session.pk)
        ending = ending_due(session, place, recruitment, moment) if session.ended_at is None else None
        if ending is not None:
            settle(session, place, recruitment, ending)
    copy_counters(place, participation)
    return session


def ending_due(
    session: WorkSession, place: Participation, recruitment: Recruitment, now: datetime
) -> WorkSession.Ending | None:
    """How the session has ended; None while it goes on."""
    if place.screened_out_at:
        return Ending.SCREENED_OUT
    if place.withdrawn_at or place.excluded_at:
        return Ending.LEFT
    if place.session_to is not None and place.n_done >= place.session_to:
        return Ending.COMPLETE
    if place.study.state == Study.State.CLOSED or has_nothing_left(place):
        return Ending.COMPLETE
    if agreed_pay(session).is_paid and session.started_at + timedelta(hours=recruitment.session_hours) < now:
        return Ending.LAPSED
    return None


def has_nothing_left(place: Participation) -> bool:
    """A whole look through the queue found nothing for them, and they hold nothing."""
    if place.queue_empty_at is None or place.practised_at is None:
        return False
    return not leases_of(place).exists()


def leases_of(place: Participation) -> QuerySet[Slot]:
    return Slot.objects.filter(study_id=place.study_id, annotator_id=place.user_id, state=Slot.State.LEASED)


def leave_session(*, participation: Participation) -> SessionState:
    """Stop before the end: the early-leave code, pay for the share done; what was leased goes to others."""
    if settle_if_over(participation) is None:
        raise ParticipationError(_("This study has no sessions to leave: you may close the page at any time."))
    with transaction.atomic():
        place = locked_place(participation)
        session = place.work_sessions.select_for_update().filter(ended_at__isnull=True).first()
        if session is not None:
            settle(session, place, recruitment_of(place.study), Ending.LEFT)
    copy_counters(place, participation)
    return session_state(participation=participation)


def settle(session: WorkSession, place: Participation, recruitment: Recruitment, ending: WorkSession.Ending) -> None:
    """End the session, with both rows locked: its code, its minutes, and a line of the ledger for what it earned."""
    session.ended_at, session.ending = timezone.now(), ending
    session.n_done = max(0, place.n_done - place.session_from)
    session.minutes = minutes_worked(session, place)
    session.code, session.reserved = code_of(ending, recruitment), Decimal(0)
    session.save()
    place.session_to, place.is_return = place.n_done, False
    place.save(update_fields=["session_to", "is_return"])
    give_back(leases_of(place))
    if agreed_pay(session).is_paid:
        PayEntry.objects.create(
            participation=place, work_session=session, kind=PayEntry.Kind.EARNED, amount=earned_by(session)
        )


def code_of(ending: WorkSession.Ending, recruitment: Recruitment) -> str:
    codes = {
        Ending.COMPLETE: recruitment.completion_code,
        Ending.LEFT: recruitment.early_leave_code,
        Ending.SCREENED_OUT: recruitment.screen_out_code,
        Ending.LAPSED: recruitment.early_leave_code,
    }
    return codes[ending]


def minutes_worked(session: WorkSession, place: Participation) -> float:
    """Minutes with an item in view, over the answers that came since the session began."""
    given = Annotation.objects.filter(
        annotator_id=place.user_id, study_id=place.study_id, received_at__gte=session.started_at
    )
    looked = given.filter(visible_ms__gt=0).aggregate(total=Sum(Least("visible_ms", LONGEST_LOOK_MS)))["total"]
    return float(looked or 0) / 60_000


def settle_sessions(*, study: Study) -> int:
    """Settle every session of the study that is over, whoever has gone without looking; returns how many."""
    places = Participation.objects.filter(
        study=study, work_sessions__ended_at__isnull=True, work_sessions__isnull=False
    )
    hours = recruitment_of(study).session_hours
    long_ago = timezone.now() - timedelta(hours=hours)
    if study.state != Study.State.CLOSED:
        places = places.filter(
            Q(session_to__isnull=False, n_done__gte=F("session_to"))
            | Q(screened_out_at__isnull=False)
            | Q(withdrawn_at__isnull=False)
            | Q(excluded_at__isnull=False)
            | Q(work_sessions__started_at__lt=long_ago)
        )
    settled = [settle_if_over(place) for place in places.select_related("study", "user").distinct()]
    return sum(session is not None and session.ended_at is not None for session in settled)


def locked_place(participation: Participation) -> Participation:
    place = Participation.objects.select_for_update().get(pk=participation.pk)
    place.study, place.user = participation.study, participation.user
    return place


def copy_counters(place: Participation, participation: Participation) -> None:
    """So that the row the caller holds says what was stored."""
    for name in ("n_done", "session_from", "session_to", "is_return"):
        setattr(participation, name, getattr(place, name))
