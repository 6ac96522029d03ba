"""What annotators said beside their answers: skips, flags, comments, and images they reported.

An item is named by its number only, so that nothing here tells what it is while the study is blind.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from annotation.models import ImageReport, Remark, Study
from annotation.views.access import signed_in_user
from annotation.views.study_access import may_edit, study_editor, study_reader

MOST_SHOWN = 300


@require_GET
@study_reader
def study_remarks(request: HttpRequest, study: Study) -> HttpResponse:
    kind = request.GET.get("kind", "")
    remarks = Remark.objects.filter(item__study=study).select_related("author").order_by("-id")
    if kind in Remark.Kind.values:
        remarks = remarks.filter(kind=kind)
    reports = study.image_reports.select_related("image", "reporter").order_by("resolved_at", "-id")
    context = {
        "study": study,
        "remarks": remarks[:MOST_SHOWN],
        "reports": reports[:MOST_SHOWN],
        "kinds": Remark.Kind.values,
        "kind": kind,
        "is_editor": may_edit(study, signed_in_user(request)),
        "tab": "remarks",
    }
    return render(request, "annotation/studies/remarks.html", context)


@require_POST
@study_editor
def report_resolved(request: HttpRequest, study: Study, pk: int) -> HttpResponseBase:
    """Somebody has looked at the image; the same button opens the report again."""
    report = get_object_or_404(ImageReport, pk=pk, study=study)
    report.resolved_at = None if report.resolved_at else timezone.now()
    report.save(update_fields=["resolved_at"])
    return redirect("study-remarks", slug=study.slug)


urlpatterns = [
    path("studies/<slug:slug>/remarks/", study_remarks, name="study-remarks"),
    path("studies/<slug:slug>/reports/<int:pk>/", report_resolved, name="report-resolved"),
]
