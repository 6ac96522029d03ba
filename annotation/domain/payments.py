"""The ledger of pay: what was earned, approved and paid, append-only; and the file Prolific takes for bonuses.

Every entry settles at most one other (a constraint of the database), so that two researchers who approve or pay at once
pay once.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from django.db import transaction
from django.db.models import Q, QuerySet, Sum
from django.utils.translation import gettext as _

from annotation.domain.crowd_money import CENT
from annotation.domain.studies import StudyError, log_event
from annotation.models import ExternalIdentity, Participation, PayEntry, Study, User, WorkSession

Kind = PayEntry.Kind
BY_BONUS = (WorkSession.Ending.LEFT, WorkSession.Ending.LAPSED)  # Prolific pays the others by their code
LARGEST_BONUS = Decimal(1000)


class BonusFile(NamedTuple):
    """Lines 'PID,amount', their total, the entries in it, and how many people cannot be paid so, being deleted."""

    text: str
    n_people: int
    total: Decimal
    entry_ids: list[int]
    n_unknown: int


def entries_of(study: Study) -> QuerySet[PayEntry]:
    return PayEntry.objects.filter(participation__study=study)


def money_spent(study: Study) -> Decimal:
    """Earned and bonuses; what was approved counts in the place of what it approves."""
    is_settled_earning = Q(kind=Kind.EARNED, settled_by__isnull=False)
    spent = entries_of(study).exclude(kind=Kind.PAID).exclude(is_settled_earning)
    return spent.aggregate(total=Sum("amount"))["total"] or Decimal(0)


def approve_pay(*, study: Study, user: User, participations: Iterable[int] | None = None) -> int:
    """Approve all that was earned and not looked at yet, of these people or of everybody; returns how many sessions."""
    with transaction.atomic():
        earned = unsettled(study, Kind.EARNED, participations)
        approved = [
            PayEntry(
                participation_id=entry.participation_id, work_session_id=entry.work_session_id, kind=Kind.APPROVED,
                amount=entry.amount, settles=entry, by=user,
            )
            for entry in earned
        ]  # fmt: skip
        PayEntry.objects.bulk_create(approved)
        if approved:
            log_event(study, user, "pay approved", n_sessions=len(approved))
    return len(approved)


def refuse_pay(*, study: Study, user: User, participation: Participation, reason: str) -> int:
    """Approve nothing of what this person earned and nobody has approved; the reason is kept."""
    if not reason.strip():
        raise StudyError(_("Say why the pay is refused; the reason is kept with it."))
    with transaction.atomic():
        earned = unsettled(study, Kind.EARNED, [participation.pk])
        PayEntry.objects.bulk_create(
            PayEntry(
                participation=participation, work_session_id=entry.work_session_id, kind=Kind.APPROVED,
                amount=Decimal(0), settles=entry, by=user, note=reason.strip()[:200],
            )
            for entry in earned
        )  # fmt: skip
        if earned:
            log_event(study, user, "pay refused", n_sessions=len(earned), reason=reason.strip()[:200])
    return len(earned)


def give_bonus(*, study: Study, user: User, participation: Participation, amount: str, reason: str) -> PayEntry:
    try:
        value = Decimal(amount).quantize(CENT)
    except InvalidOperation as error:
        raise StudyError(_("'%(amount)s' is no amount; write it like 1.50.") % {"amount": amount}) from error
    if not value.is_finite() or not 0 < value <= LARGEST_BONUS:
        raise StudyError(_("A bonus is more than 0 and at most %(largest_bonus)s.") % {"largest_bonus": LARGEST_BONUS})
    if participation.study_id != study.pk:
        raise StudyError(_("This person is not in this study."))
    entry = PayEntry.objects.create(
        participation=participation, kind=Kind.BONUS, amount=value, note=reason.strip()[:200], by=user
    )
    log_event(study, user, "bonus given", amount=str(value), code=participation.user.annotator_code)
    return entry


def mark_paid(*, study: Study, user: User, up_to: int, participations: Iterable[int] | None = None) -> int:
    """Write down that everything approved and every bonus was paid, up to the entry that was last on the page."""
    with transaction.atomic():
        owed = [entry for entry in unsettled(study, (Kind.APPROVED, Kind.BONUS), participations) if entry.pk <= up_to]
        n_paid = settle_by_payment(owed, user)
        if n_paid:
            log_event(study, user, "paid", n_entries=n_paid)
    return n_paid


def mark_bonus_file_paid(*, study: Study, user: User, up_to: int) -> int:
    """The same for the lines of the bonus file only."""
    with transaction.atomic():
        in_file = set(bonus_file(study).entry_ids)
        locked = unsettled(study, (Kind.APPROVED, Kind.BONUS))
        n_paid = settle_by_payment([entry for entry in locked if entry.pk in in_file and entry.pk <= up_to], user)
        if n_paid:
            log_event(study, user, "paid", n_entries=n_paid)
    return n_paid


def settle_by_payment(owed: list[PayEntry], user: User) -> int:
    paid = [
        PayEntry(
            participation_id=entry.participation_id, work_session_id=entry.work_session_id, kind=Kind.PAID,
            amount=entry.amount, settles=entry, by=user,
        )
        for entry in owed
    ]  # fmt: skip
    return len(PayEntry.objects.bulk_create(paid))


def unsettled(
    study: Study, kinds: str | tuple[str, ...], participations: Iterable[int] | None = None
) -> list[PayEntry]:
    """Entries of these kinds that nothing settles yet, locked in the order of their ids."""
    wanted = (kinds,) if isinstance(kinds, str) else kinds
    found = entries_of(study).filter(kind__in=wanted)
    if participations is not None:
        found = found.filter(participation__in=list(participations))
    locked = list(found.select_for_update(of=("self",)).select_related("work_session", "participation").order_by("id"))
    settled = set(PayEntry.objects.filter(settles__in=locked).values_list("settles_id", flat=True))
    return [entry for entry in locked if entry.pk not in settled]


def is_by_bonus(entry: PayEntry) -> bool:
    """Whether Prolific pays this as a bonus: by code it pays complete and screened-out sessions itself."""
    if entry.participation.came_by != Participation.CameBy.PROLIFIC or not entry.amount:
        return False
    return entry.kind == Kind.BONUS or (entry.work_session is not None and entry.work_session.ending in BY_BONUS)


def bonus_file(study: Study) -> BonusFile:
    """What Prolific is asked to pay beside its rewards: a line 'PID,amount' for each person, as its page takes it."""
    owed = entries_of(study).filter(kind__in=(Kind.APPROVED, Kind.BONUS), settled_by__isnull=True).order_by("id")
    entries = [entry for entry in owed.select_related("work_session", "participation") if is_by_bonus(entry)]
    identities = ExternalIdentity.objects.filter(
        study=study, source=ExternalIdentity.Source.PROLIFIC, participation__isnull=False
    )
    external_ids = dict(identities.values_list("participation_id", "external_id"))
    amounts: dict[int, Decimal] = defaultdict(Decimal)
    for entry in entries:
        amounts[entry.participation_id] += entry.amount
    known = {pk: amount for pk, amount in amounts.items() if pk in external_ids}
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((external_ids[pk], f"{known[pk]:.2f}") for pk in sorted(known))
    ids = [entry.pk for entry in entries if entry.participation_id in known]
    return BonusFile(text.getvalue(), len(known), sum(known.values(), Decimal(0)), ids, len(amounts) - len(known))
