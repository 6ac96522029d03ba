"""What is written down about a study: its pre-registration, its versions, its pilots and copies."""

from __future__ import annotations

import json

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.launch_problems import launch_problems
from annotation.domain.launching import launch_study
from annotation.domain.pilots import copy_study, make_pilot
from annotation.domain.preregistration import departures, lines_of, preregister
from annotation.domain.studies import StudyError
from annotation.domain.versions import LIVE_STATES, RULES, change_live_study, plan_change
from annotation.forms.study_versions import LiveStudyForm, PreregistrationForm
from annotation.models import Study
from annotation.views.access import signed_in_user
from annotation.views.study_access import may_edit, require_editor, study_editor, study_reader
from config.wakeup import wake_workers


@require_http_methods(["GET", "POST"])
@study_reader
def study_preregistration(request: HttpRequest, study: Study) -> HttpResponseBase:
    user = signed_in_user(request)
    is_editor = may_edit(study, user) and study.state == Study.State.DRAFT
    form = PreregistrationForm(request.POST or None, initial=study.preregistration)
    if request.method == "POST":
        require_editor(study, user)
    if request.method == "POST" and form.is_valid():
        try:
            preregister(study=study, user=user, values=form.cleaned_data)
            messages.success(request, _("Saved. The launch will lock it."))
            return redirect("study-preregistration", slug=study.slug)
        except StudyError as error:
            form.add_error(None, str(error))
    context = {"study": study, "form": form, "is_editor": is_editor, "tab": "preregistration"}
    context |= {"lines": lines_of(study), "departures": departures(study)}
    return render(request, "annotation/studies/preregistration.html", context)


@require_GET
@study_reader
def preregistration_file(request: HttpRequest, study: Study) -> HttpResponse:
    """What was locked, with its hash, to be kept elsewhere."""
    facts = {
        "study": study.slug,
        "name": study.name,
        "launched_at": study.launched_at.isoformat() if study.launched_at else None,
        "settings_hash": study.locked_hash,
        "preregistration": study.preregistration,
    }
    response = HttpResponse(json.dumps(facts, indent=2, ensure_ascii=False), content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="{study.slug}-preregistration.json"'
    return response


@require_http_methods(["GET", "POST"])
@study_reader
def study_versions(request: HttpRequest, study: Study) -> HttpResponseBase:
    """The versions so far, and the change of a live study: what it would mean first, then the change."""
    user = signed_in_user(request)
    is_editor = may_edit(study, user) and study.state in LIVE_STATES
    form = LiveStudyForm.of(study, request.POST or None)
    context: dict[str, object] = {"study": study, "form": form, "is_editor": is_editor, "tab": "versions"}
    if request.method == "POST":
        require_editor(study, user)
    if request.method == "POST" and form.is_valid():
        try:
            context["plan"] = plan_change(study=study, values=form.values())
            if request.POST.get("confirmed") == "yes":
                reason = form.cleaned_data["reason"]
                version = change_live_study(study=study, user=user, values=form.values(), reason=reason)
                messages.success(request, _("Version %(version)s is in force.") % {"version": version.version})
                return redirect("study-versions", slug=study.slug)
        except StudyError as error:
            form.add_error(None, str(error))
    context |= {
        "versions": study.versions.select_related("created_by"),
        "labels": {name: _(rule.label) for name, rule in RULES.items()} | {"guideline": _("Guideline")},
    }
    return render(request, "annotation/studies/versions.html", context)


@require_POST
@study_editor
def study_pilot(request: HttpRequest, study: Study) -> HttpResponseBase:
    """Make the pilot of a draft, and launch it at once where nothing is missing."""
    try:
        pilot = make_pilot(study=study, user=signed_in_user(request))
        if launch_problems(pilot):
            messages.warning(request, _("The pilot is made; settle what is missing, then launch it."))
        else:
            wake_workers(launch_study(study=pilot, user=signed_in_user(request)).queue)
            messages.success(request, _("The pilot is being launched: invite six people when it is open."))
        return redirect("study", slug=pilot.slug)
    except StudyError as error:
        messages.error(request, str(error))
    return redirect("study", slug=study.slug)


@require_POST
@study_reader
def study_copy(request: HttpRequest, study: Study) -> HttpResponseBase:
    user = signed_in_user(request)
    if not user.is_researcher:
        raise PermissionDenied(_("Researchers make studies; a reviewer reads them."))
    try:
        copy = copy_study(source=study, user=user, name=request.POST.get("name", "") or f"{study.name}, again")
        messages.success(request, _("A draft with the same settings; no answer came along."))
        return redirect("study", slug=copy.slug)
    except StudyError as error:
        messages.error(request, str(error))
    return redirect("study", slug=study.slug)


urlpatterns = [
    path("studies/<slug:slug>/preregistration/", study_preregistration, name="study-preregistration"),
    path("studies/<slug:slug>/preregistration.json", preregistration_file, name="preregistration-file"),
    path("studies/<slug:slug>/versions/", study_versions, name="study-versions"),
    path("studies/<slug:slug>/pilot/", study_pilot, name="study-pilot"),
    path("studies/<slug:slug>/copy/", study_copy, name="study-copy"),
]
