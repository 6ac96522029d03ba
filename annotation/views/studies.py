"""Studies: an annotator's own, all of them for researchers, and the page of each with its people and its log."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import include, path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from annotation.domain.launching import settle_failed_launch
from annotation.domain.participation import is_over, next_step
from annotation.domain.studies import StudyError
from annotation.domain.study_checklist import checklist, try_sample
from annotation.domain.study_editing import set_role
from annotation.domain.study_people import people_of
from annotation.domain.unblinding import unblinding_of
from annotation.forms.study_parts import PersonForm
from annotation.models import Participation, Role, Study
from annotation.views.access import signed_in_user
from annotation.views.study_access import may_edit, require_editor, study_reader
from annotation.views.study_launch import freezing_context
from annotation.views.work_access import STEP_URLS

N_EVENTS = 60


@require_GET
@login_required
def studies(request: HttpRequest) -> HttpResponse:
    """Researchers see every study; everybody sees the studies they are in."""
    user = signed_in_user(request)
    mine = Participation.objects.filter(user=user).select_related("study").order_by("-study_id")
    context = {
        "mine": [
            {
                "participation": participation,
                "study": participation.study,
                "is_annotator": participation.role == Role.ANNOTATOR,
                "is_over": is_over(participation),
                "percent": percent_in_tens(participation.study),
                "url": reverse(STEP_URLS[next_step(participation)], args=[participation.study.slug]),
            }
            for participation in mine
            if participation.role == Role.ANNOTATOR or not user.is_researcher
        ],
        "studies": list(Study.objects.select_related("created_by")) if user.is_researcher else None,
    }
    return render(request, "annotation/studies/list.html", context)


def percent_in_tens(study: Study) -> int:
    """Coarse: a judgement that does not move the figure would be known as a check."""
    return 10 * (10 * study.n_slots_done // study.n_slots) if study.n_slots else 0


@require_GET
@study_reader
def study(request: HttpRequest, study: Study) -> HttpResponseBase:
    """A draft shows what it lacks; a launched study how it goes. Nothing here tells answers by condition or block."""
    reason = settle_failed_launch(study=study)
    if reason:
        messages.error(request, _("The launch failed, and the study is a draft again. %(reason)s") % {"reason": reason})
    context: dict[str, Any] = {
        "study": study,
        "is_editor": may_edit(study, signed_in_user(request)),
        "tab": "overview",
        "events": study.events.select_related("user")[:N_EVENTS],
    }
    if study.state == Study.State.DRAFT:
        context["checks"] = checklist(study, try_sample(study))
    elif study.state == Study.State.LAUNCHING:
        context |= freezing_context(study.launch_run) if study.launch_run else {}
    else:
        context |= work_context(request, study)
    return render(request, "annotation/studies/study.html", context)


def work_context(request: HttpRequest, study: Study) -> dict[str, Any]:
    people = people_of(study)
    speeds = [person.seconds_per_item for person in people if person.seconds_per_item]
    left = study.n_slots - study.n_slots_done
    return {
        "people": people,
        "annotators": [person for person in people if person.participation.role == Role.ANNOTATOR],
        "join_url": request.build_absolute_uri(reverse("join", args=[study.join_token])),
        "percent": 100 * study.n_slots_done / study.n_slots if study.n_slots else 0,
        "hours_left": left * (sum(speeds) / len(speeds)) / 3600 if speeds else None,
        "unblinding": unblinding_of(study),
    }


@require_http_methods(["GET", "POST"])
@study_reader
def study_people(request: HttpRequest, study: Study) -> HttpResponseBase:
    user = signed_in_user(request)
    is_editor = may_edit(study, user)
    form = PersonForm(request.POST or None)
    if request.method == "POST":
        require_editor(study, user)
    if request.method == "POST" and form.is_valid():
        try:
            set_role(study=study, user=user, **form.cleaned_data)
            return redirect("study-people", slug=study.slug)
        except StudyError as error:
            form.add_error("username", str(error))
    context = {"study": study, "form": form, "people": people_of(study), "is_editor": is_editor, "tab": "people"}
    return render(request, "annotation/studies/people.html", context)


urlpatterns = [
    path("studies/", studies, name="studies"),
    path("", include("annotation.views.protocols")),
    path("", include("annotation.views.explanations")),
    path("", include("annotation.views.study_editor")),
    path("", include("annotation.views.study_reference")),
    path("", include("annotation.views.study_launch")),
    path("", include("annotation.views.study_quality")),
    path("", include("annotation.views.study_queue")),
    path("", include("annotation.views.study_remarks")),
    path("", include("annotation.views.study_versions")),
    path("studies/<slug:slug>/people/", study_people, name="study-people"),
    path("studies/<slug:slug>/", study, name="study"),
]
