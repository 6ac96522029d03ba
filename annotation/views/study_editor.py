"""Making a study: its form with a live preview of the sample, guideline, categories, practice and gold items."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST

from annotation.domain.participation import current_guideline
from annotation.domain.player_keys import RESERVED_KEYS
from annotation.domain.sampling import SamplingError, draw_sample
from annotation.domain.studies import StudyError, create_study, write_guideline
from annotation.domain.study_editing import (
    add_reference,
    change_study,
    move_reference,
    remove_reference,
    set_categories,
)
from annotation.forms.study import EXCLUSION_FIELDS, SPEC_FIELDS, StudyForm
from annotation.forms.study_parts import CategoriesForm, GuidelineForm, ReferenceForm
from annotation.models import ReferenceItem, Study
from annotation.templatetags.prose import prose
from annotation.views.access import researcher_required, signed_in_user
from annotation.views.study_access import may_edit, require_editor, study_editor, study_reader
from annotation.views.study_candidates import candidates, reference_thumbnails

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
    form = StudyForm(request.POST) if request.method == "POST" else StudyForm.of(study)
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
    """The preview beside the form: what would be drawn with the values typed so far."""
    form = StudyForm(request.POST)
    context: dict[str, object] = {}
    try:
        spec = form.spec()
        context["sample"] = draw_sample(
            dictionaries=form.cleaned_data["dictionaries"], spec=spec, seed=form.cleaned_data["seed"]
        )
    except SamplingError as error:
        fields = (*SPEC_FIELDS, *EXCLUSION_FIELDS, "seed")
        errors = [
            f"{form.fields[name].label or name}: {form.errors[name][0]}" for name in fields if name in form.errors
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


@require_http_methods(["GET", "POST"])
@study_editor
def study_categories(request: HttpRequest, study: Study) -> HttpResponseBase:
    lines = [f"{category.key} {category.name}" for category in study.categories.all()]
    form = CategoriesForm(request.POST or None, initial={"rows": "\n".join(lines)})
    if request.method == "POST" and form.is_valid():
        try:
            set_categories(study=study, user=signed_in_user(request), rows=form.cleaned_data["rows"])
            messages.success(request, "Saved.")
            return redirect("study-categories", slug=study.slug)
        except StudyError as error:
            form.add_error("rows", str(error))
    context = {"study": study, "form": form, "reserved": sorted(key for key in RESERVED_KEYS if key.isalpha())}
    return render(request, "annotation/studies/categories.html", context | {"tab": "categories"})


@require_http_methods(["GET", "POST"])
@study_reader
def study_reference(request: HttpRequest, study: Study) -> HttpResponseBase:
    """Practice and gold items, and the form that adds or changes one."""
    user = signed_in_user(request)
    is_editor = may_edit(study, user)
    form = ReferenceForm(request.POST or None, study=study, initial=first_values(request, study))
    if request.method == "POST":
        require_editor(study, user)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        try:
            add_reference(
                study=study, user=user, kind=values["kind"], feature=values["feature"], accepted=form.accepted,
                reason=values["reason"],
            )  # fmt: skip
            messages.success(request, "Kept.")
            return redirect("study-reference", slug=study.slug)
        except StudyError as error:
            form.add_error(None, str(error))
    related = ("feature__dictionary__vision_model", "feature__exemplar_set")
    items = list(study.reference_items.select_related(*related).order_by("-kind", "position", "id"))
    thumbnails = reference_thumbnails(items)
    rows = [(item, thumbnails[item.feature_id]) for item in items]
    context = {"study": study, "form": form, "rows": rows, "is_editor": is_editor, "tab": "reference"}
    if is_editor and study.state == Study.State.DRAFT:
        context["candidates"] = candidates(study, user)
    return render(request, "annotation/studies/reference.html", context)


def first_values(request: HttpRequest, study: Study) -> dict[str, object]:
    """The form's values for ?feature=, or those of the item that is there for ?item=."""
    values: dict[str, object] = {"kind": request.GET.get("kind", "practice"), "feature": request.GET.get("feature")}
    item_id = request.GET.get("item", "")
    item = study.reference_items.filter(pk=int(item_id)).first() if item_id.isdecimal() else None
    if item is None:
        return values
    ratings = {
        name: ["null" if value is None else str(value) for value in item.accepted.get(name, [])]
        for name in ("patch_rating", "image_rating")
    }
    chosen = {"kind": item.kind, "feature": item.feature_id, "reason": item.reason}
    return chosen | ratings | {"category": item.accepted.get("category", [])}


@require_POST
@study_editor
def reference_change(request: HttpRequest, study: Study, pk: int) -> HttpResponseBase:
    """Remove an item or move it up or down."""
    reference = get_object_or_404(ReferenceItem.objects.select_related("study"), pk=pk, study=study)
    user = signed_in_user(request)
    act = request.POST.get("act", "")
    try:
        if act == "remove":
            remove_reference(reference=reference, user=user)
        elif act in {"up", "down"}:
            move_reference(reference=reference, user=user, by=-1 if act == "up" else 1)
    except StudyError as error:
        messages.error(request, str(error))
    return redirect("study-reference", slug=study.slug)


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
    path("studies/<slug:slug>/categories/", study_categories, name="study-categories"),
    path("studies/<slug:slug>/reference/", study_reference, name="study-reference"),
    path("studies/<slug:slug>/reference/<int:pk>/", reference_change, name="reference-change"),
]
