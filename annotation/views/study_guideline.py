"""The guideline of a study: written with a preview, a version each time; in a live study a version of the study too."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from annotation.domain import protocols
from annotation.domain.participation import current_guideline
from annotation.domain.studies import StudyError, write_guideline
from annotation.domain.versions import LIVE_STATES, change_guideline
from annotation.forms.study_parts import GuidelineForm
from annotation.forms.study_versions import LiveGuidelineForm
from annotation.models import Study, User
from annotation.templatetags.prose import prose
from annotation.views.access import researcher_required, signed_in_user
from annotation.views.study_access import may_edit, require_editor, study_reader

FIRST_GUIDELINES = Path(protocols.__file__).parent / "guidelines"


@lru_cache(maxsize=32)
def first_guideline(protocol: str) -> str:
    """What a guideline of this protocol can begin with."""
    return (FIRST_GUIDELINES / f"{protocol}.md").read_text(encoding="utf-8")


@require_http_methods(["GET", "POST"])
@study_reader
def study_guideline(request: HttpRequest, study: Study) -> HttpResponseBase:
    user = signed_in_user(request)
    last, is_editor = current_guideline(study), may_edit(study, user) and study.state != Study.State.CLOSED
    form_class = LiveGuidelineForm if study.state in LIVE_STATES else GuidelineForm
    form = form_class(request.POST or None, initial={"text": last.text if last else first_guideline(study.protocol)})
    if request.method == "POST":
        require_editor(study, user)
    if request.method == "POST" and form.is_valid():
        try:
            messages.success(request, _("Version %(version)s is in force.") % {"version": save(study, user, form)})
            return redirect("study-guideline", slug=study.slug)
        except StudyError as error:
            form.add_error(None, str(error))
    context = {"study": study, "form": form, "versions": study.guidelines.select_related("created_by")}
    context |= {"is_editor": is_editor, "last": last, "tab": "guideline"}
    return render(request, "annotation/studies/guideline.html", context)


def save(study: Study, user: User, form: GuidelineForm) -> int:
    values = form.cleaned_data
    text = values["text"].replace("\r\n", "\n")
    if not isinstance(form, LiveGuidelineForm):
        return write_guideline(study=study, text=text, user=user).version
    is_major = values["kind"] == "major"
    return change_guideline(study=study, user=user, text=text, is_major=is_major, reason=values["reason"]).version


@require_POST
@researcher_required
def guideline_preview(request: HttpRequest) -> HttpResponse:
    return HttpResponse(prose(request.POST.get("text", "")[:40_000]))


urlpatterns = [
    path("studies/guideline-preview/", guideline_preview, name="guideline-preview"),
    path("studies/<slug:slug>/guideline/", study_guideline, name="study-guideline"),
]
