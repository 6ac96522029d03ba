"""Before a study: what it will cost and tell, and what its pilot has shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from analysis.views.report import study_or_404
from annotation.models import Study
from annotation.views.access import signed_in_user
from annotation.views.study_access import may_edit

if TYPE_CHECKING:
    from analysis.domain.pilot import PilotReport

LIMITS = {"n_annotators": (1, 100_000), "share": (1, 99), "seconds": (0.5, 3600), "hourly_pay": (0, 10_000)}


def read_assumption(request: HttpRequest, name: str) -> float | None:
    """A number of the address within its limits; anything else counts as not given."""
    try:
        value = float(request.GET.get(name, ""))
    except ValueError:
        return None
    low, high = LIMITS[name]
    return value if low <= value <= high else None


@login_required
@require_GET
def study_plan(request: HttpRequest, slug: str) -> HttpResponse:
    """Judgements, hours, cost and half-widths of a draft; the assumptions are in the address."""
    from analysis.domain.planning import Assumptions, last_pilot, plan_of

    study = study_or_404(request, slug)
    if study.state != Study.State.DRAFT:
        return redirect("study", slug=slug)
    percent = read_assumption(request, "share")
    given = Assumptions(
        n_annotators=int(read_assumption(request, "n_annotators") or 10),
        share=None if percent is None else percent / 100,
        seconds=read_assumption(request, "seconds"),
        hourly_pay=read_assumption(request, "hourly_pay") or 0.0,
    )
    plan = plan_of(study, given)
    context: dict[str, object] = {"study": study, "tab": "plan", "pilots": study.pilots.order_by("id")}
    context |= {"is_editor": may_edit(study, signed_in_user(request)), "last_pilot": last_pilot(study)}
    context |= {"problem": plan} if isinstance(plan, str) else {"plan": plan}
    return render(request, "analysis/plan.html", context)


def named(report: PilotReport) -> list[tuple[str, float]]:
    words = (_("features"), _("annotators"), _("answers beyond both"))
    return list(zip(words, report.parts, strict=True)) if report.parts else []


@login_required
@require_GET
def pilot_report(request: HttpRequest, slug: str) -> HttpResponse:
    """A pilot's figures, features and controls pooled, once it is closed."""
    from analysis.domain.pilot import report_of_pilot
    from analysis.domain.planning import Assumptions, plan_of
    from analysis.domain.saying import said

    study = study_or_404(request, slug)
    if study.pilot_of is None:
        raise PermissionDenied(_("'%(name)s' is no pilot; its figures are in its report.") % {"name": study.name})
    context: dict[str, object] = {"study": study, "tab": "pilot"}
    if study.state == Study.State.CLOSED:
        report = report_of_pilot(study)
        context["report"] = report._replace(agreement=[said(one) for one in report.agreement])
        context["parts"] = [(name, value, value**0.5) for name, value in named(report)]
        main = study.pilot_of
        if main.state == Study.State.DRAFT:
            plan = plan_of(main, Assumptions())
            context["plan"] = None if isinstance(plan, str) else plan
    return render(request, "analysis/pilot.html", context)


urlpatterns = [
    path("studies/<slug:slug>/plan/", study_plan, name="study-plan"),
    path("studies/<slug:slug>/pilot-report/", pilot_report, name="pilot-report"),
]
