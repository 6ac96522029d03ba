"""The annotator's way after joining and consent (annotation.views.joining): guideline, practice, the player."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import include, path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.own_keys import OwnKeysError, set_own_keys
from annotation.domain.participation import (
    ParticipationError,
    Step,
    confirm_guideline,
    current_guideline,
    next_step,
)
from annotation.domain.player_keys import key_table
from annotation.domain.practice import answered_ids, practice_items
from annotation.domain.row_numbers import numbers_of
from annotation.domain.stimuli import stimulus_for_player
from annotation.models import Participation, Study
from annotation.templatetags.prose import prose
from annotation.views.player_config import base_config, category_rows, study_bindings, work_config
from annotation.views.work_access import RequestError, annotator_endpoint, annotator_page, problem

ANSWERS_BELOW = {"two-alternative", "intruder"}  # few questions, many pictures


@require_http_methods(["GET", "POST"])
@annotator_page(Step.GUIDELINE, Step.PRACTICE, Step.WORK)
def guideline_read(request: HttpRequest, participation: Participation) -> HttpResponseBase:
    study = participation.study
    if request.method == "POST":
        try:
            confirm_guideline(participation=participation)
            return redirect("work", slug=study.slug)
        except ParticipationError as error:
            messages.warning(request, str(error))
    context = {"study": study, "guideline": current_guideline(study), "step": next_step(participation)}
    return render(request, "annotation/work/guideline.html", context)


@ensure_csrf_cookie
@require_GET
@annotator_page(Step.PRACTICE)
def practice(request: HttpRequest, participation: Participation) -> HttpResponseBase:
    """The player over the practice items that are not answered yet."""
    study = participation.study
    answered = answered_ids(participation)
    items, numbers = practice_items(participation), numbers_of(study).practice
    left = [
        {"item": numbers.number(item.pk), "stimulus": stimulus_for_player(study=study, stimulus_id=item.stimulus_id)}
        for item in items
        if item.pk not in answered
    ]
    config = base_config(study, participation.user, "practice") | {
        "urls": {"answers": reverse("practice-answers", args=[study.slug])},
        "items": left,
        "done": len(items) - len(left),
        "session_length": len(items),
    }
    return render_player(request, study, config, finish_url=reverse("work", args=[study.slug]))


@ensure_csrf_cookie
@require_GET
@annotator_page(Step.WORK)
def work(request: HttpRequest, participation: Participation) -> HttpResponseBase:
    study = participation.study
    return render_player(request, study, work_config(participation), finish_url=reverse("studies"))


@require_POST
@annotator_endpoint
def own_keys(participation: Participation, body: dict[str, Any]) -> dict[str, Any] | HttpResponse:
    """The keys that somebody chose for themselves; none is back to the usual ones."""
    keys = body.get("keys")
    if not isinstance(keys, dict):
        raise RequestError(_("'keys' must be an object of keys by the name of what they do."))
    try:
        bindings = study_bindings(participation.study)
        return {"keys": key_table(set_own_keys(user=participation.user, bindings=bindings, keys=keys))}
    except OwnKeysError as error:
        return problem(422, str(error))


def render_player(
    request: HttpRequest, study: Study, config: dict[str, object], *, finish_url: str, leave_url: str | None = None
) -> HttpResponse:
    guideline = current_guideline(study)
    context = {
        "study": study,
        "config": config,
        "answers": "below" if config["layout"] in ANSWERS_BELOW and config["mode"] != "review" else "beside",
        "questions": config["questions"],
        "categories": category_rows(study),
        "guideline_html": prose(guideline.text) if guideline else "",
        "finish_url": finish_url,
        "leave_url": leave_url or reverse("studies"),
        "leave_text": _("Leave the preview") if config["mode"] == "preview" else _("My studies"),
        "login_url": f"{reverse('login')}?next={reverse('studies')}",
    }
    return render(request, "annotation/work/player.html", context)


urlpatterns = [
    path("", include("annotation.views.work_api")),
    path("work/<slug:slug>/guideline/", guideline_read, name="guideline-read"),
    path("work/<slug:slug>/keys", own_keys, name="work-keys"),
    path("work/<slug:slug>/practice/", practice, name="practice"),
    path("work/<slug:slug>/", work, name="work"),
]
