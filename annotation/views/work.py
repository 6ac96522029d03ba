"""The annotator's way after joining and consent (annotation.views.joining): guideline, practice, the player."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import include, path, reverse
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_http_methods

from annotation.domain.participation import (
    ParticipationError,
    Step,
    confirm_guideline,
    current_guideline,
    next_step,
)
from annotation.domain.practice import answered_ids, practice_items
from annotation.domain.stimuli import stimulus_for_player
from annotation.models import Participation, Study
from annotation.templatetags.prose import prose
from annotation.views.player_config import base_config, question_rows, work_config
from annotation.views.work_access import annotator_page


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
    items = practice_items(participation)
    left = [
        {"item": item.pk, "stimulus": stimulus_for_player(study=study, stimulus_id=item.stimulus_id)}
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


def render_player(
    request: HttpRequest, study: Study, config: dict[str, object], *, finish_url: str, leave_url: str | None = None
) -> HttpResponse:
    guideline = current_guideline(study)
    context = {
        "study": study,
        "config": config,
        "questions": question_rows(study),
        "categories": study.categories.all(),
        "guideline_html": prose(guideline.text) if guideline else "",
        "finish_url": finish_url,
        "leave_url": leave_url or reverse("studies"),
        "leave_text": "Leave the preview" if config["mode"] == "preview" else "My studies",
        "login_url": f"{reverse('login')}?next={reverse('studies')}",
    }
    return render(request, "annotation/work/player.html", context)


urlpatterns = [
    path("work/<slug:slug>/guideline/", guideline_read, name="guideline-read"),
    path("work/<slug:slug>/practice/", practice, name="practice"),
    path("work/<slug:slug>/", work, name="work"),
    path("", include("annotation.views.work_api")),
]
