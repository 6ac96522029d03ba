"""Practice and gold items of a study: the page that lists them and the form that adds or changes one."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from annotation.domain.launch_problems import wants_accepted
from annotation.domain.studies import StudyError
from annotation.domain.study_editing import add_reference, move_reference, remove_reference
from annotation.forms.study_reference import ReferenceForm, initial_of
from annotation.models import ReferenceItem, Study
from annotation.views.access import signed_in_user
from annotation.views.study_access import may_edit, require_editor, study_editor, study_reader
from annotation.views.study_candidates import candidates, reference_thumbnails


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
        try:
            add_reference(study=study, user=user, values=form.reference_values())
            messages.success(request, _("Kept."))
            return redirect("study-reference", slug=study.slug)
        except StudyError as error:
            form.add_error(None, str(error))
    related = (
        "feature__dictionary__vision_model", "feature__exemplar_set", "other_feature__dictionary__vision_model",
        "other_feature__exemplar_set",
    )  # fmt: skip
    items = list(study.reference_items.select_related(*related).order_by("-kind", "position", "id"))
    thumbnails = reference_thumbnails(items)
    rows = [(item, [thumbnails[pk] for pk in (item.feature_id, item.other_feature_id) if pk]) for item in items]
    context = {"study": study, "form": form, "rows": rows, "is_editor": is_editor, "tab": "reference"}
    context["wants_accepted"] = wants_accepted(study)
    if is_editor and study.state == Study.State.DRAFT:
        context["candidates"] = candidates(study, user)
    return render(request, "annotation/studies/reference.html", context)


def first_values(request: HttpRequest, study: Study) -> dict[str, object]:
    """The form's values for ?feature=, or those of the item that is there for ?item=."""
    item_id = request.GET.get("item", "")
    item = study.reference_items.filter(pk=int(item_id)).first() if item_id.isdecimal() else None
    if item is not None:
        return initial_of(item)
    return {"kind": request.GET.get("kind", "practice"), "feature": request.GET.get("feature")}


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


urlpatterns = [
    path("studies/<slug:slug>/reference/", study_reference, name="study-reference"),
    path("studies/<slug:slug>/reference/<int:pk>/", reference_change, name="reference-change"),
]
