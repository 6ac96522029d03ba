"""The crowd of a study on one page: who came how, how sessions ended, what an hour of work paid, what is owed."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from django.db.models import Max, QuerySet, Sum
from django.utils.translation import gettext as _

from annotation.domain.crowd_money import announced_hourly, money
from annotation.domain.crowd_sessions import money_reserved
from annotation.domain.crowd_settings import money_left
from annotation.domain.payments import entries_of, money_spent
from annotation.models import ExternalIdentity, Participation, PayEntry, Recruitment, Role, Study, WorkSession

Kind = PayEntry.Kind
FEWEST_FOR_WARNING = 3  # sessions; a single slow one is no reason to worry
SORTS = {
    "joined": lambda row: row.participation.pk,
    "judged": lambda row: -row.participation.n_done,
    "hourly": lambda row: (row.hourly is None, row.hourly or 0),
    "owed": lambda row: -row.owed,
    "seen": lambda row: -(row.participation.last_seen_at.timestamp() if row.participation.last_seen_at else 0),
}


class CrowdRow(NamedTuple):
    """One person: sessions, minutes with items in view, and their lines of the ledger summed by kind."""

    participation: Participation
    sessions: list[WorkSession]
    minutes: float
    hourly: Decimal | None
    earned: Decimal
    approved: Decimal
    unapproved: Decimal
    bonus: Decimal
    paid: Decimal
    external: str

    @property
    def owed(self) -> Decimal:
        return self.approved + self.bonus - self.paid

    @property
    def last_ending(self) -> str:
        """How the last session stands: its ending, 'under way', or '' before the first."""
        if not self.sessions:
            return ""
        return self.sessions[-1].ending or "under way"


class CrowdTotals(NamedTuple):
    """The study as a whole."""

    n_people: int
    n_under_way: int
    endings: dict[str, int]
    median_minutes: float | None
    median_hourly: Decimal | None
    median_clock_minutes: float | None
    spent: Decimal
    reserved: Decimal
    left: Decimal | None
    owed: Decimal
    unapproved: Decimal
    last_entry: int


def crowd_rows(study: Study) -> list[CrowdRow]:
    """Every annotator of the study, in four queries whatever their number."""
    people = Participation.objects.filter(study=study, role=Role.ANNOTATOR).select_related("user").order_by("id")
    sessions: dict[int, list[WorkSession]] = defaultdict(list)
    for session in sessions_of(study).order_by("id"):
        sessions[session.participation_id].append(session)
    sums = ledger_sums(study)
    known = ExternalIdentity.objects.filter(study=study, participation__isnull=False)
    external = dict(known.values_list("participation_id", "external_id"))
    return [crowd_row(person, sessions[person.pk], sums[person.pk], external.get(person.pk, "")) for person in people]


def sessions_of(study: Study) -> QuerySet[WorkSession]:
    return WorkSession.objects.filter(participation__study=study)


def ledger_sums(study: Study) -> dict[int, dict[str, Decimal]]:
    """By person and kind; 'unapproved' is what was earned and nobody has looked at yet."""
    sums: dict[int, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    by_kind = entries_of(study).order_by().values_list("participation_id", "kind").annotate(total=Sum("amount"))
    for person, kind, total in by_kind:
        sums[person][kind] = total
    open_pay = entries_of(study).filter(kind=Kind.EARNED, settled_by__isnull=True).order_by()
    for person, total in open_pay.values_list("participation_id").annotate(total=Sum("amount")):
        sums[person]["unapproved"] = total
    return sums


def crowd_row(
    person: Participation, sessions: list[WorkSession], sums: Mapping[str, Decimal], external: str
) -> CrowdRow:
    minutes = sum(session.minutes or 0.0 for session in sessions)
    earned = sums.get(Kind.EARNED, Decimal(0))
    return CrowdRow(
        person, sessions, minutes, per_hour(earned, minutes), earned, sums.get(Kind.APPROVED, Decimal(0)),
        sums.get("unapproved", Decimal(0)), sums.get(Kind.BONUS, Decimal(0)), sums.get(Kind.PAID, Decimal(0)), external,
    )  # fmt: skip


def per_hour(earned: Decimal, minutes: float) -> Decimal | None:
    """None for less than half a minute of work, where a rate says nothing."""
    return earned * 60 / Decimal(str(minutes)) if earned and minutes >= 0.5 else None


def crowd_totals(study: Study, recruitment: Recruitment, rows: Iterable[CrowdRow]) -> CrowdTotals:
    rows = list(rows)
    ended = [session for row in rows for session in row.sessions if session.ended_at is not None]
    endings: dict[str, int] = defaultdict(int)
    for session in ended:
        endings[session.get_ending_display()] += 1
    complete = [session for session in ended if session.ending == WorkSession.Ending.COMPLETE and session.minutes]
    clock = [(session.ended_at - session.started_at).total_seconds() / 60 for session in complete if session.ended_at]
    hourly = hourly_of_sessions(study)
    return CrowdTotals(
        n_people=len(rows),
        n_under_way=sum(row.last_ending == "under way" for row in rows),
        endings=dict(endings),
        median_minutes=statistics.median(session.minutes or 0.0 for session in complete) if complete else None,
        median_hourly=statistics.median(hourly) if hourly else None,
        median_clock_minutes=statistics.median(clock) if clock else None,
        spent=money_spent(study),
        reserved=money_reserved(study),
        left=money_left(study, recruitment),
        owed=sum((row.owed for row in rows), Decimal(0)),
        unapproved=sum((row.unapproved for row in rows), Decimal(0)),
        last_entry=entries_of(study).aggregate(last=Max("pk"))["last"] or 0,
    )


def hourly_of_sessions(study: Study) -> list[Decimal]:
    """What each session that earned something paid for an hour with items in view."""
    earned = entries_of(study).filter(kind=Kind.EARNED, amount__gt=0, work_session__isnull=False)
    rates = [
        per_hour(amount, minutes or 0.0) for amount, minutes in earned.values_list("amount", "work_session__minutes")
    ]
    return [rate for rate in rates if rate is not None]


def pay_warnings(study: Study, recruitment: Recruitment, totals: CrowdTotals) -> list[str]:
    """What a researcher should look at: pay below what was announced or the minimum, a cap that is nearly reached."""
    if not recruitment.is_paid:
        return []
    warnings = []
    hourly, currency = totals.median_hourly, recruitment.currency
    is_enough = len(hourly_of_sessions(study)) >= FEWEST_FOR_WARNING
    minimum, announced = recruitment.minimum_hourly, announced_hourly(recruitment)
    if hourly is not None and is_enough and minimum is not None and hourly < minimum:
        warnings.append(
            _(
                "The median pay is %(hourly)s an hour, below your minimum of %(least)s: raise the pay, shorten the "
                "sessions, or give bonuses."
            )
            % {"hourly": money(hourly, currency), "least": money(minimum, currency)}
        )
    elif hourly is not None and is_enough and announced is not None and hourly < announced * Decimal("0.9"):
        warnings.append(
            _(
                "The median pay is %(hourly)s an hour, below the %(least)s that the announced minutes promise: "
                "sessions take longer than announced."
            )
            % {"hourly": money(hourly, currency), "least": money(announced, currency)}
        )
    if announced is not None and minimum is not None and announced < minimum:
        warnings.append(
            _("The announced pay is %(hourly)s an hour, below your minimum of %(least)s.")
            % {"hourly": money(announced, currency), "least": money(minimum, currency)}
        )
    if totals.left is not None and recruitment.spending_cap and totals.left < recruitment.spending_cap / 10:
        warnings.append(
            _("%(left)s of the spending cap is left for new sessions; beyond it nobody can begin one.")
            % {"left": money(totals.left, currency)}
        )
    return warnings


def filtered(rows: Iterable[CrowdRow], *, came_by: str = "", ending: str = "", pay: str = "") -> list[CrowdRow]:
    """The rows that a filter of the page keeps; an empty filter keeps all."""
    kept = [row for row in rows if came_by in ("", row.participation.came_by)]
    kept = [row for row in kept if ending in ("", row.last_ending)]
    if pay == "owed":
        return [row for row in kept if row.owed > 0]
    return [row for row in kept if row.unapproved > 0] if pay == "unapproved" else kept
