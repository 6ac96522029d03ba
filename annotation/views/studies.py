"""Studies: an annotator's own, and all of them for researchers."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_GET

from annotation.domain.participation import next_step
from annotation.models import Participation, Role, Study
from annotation.views.access import signed_in_user
from annotation.views.work_access import STEP_URLS


@require_GET
@login_required
def studies(request: HttpRequest) -> HttpResponse:
    """Researchers see every study; everybody sees the studies they are in."""
    user = signed_in_user(request)
    mine = Participation.objects.filter(user=user).select_related("study").order_by("-study_id")
    context = {
        "mine": [
            {
                "participation": participation,
                "study": participation.study,
                "is_annotator": participation.role == Role.ANNOTATOR,
                "url_name": STEP_URLS[next_step(participation)],
                "has_begun": participation.n_done > 0,
            }
            for participation in mine
        ],
        "studies": Study.objects.select_related("created_by") if user.is_researcher else None,
    }
    return render(request, "annotation/studies/list.html", context)


urlpatterns = [
    path("studies/", studies, name="studies"),
]
