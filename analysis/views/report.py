"""The analysis pages: which studies there are, the report of one, the data behind each figure, unblinding."""

from __future__ import annotations

import csv
from typing import NamedTuple

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from analysis.views.progress import progress_context
from annotation.domain.preregistration import departures
from annotation.domain.protocols import PROTOCOLS
from annotation.domain.results import require_results_role, studies_with_results, study_with_results
from annotation.domain.unblinding import UnblindingError, unblind, unblinding_of
from annotation.models import Study
from annotation.views.access import signed_in_user
from annotation.views.study_access import may_edit, require_editor

LEVEL_CHOICES = {"both": ("patch", "image"), "patch": ("patch",), "image": ("image",)}


class Filters(NamedTuple):
    """What the address asks for; an unknown value is the default."""

    level: str
    include_simulated: bool

    @property
    def query(self) -> str:
        return f"level={self.level}&simulated={int(self.include_simulated)}"


def read_filters(request: HttpRequest, study: Study) -> Filters:
    level = request.GET.get("level", "both")
    simulated = request.GET.get("simulated", "1" if study.is_simulated else "0")
    return Filters(level if level in LEVEL_CHOICES else "both", simulated == "1")


def study_or_404(request: HttpRequest, slug: str) -> Study:
    try:
        return study_with_results(signed_in_user(request), slug)
    except Study.DoesNotExist as error:
        raise Http404(str(error)) from error


@login_required
@require_GET
def analysis_index(request: HttpRequest) -> HttpResponse:
    require_results_role(signed_in_user(request))
    studies = studies_with_results(signed_in_user(request))
    unblinded = set(studies.filter(state=Study.State.CLOSED, events__kind="unblinded").values_list("pk", flat=True))
    rows = [(study, study.pk in unblinded) for study in studies.exclude(state=Study.State.DRAFT)]
    return render(request, "analysis/index.html", {"rows": rows})


@login_required
@require_GET
def report_page(request: HttpRequest, slug: str) -> HttpResponse:
    study = study_or_404(request, slug)
    filters = read_filters(request, study)
    act = unblinding_of(study)
    context = {"study": study, "filters": filters, "unblinding": act, "level_choices": list(LEVEL_CHOICES)}
    if act is None:
        context["is_editor"] = may_edit(study, signed_in_user(request))
        return render(request, "analysis/progress.html", context | progress_context(study))
    from analysis.domain.cached import cached_report
    from analysis.domain.saying import say
    from analysis.views.charts import LEVELS, charts_of

    report = cached_report(study, include_simulated=filters.include_simulated)
    hidden = {level for level in LEVELS if level not in LEVEL_CHOICES[filters.level]}
    has_levels = any(line.series in LEVELS for section in report.sections for line in section.lines)
    return render(
        request,
        "analysis/report.html",
        context
        | {
            "report": report,
            "charts": charts_of(report, hidden),
            "headlines": [one._replace(words=say(one.words)) for one in report.headlines if one.series not in hidden],
            "notes": [(say(what), n) for what, n in report.notes],
            "departures": departures(study),
            "has_levels": has_levels,
            "protocol": PROTOCOLS[study.protocol],
        },
    )


@login_required
@require_POST
def report_unblind(request: HttpRequest, slug: str) -> HttpResponse:
    study = study_or_404(request, slug)
    require_editor(study, signed_in_user(request))
    try:
        unblind(study=study, user=signed_in_user(request))
    except UnblindingError as error:
        messages.error(request, str(error))
    return redirect("report", slug=slug)


@login_required
@require_GET
def report_figures(request: HttpRequest, slug: str) -> HttpResponse:
    """The data behind the plots as CSV; `?group=block` for one of them."""
    study = study_or_404(request, slug)
    filters = read_filters(request, study)
    if unblinding_of(study) is None:
        raise PermissionDenied(_("'%(name)s' is blind: close it and unblind it to see results.") % {"name": study.name})
    from analysis.domain.cached import cached_report
    from analysis.domain.report import figures_of
    from analysis.statistics.figures import Figure

    report = cached_report(study, include_simulated=filters.include_simulated)
    group = request.GET.get("group", "")
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    name = f"{study.slug}-{group or 'figures'}.csv".replace(" ", "-").replace('"', "")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    writer = csv.writer(response)
    writer.writerow(["level", "group", "name", *Figure._fields, "is_simulated_included"])
    for level, of_group, part, figure in figures_of(report):
        is_shown = level not in LEVEL_CHOICES["both"] or level in LEVEL_CHOICES[filters.level]
        if is_shown and group in ("", of_group, of_group.removesuffix("-judgements")):
            writer.writerow([level, of_group, part, *figure, report.include_simulated])
    return response


urlpatterns = [
    path("analysis/", analysis_index, name="analysis"),
    path("analysis/<slug:slug>/", report_page, name="report"),
    path("analysis/<slug:slug>/unblind/", report_unblind, name="report-unblind"),
    path("analysis/<slug:slug>/figures.csv", report_figures, name="report-figures"),
]
