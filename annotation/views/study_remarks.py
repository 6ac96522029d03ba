"""What annotators said beside their answers, and what was done about it: flags, comments, skips, reported images.

An item is shown by its number and its pictures only, so that nothing here tells what it is while the study is blind.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.threads import (
    ThreadError,
    mark_seen,
    notices,
    open_remarks,
    remarks_of,
    reopen,
    reply_to,
    resolve,
    resolve_report,
)
from annotation.models import ImageReport, Participation, Remark, Study
from annotation.views.access import signed_in_user
from annotation.views.review import NOT_A_REVIEWER, may_settle, stimulus_or_none
from annotation.views.study_access import may_edit, study_editor, study_reader
from annotation.views.work_access import annotator_endpoint, ids_in

PER_PAGE = 20
MOST_REPORTS = 300
STATES = {"open": "open", "resolved": "resolved", "": "all"}


@require_GET
@study_reader
def study_remarks(request: HttpRequest, study: Study) -> HttpResponse:
    kind, state = request.GET.get("kind", ""), request.GET.get("state", "open")
    remarks = remarks_of(study)
    if kind in Remark.Kind.values:
        remarks = remarks.filter(kind=kind)
    if state == "open" and kind != Remark.Kind.SKIP:
        remarks = remarks.filter(open_remarks())
    elif state == "resolved":
        remarks = remarks.filter(resolved_at__isnull=False)
    page = Paginator(remarks, PER_PAGE).get_page(request.GET.get("page"))
    reports = study.image_reports.select_related("image", "reporter").order_by("resolved_at", "-id")
    context = {
        "study": study,
        "page": page,
        "rows": [(remark, stimulus_or_none(study, remark.item.stimulus_id)) for remark in page.object_list],
        "reports": reports[:MOST_REPORTS],
        "kinds": Remark.Kind.values,
        "states": STATES,
        "kind": kind,
        "state": state,
        "may_answer": may_settle(request, study),
        "is_editor": may_edit(study, signed_in_user(request)),
        "tab": "remarks",
    }
    return render(request, "annotation/studies/remarks.html", context)


@require_POST
@study_reader
def remark_change(request: HttpRequest, study: Study, pk: int) -> HttpResponseBase:
    """Answer a remark, resolve it, or open it again; reviewers may, for it changes nothing of the study."""
    if not may_settle(request, study):
        raise PermissionDenied(NOT_A_REVIEWER)
    remark = get_object_or_404(Remark, pk=pk, item__study=study)
    user, text = signed_in_user(request), request.POST.get("text", "")
    try:
        match request.POST.get("act"):
            case "reply":
                reply_to(remark=remark, author=user, text=text)
            case "resolve":
                resolve(remark=remark, user=user, note=text)
            case "reopen":
                reopen(remark=remark)
            case _:
                messages.error(request, _("Nothing was changed."))
    except ThreadError as error:
        messages.error(request, str(error))
    return redirect(back_to(request, study))


def back_to(request: HttpRequest, study: Study) -> str:
    """The page the form stood on, if it is ours."""
    given = request.POST.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(given, {request.get_host()}, require_https=request.is_secure())
    return given if given.startswith("/") and is_ours else f"/studies/{study.slug}/remarks/"


@require_POST
@study_editor
def report_resolved(request: HttpRequest, study: Study, pk: int) -> HttpResponseBase:
    resolve_report(report=get_object_or_404(ImageReport, pk=pk, study=study))
    return redirect("study-remarks", slug=study.slug)


@require_http_methods(["GET", "POST"])
@annotator_endpoint
def work_notices(participation: Participation, body: dict[str, Any]) -> dict[str, Any]:
    """Answers to one's remarks that one has not seen; a POST of {"seen": [ids]} says that one has."""
    seen = ids_in(body, "seen") if "seen" in body else []
    if seen:
        mark_seen(participation=participation, reply_ids=seen)
    return {
        "notices": [
            {"id": one.reply_id, "remark": one.remark, "reply": one.reply, "at": one.at.isoformat()}
            for one in notices(participation)
        ]
    }


urlpatterns = [
    path("studies/<slug:slug>/remarks/", study_remarks, name="study-remarks"),
    path("studies/<slug:slug>/remarks/<int:pk>/", remark_change, name="remark-change"),
    path("studies/<slug:slug>/reports/<int:pk>/", report_resolved, name="report-resolved"),
    path("work/<slug:slug>/notices", work_notices, name="work-notices"),
]
