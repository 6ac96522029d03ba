"""Making a study: its form with a live preview of the sample; and deleting a draft."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import include, path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from annotation.domain.sampling import SamplingError
from annotation.domain.studies import StudyError, create_study
from annotation.domain.study_deleting import delete_draft, deletion_of
from annotation.domain.study_editing import change_study
from annotation.domain.study_samples import sample_of
from annotation.forms.study import StudyForm
from annotation.models import Study
from annotation.views.access import researcher_required, signed_in_user
from annotation.views.study_access import may_edit, study_editor

FORM_PAGE = "annotation/studies/form.html"


@require_http_methods(["GET", "POST"])
@researcher_required
def study_new(request: HttpRequest) -> HttpResponseBase:
    form = StudyForm(request.POST) if request.method == "POST" else StudyForm()
    if request.method == "POST" and form.is_valid():
        try:
            study = create_study(user=signed_in_user(request), **form.study_values())
            return redirect("study", slug=study.slug)
        except SamplingError as error:
            form.add_error(None, str(error))
    return render(request, FORM_PAGE, {"form": form, "study": None})


@require_http_methods(["GET", "POST"])
@study_editor
def study_edit(request: HttpRequest, study: Study) -> HttpResponseBase:
    form = StudyForm(request.POST, study=study) if request.method == "POST" else StudyForm.of(study)
    if request.method == "POST" and form.is_valid():
        try:
            change_study(study=study, user=signed_in_user(request), values=form.study_values())
            messages.success(request, _("Saved."))
            return redirect("study", slug=study.slug)
        except (StudyError, SamplingError) as error:
            form.add_error(None, str(error))
    return render(request, FORM_PAGE, {"form": form, "study": study, "tab": "edit"})


@require_http_methods(["GET", "POST"])
@study_editor
def study_delete(request: HttpRequest, study: Study) -> HttpResponseBase:
    """What goes with a draft, and the button; what was launched stays, and is closed instead."""
    if request.method == "POST":
        try:
            if request.POST.get("confirmed") != "yes":
                raise StudyError(_("Tick the box to confirm that the draft shall be deleted."))
            delete_draft(study=study, user=signed_in_user(request))
            messages.success(request, _("The draft '%(name)s' was deleted.") % {"name": study.name})
            return redirect("studies")
        except StudyError as error:
            messages.error(request, str(error))
    context = {"study": study, "deletion": deletion_of(study), "tab": "overview"}
    return render(request, "annotation/studies/delete.html", context)


@require_POST
@researcher_required
def study_sampler(request: HttpRequest) -> HttpResponse:
    """The preview beside the form: what would be drawn with the values typed so far. `?study=` names a saved draft."""
    study = Study.objects.filter(slug=request.GET.get("study", "")).first()
    if study is not None and not may_edit(study, signed_in_user(request)):
        study = None
    form = StudyForm(request.POST, study=study)
    context: dict[str, object] = {"protocol": request.POST.get("protocol", "")}
    try:
        context["sample"] = sample_of(form.sample_request())
    except SamplingError as error:
        errors = [
            f"{form.fields[name].label or name}: {form.errors[name][0]}"
            for name in form.sample_fields()
            if name in form.errors and name != "dictionaries"
        ]
        context |= {"problem": str(error), "errors": errors, "is_unchosen": "dictionaries" in form.errors}
    return render(request, "annotation/studies/sample.html", context)


urlpatterns = [
    path("studies/new/", study_new, name="study-new"),
    path("studies/sampler/", study_sampler, name="study-sampler"),
    path("studies/<slug:slug>/delete/", study_delete, name="study-delete"),
    path("studies/<slug:slug>/edit/", study_edit, name="study-edit"),
    path("", include("annotation.views.study_guideline")),
]
