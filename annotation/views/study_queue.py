"""How a study hands out its work: order, caps, the stopping rule, and what is reserved for whom."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from annotation.domain.assignment import (
    assign_share,
    assigned_work,
    cohort_named,
    form_cohort,
    withdraw_assignment,
)
from annotation.domain.queue_settings import change_queue
from annotation.domain.queue_state import queue_state
from annotation.domain.studies import StudyError
from annotation.forms.study_quality import CohortForm, QueueForm, ReservationForm
from annotation.models import Assignment, Study
from annotation.views.access import signed_in_user
from annotation.views.study_access import may_edit, study_editor, study_reader


@require_http_methods(["GET", "POST"])
@study_reader
def queue(request: HttpRequest, study: Study) -> HttpResponseBase:
    if request.method == "POST":
        return change(request, slug=study.slug)
    return page(request, study)


def page(request: HttpRequest, study: Study, **forms: Any) -> HttpResponse:
    context = {
        "study": study, "tab": "queue", "is_editor": may_edit(study, signed_in_user(request)),
        "state": queue_state(study), "work": assigned_work(study), "form": QueueForm.of_study(study),
        "reservation": ReservationForm(study), "cohort": CohortForm(study),
        "cohorts": study.cohorts.prefetch_related("participations__user"),
    }  # fmt: skip
    return render(request, "annotation/studies/queue.html", context | forms, status=422 if forms else 200)


@study_editor
def change(request: HttpRequest, study: Study) -> HttpResponseBase:
    form = QueueForm(request.POST)
    if form.is_valid():
        try:
            reason = form.cleaned_data["reason"]
            made = change_queue(study=study, settings=form.settings(), reason=reason, user=signed_in_user(request))
            messages.success(
                request,
                _("Version %(version)s is in force; people notice with their next items.") % {"version": made.version},
            )
            return redirect("study-queue", slug=study.slug)
        except StudyError as error:
            form.add_error(None, str(error))
    return page(request, study, form=form)


@require_POST
@study_editor
def reserve(request: HttpRequest, study: Study) -> HttpResponseBase:
    form = ReservationForm(study, request.POST)
    if form.is_valid():
        try:
            share = form.cleaned_data["share"]
            made = assign_share(study=study, share=share, to=form.whom(), user=signed_in_user(request))
            n = made.n_slots
            said = ngettext("%(n)s judgement is reserved.", "%(n)s judgements are reserved.", n)
            messages.success(request, said % {"n": n})
            return redirect("study-queue", slug=study.slug)
        except StudyError as error:
            form.add_error(None, str(error))
    return page(request, study, reservation=form)


@require_POST
@study_editor
def cohort(request: HttpRequest, study: Study) -> HttpResponseBase:
    form = CohortForm(study, request.POST)
    if form.is_valid():
        made = cohort_named(study, form.cleaned_data["name"])
        form_cohort(cohort=made, participations=[int(pk) for pk in form.cleaned_data["people"]])
        return redirect("study-queue", slug=study.slug)
    return page(request, study, cohort=form)


@require_POST
@study_editor
def withdraw(request: HttpRequest, study: Study, pk: int) -> HttpResponseBase:
    assignment = get_object_or_404(Assignment, pk=pk, study=study)
    n = withdraw_assignment(assignment=assignment, user=signed_in_user(request))
    said = ngettext("%(n)s judgement is everybody's again.", "%(n)s judgements are everybody's again.", n)
    messages.success(request, said % {"n": n})
    return redirect("study-queue", slug=study.slug)


urlpatterns = [
    path("studies/<slug:slug>/queue/", queue, name="study-queue"),
    path("studies/<slug:slug>/queue/reservations/", reserve, name="queue-reserve"),
    path("studies/<slug:slug>/queue/cohorts/", cohort, name="queue-cohort"),
    path("studies/<slug:slug>/queue/reservations/<int:pk>/", withdraw, name="queue-withdraw"),
]
