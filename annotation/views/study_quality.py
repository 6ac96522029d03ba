"""How good the answers are, annotator by annotator, and leaving answers out with the effect shown before.

Nothing here tells answers by condition, block or dictionary, before the study closes or after.
"""

from __future__ import annotations

from typing import NamedTuple

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.exclusions import (
    answers_of,
    effect_of,
    exclude_annotator,
    exclude_answers,
    exclusions_of,
    single_answers,
    undo_exclusion,
)
from annotation.domain.quality import latest_answers, study_quality
from annotation.domain.studies import StudyError
from annotation.forms.study_quality import ExclusionForm
from annotation.models import Annotation, Exclusion, Participation, Role, Study, User
from annotation.views.access import signed_in_user
from annotation.views.study_access import may_edit, require_editor, study_editor, study_reader

MOST_SINGLE = 500


class Concerned(NamedTuple):
    """What is to be left out: all of one person's answers, or single ones."""

    annotator: User | None
    ids: list[int]
    answers: QuerySet[Annotation]


@require_GET
@study_reader
def quality(request: HttpRequest, study: Study) -> HttpResponse:
    context = {
        "study": study, "tab": "quality", "quality": study_quality(study), "exclusions": exclusions_of(study),
        "is_editor": may_edit(study, signed_in_user(request)),
    }  # fmt: skip
    return render(request, "annotation/studies/quality.html", context)


@require_GET
@study_reader
def annotator_quality(request: HttpRequest, study: Study, user: int) -> HttpResponse:
    """One annotator: every measure, and the last answers, which can be left out one by one."""
    place = get_object_or_404(Participation.objects.select_related("user"), study=study, user=user, role=Role.ANNOTATOR)
    row = next(one for one in study_quality(study).annotators if one.participation.pk == place.pk)
    context = {
        "study": study, "tab": "quality", "row": row, "answers": latest_answers(study, place.user),
        "is_editor": may_edit(study, signed_in_user(request)),
    }  # fmt: skip
    return render(request, "annotation/studies/quality_annotator.html", context)


@require_http_methods(["GET", "POST"])
@study_editor
def leave_out(request: HttpRequest, study: Study) -> HttpResponseBase:
    """The effect, and a reason to give; nothing changes before it is confirmed."""
    concerned = concerned_in(request, study)
    if concerned is None:
        messages.error(request, _("Choose answers to leave out first."))
        return redirect("study-quality", slug=study.slug)
    form = ExclusionForm(request.POST if "reason" in request.POST else None)
    if form.is_valid():
        try:
            apply(request, study, concerned, form.cleaned_data["reason"])
            return redirect("study-quality", slug=study.slug)
        except StudyError as error:
            form.add_error("reason", str(error))
    context = {
        "study": study, "tab": "quality", "form": form, "concerned": concerned,
        "effect": effect_of(study=study, answers=concerned.answers),
    }  # fmt: skip
    return render(request, "annotation/studies/quality_exclude.html", context)


def concerned_in(request: HttpRequest, study: Study) -> Concerned | None:
    values = request.POST if request.method == "POST" else request.GET
    annotator = values.get("annotator", "")
    if annotator.isdigit():
        person = get_object_or_404(User, pk=int(annotator), participations__study=study)
        return Concerned(person, [], answers_of(study, person))
    ids = [int(one) for one in values.getlist("answer")[:MOST_SINGLE] if one.isdigit() and len(one) < 19]
    return Concerned(None, ids, single_answers(study, ids)) if ids else None


def apply(request: HttpRequest, study: Study, concerned: Concerned, reason: str) -> None:
    user = signed_in_user(request)
    if concerned.annotator is not None:
        done = exclude_annotator(study=study, annotator=concerned.annotator, reason=reason, user=user)
    else:
        done = exclude_answers(study=study, ids=concerned.ids, reason=reason, user=user)
    n = done.effect["n_judgements"]
    said = ngettext(
        "%(n)s judgement is left out. You can take this back below.",
        "%(n)s judgements are left out. You can take this back below.",
        n,
    )
    messages.success(request, said % {"n": n})


@require_POST
@study_reader
def take_back(request: HttpRequest, study: Study, pk: int) -> HttpResponseBase:
    require_editor(study, signed_in_user(request))
    exclusion = get_object_or_404(Exclusion, pk=pk, study=study)
    try:
        n = undo_exclusion(exclusion=exclusion, user=signed_in_user(request))
        said = ngettext("%(n)s judgement counts again.", "%(n)s judgements count again.", n)
        messages.success(request, said % {"n": n})
    except StudyError as error:
        messages.error(request, str(error))
    return redirect("study-quality", slug=study.slug)


urlpatterns = [
    path("studies/<slug:slug>/quality/", quality, name="study-quality"),
    path("studies/<slug:slug>/quality/leave-out/", leave_out, name="quality-leave-out"),
    path("studies/<slug:slug>/quality/exclusions/<int:pk>/", take_back, name="quality-take-back"),
    path("studies/<slug:slug>/quality/<int:user>/", annotator_quality, name="quality-annotator"),
]
