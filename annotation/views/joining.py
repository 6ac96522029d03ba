"""The way in: a study's link with what it is about, then consent; what comes after is annotation.views.work."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods

from annotation.domain.participation import ParticipationError, Step, give_consent, join_study, next_step
from annotation.domain.study_checklist import SECONDS_PER_JUDGEMENT
from annotation.forms.joining import JoinForm
from annotation.models import Participation, Role, Study, User
from annotation.views.access import signed_in_user
from annotation.views.work_access import STEP_URLS, annotator_page

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
EVERY_STEP = tuple(Step)


@require_http_methods(["GET", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponseBase:
    """What the study is, how long it takes and who runs it; then in, under a name, a code or one's own account."""
    study = Study.objects.select_related("created_by").filter(join_token=token).first()
    if study is None:
        raise Http404("This link leads to no study; ask the person who sent it for a new one.")
    form = JoinForm(request.POST or None)
    if request.method == "POST" and (request.user.is_authenticated or form.is_valid()):
        try:
            return enter(request, token, form)
        except ParticipationError as error:
            messages.warning(request, str(error))
    n_items = min(study.session_length, study.n_items or study.session_length)
    context = {"study": study, "form": form, "n_items": n_items, "minutes": minutes(n_items), "is_open": is_open(study)}
    if request.user.is_authenticated:
        context["participation"] = study.participations.filter(user=signed_in_user(request)).first()
    return render(request, "annotation/work/join.html", context)


def is_open(study: Study) -> bool:
    return study.state in {Study.State.OPEN, Study.State.PAUSED}


def minutes(n_items: int) -> int:
    return max(1, round(n_items * SECONDS_PER_JUDGEMENT / 60))


def enter(request: HttpRequest, token: str, form: JoinForm) -> HttpResponseBase:
    user: User | None = signed_in_user(request) if request.user.is_authenticated else None
    participation = join_study(token=token, user=user)
    if user is None:
        form.settle(participation.user)
        login(request, participation.user, backend=MODEL_BACKEND)
    if participation.role != Role.ANNOTATOR:
        return redirect("study", slug=participation.study.slug)
    return redirect(STEP_URLS[next_step(participation)], slug=participation.study.slug)


@require_http_methods(["GET", "POST"])
@annotator_page(*EVERY_STEP)
def consent(request: HttpRequest, participation: Participation) -> HttpResponseBase:
    study = participation.study
    is_given = next_step(participation) != Step.CONSENT
    if request.method == "POST":
        if request.POST.get("agree") == "yes":
            give_consent(participation=participation)
            return redirect("work", slug=study.slug)
        messages.warning(request, "Tick the box if you agree; without it the study cannot begin.")
    return render(request, "annotation/work/consent.html", {"study": study, "is_given": is_given})


urlpatterns = [
    path("join/<str:token>/", join, name="join"),
    path("work/<slug:slug>/consent/", consent, name="consent"),
]
