"""The crowd of a study, for its researchers: who came, how sessions ended, what they earned and what is owed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import include, path
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from annotation.domain.crowd_consent import recruitment_of
from annotation.domain.crowd_people import (
    SORTS,
    CrowdRow,
    crowd_rows,
    crowd_totals,
    filtered,
    pay_warnings,
)
from annotation.domain.crowd_sessions import settle_sessions
from annotation.domain.payments import (
    approve_pay,
    bonus_file,
    entries_of,
    give_bonus,
    mark_bonus_file_paid,
    mark_paid,
    refuse_pay,
)
from annotation.domain.retention import delete_all_identities, due_identities
from annotation.domain.studies import StudyError
from annotation.models import ExternalIdentity, Participation, PayEntry, Study, WorkSession
from annotation.views.access import signed_in_user
from annotation.views.study_access import study_editor

PER_PAGE = 100
FILTERS = ("came_by", "ending", "pay")
LEDGER_COLUMNS = (
    "entry", "at", "person", "kind", "amount", "session", "ending", "minutes", "settles", "by", "note",
)  # fmt: skip
PEOPLE_COLUMNS = (
    "person", "came_by", "sessions", "last_session", "judged", "minutes", "per_hour", "earned", "approved", "bonus",
    "paid", "owed", "joined_at", "last_seen_at",
)  # fmt: skip


@never_cache
@require_http_methods(["GET", "POST"])
@study_editor
def crowd(request: HttpRequest, study: Study) -> HttpResponseBase:
    """Totals, warnings and people; a POST approves, refuses, gives a bonus, marks as paid, deletes identities."""
    if request.method == "POST":
        try:
            messages.success(request, act(request, study))
        except StudyError as error:
            messages.error(request, str(error))
        query = urlencode({name: request.GET[name] for name in (*FILTERS, "sort", "page") if name in request.GET})
        return redirect(f"{request.path}?{query}" if query else request.path)
    settle_sessions(study=study)
    recruitment = recruitment_of(study)
    rows = crowd_rows(study)
    totals = crowd_totals(study, recruitment, rows)
    chosen = {name: request.GET.get(name, "") for name in FILTERS}
    sort = request.GET.get("sort", "joined") if request.GET.get("sort") in SORTS else "joined"
    kept = sorted(filtered(rows, **chosen), key=SORTS[sort])
    context = {
        "study": study,
        "recruitment": recruitment,
        "currency": recruitment.currency,
        "totals": totals,
        "warnings": pay_warnings(study, recruitment, totals),
        "page": Paginator(kept, PER_PAGE).get_page(request.GET.get("page")),
        "n_kept": len(kept),
        "chosen": chosen,
        "query": urlencode({name: value for name, value in chosen.items() if value}),
        "sort": sort,
        "came_by": Participation.CameBy.choices,
        "endings": [*WorkSession.Ending.choices, ("under way", _("under way"))],
        "bonus": bonus_file(study) if recruitment.by_prolific else None,
        "n_identities": ExternalIdentity.objects.filter(study=study, deleted_at__isnull=True).count(),
        "n_due": len(due_identities(study)),
        "tab": "crowd",
        "part": "people",
    }
    return render(request, "annotation/studies/crowd.html", context)


def act(request: HttpRequest, study: Study) -> str:
    """Do what a button of the page asks for; returns what was done, in a sentence. Raises StudyError."""
    user, what = signed_in_user(request), request.POST.get("act", "")
    if what == "approve":
        n = approve_pay(study=study, user=user, participations=named(request))
        return ngettext("%(n)s session was approved.", "%(n)s sessions were approved.", n) % {"n": n}
    if what == "paid":
        n_paid = mark_paid(study=study, user=user, up_to=last_seen(request), participations=named(request))
        return ngettext(
            "%(n)s line of pay was written down as paid.", "%(n)s lines of pay were written down as paid.", n_paid
        ) % {"n": n_paid}
    if what == "bonus-paid":
        n_paid = mark_bonus_file_paid(study=study, user=user, up_to=last_seen(request))
        return ngettext(
            "%(n)s line of pay was written down as paid by bonus.",
            "%(n)s lines of pay were written down as paid by bonus.",
            n_paid,
        ) % {"n": n_paid}
    if what == "delete-identities":
        if request.POST.get("confirmed") != "yes":
            raise StudyError(_("Tick the box beside it first; nothing was deleted."))
        n = delete_all_identities(study=study, user=user)
        return ngettext(
            "%(n)s identity was deleted; the answers are anonymous.",
            "%(n)s identities were deleted; the answers are anonymous.",
            n,
        ) % {"n": n}
    person = get_object_or_404(study.participations.select_related("user"), pk=whole_number(request, "person"))
    reason = request.POST.get("reason", "")
    if what == "refuse":
        n_refused = refuse_pay(study=study, user=user, participation=person, reason=reason)
        return ngettext(
            "The pay of %(n)s session was refused.", "The pay of %(n)s sessions was refused.", n_refused
        ) % {"n": n_refused}
    if what == "bonus":
        amount = request.POST.get("amount", "")
        give_bonus(study=study, user=user, participation=person, amount=amount, reason=reason)
        return _("The bonus of %(annotator_code)s is in the ledger.") % {"annotator_code": person.user.annotator_code}
    raise StudyError(_("This page has no such button; load it again."))


def named(request: HttpRequest) -> list[int] | None:
    """The people ticked; None for everybody."""
    ids = [int(value) for value in request.POST.getlist("person") if value.isdecimal()]
    return None if request.POST.get("everybody") == "yes" else ids


def last_seen(request: HttpRequest) -> int:
    return whole_number(request, "up_to")


def whole_number(request: HttpRequest, name: str) -> int:
    text = request.POST.get(name, "")
    if not text.isdecimal() or len(text) > 18:
        raise StudyError(_("The page is not whole; load it again."))
    return int(text)


@require_GET
@study_editor
def crowd_csv(request: HttpRequest, study: Study) -> HttpResponseBase:
    """The people of the page as it is filtered, under their codes: no name and no outside identity is in it."""
    rows = filtered(crowd_rows(study), **{name: request.GET.get(name, "") for name in FILTERS})
    return csv_file(f"{study.slug}-crowd.csv", PEOPLE_COLUMNS, (people_line(row) for row in rows))


def people_line(row: CrowdRow) -> list[Any]:
    place = row.participation
    amounts: list[Decimal] = [row.earned, row.approved, row.bonus, row.paid, row.owed]
    return [
        place.user.annotator_code, place.came_by, len(row.sessions), row.last_ending, place.n_done,
        f"{row.minutes:.2f}", "" if row.hourly is None else f"{row.hourly:.2f}", *(f"{value:.2f}" for value in amounts),
        stamp(place.joined_at), stamp(place.last_seen_at),
    ]  # fmt: skip


def stamp(moment: Any) -> str:
    return moment.isoformat(timespec="seconds") if moment else ""


@require_GET
@study_editor
def ledger_csv(request: HttpRequest, study: Study) -> HttpResponseBase:
    entries = entries_of(study).select_related("participation__user", "work_session", "by").order_by("id")
    return csv_file(f"{study.slug}-ledger.csv", LEDGER_COLUMNS, map(ledger_line, entries.iterator(2000)))


def ledger_line(entry: PayEntry) -> list[Any]:
    session = entry.work_session
    of_session = ["", "", ""] if session is None else [session.number, session.ending, f"{session.minutes or 0:.2f}"]
    return [
        entry.pk, stamp(entry.at), entry.participation.user.annotator_code, entry.kind, f"{entry.amount:.2f}",
        *of_session, entry.settles_id or "", entry.by.username if entry.by else "", entry.note,
    ]  # fmt: skip


@require_GET
@study_editor
def bonus_csv(request: HttpRequest, study: Study) -> HttpResponseBase:
    """What Prolific's page for bulk bonuses takes: PID,amount by line, without a head."""
    response = HttpResponse(bonus_file(study).text, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{study.slug}-bonus.csv"'
    return response


class Echo:
    """A file that hands back what is written, for the csv module."""

    def write(self, text: str) -> str:
        return text


def csv_file(name: str, columns: tuple[str, ...], lines: Iterator[list[Any]]) -> StreamingHttpResponse:
    writer = csv.writer(Echo())
    response = StreamingHttpResponse(chain([writer.writerow(columns)], map(writer.writerow, map(harmless, lines))))
    response["Content-Type"] = "text/csv; charset=utf-8"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def harmless(line: list[Any]) -> list[Any]:
    """A cell that a spreadsheet would take for a formula gets an apostrophe."""
    return [f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "@", "-") else cell for cell in line]


urlpatterns = [
    path("studies/<slug:slug>/crowd/", crowd, name="study-crowd"),
    path("studies/<slug:slug>/crowd/people.csv", crowd_csv, name="crowd-csv"),
    path("studies/<slug:slug>/crowd/ledger.csv", ledger_csv, name="crowd-ledger"),
    path("studies/<slug:slug>/crowd/bonus.csv", bonus_csv, name="crowd-bonus"),
    path("", include("annotation.views.crowd_setup")),
    path("", include("annotation.views.crowd_session")),
    path("", include("annotation.views.image_reports")),
]
