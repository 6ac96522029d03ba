"""Making a study: its form with a live preview of the sample, and the guideline."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST

from annotation.domain.participation import current_guideline
from annotation.domain.sampling import SamplingError
from annotation.domain.studies import StudyError, create_study, write_guideline
from annotation.domain.study_editing import change_study
from annotation.domain.study_samples import sample_of
from annotation.forms.study import StudyForm
from annotation.forms.study_parts import GuidelineForm
from annotation.models import Study
from annotation.templatetags.prose import prose
from annotation.views.access import researcher_required, signed_in_user
from annotation.views.study_access import may_edit, require_editor, study_editor, study_reader

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
            messages.success(request, "Saved.")
            return redirect("study", slug=study.slug)
        except (StudyError, SamplingError) as error:
            form.add_error(None, str(error))
    return render(request, FORM_PAGE, {"form": form, "study": study, "tab": "edit"})


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


@require_http_methods(["GET", "POST"])
@study_reader
def study_guideline(request: HttpRequest, study: Study) -> HttpResponseBase:
    user = signed_in_user(request)
    last, is_editor = current_guideline(study), may_edit(study, user)
    form = GuidelineForm(request.POST or None, initial={"text": last.text if last else FIRST_GUIDELINE})
    if request.method == "POST":
        require_editor(study, user)
    if request.method == "POST" and form.is_valid():
        guideline = write_guideline(study=study, text=form.cleaned_data["text"], user=user)
        messages.success(request, f"Version {guideline.version} is in force.")
        return redirect("study-guideline", slug=study.slug)
    context = {"study": study, "form": form, "versions": study.guidelines.select_related("created_by")}
    context |= {"is_editor": is_editor, "last": last, "tab": "guideline"}
    return render(request, "annotation/studies/guideline.html", context)


@require_POST
@researcher_required
def guideline_preview(request: HttpRequest) -> HttpResponse:
    return HttpResponse(prose(request.POST.get("text", "")[:40_000]))


FIRST_GUIDELINE = """\
# What this is about

A vision model is made of many small units. Each unit responds to something in a picture, and we do not know to what. \
You see the pictures to which one unit responds most, and say what they have in common.

# What you see

- **Patches** on the left: the small square that made the unit respond, outlined, with its surroundings.
- **Images** on the right: whole pictures. The colors show where the unit responds; `Space` takes them away. The bar \
below an image says how strongly it responds there.

# What you say

1. **Do the patches share something you could name?** 1 no, 2 a hint, 3 mostly, 4 clearly. Judge the squares and what \
is close around them.
2. **Do the images?** The same for the pictures as a whole.
3. **What kind of thing is it?** If you have found something.
4. **In a few words**: what is it? Write what you see, as simply as you can.

Some units respond to nothing that has a name. That is a good answer too: say *no*. If the pictures do not let you \
decide, say *can’t tell*.
"""

urlpatterns = [
    path("studies/new/", study_new, name="study-new"),
    path("studies/sampler/", study_sampler, name="study-sampler"),
    path("studies/guideline-preview/", guideline_preview, name="guideline-preview"),
    path("studies/<slug:slug>/edit/", study_edit, name="study-edit"),
    path("studies/<slug:slug>/guideline/", study_guideline, name="study-guideline"),
]
