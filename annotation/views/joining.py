"""The way in: by a study's link, from Prolific, by an invitation; then consent; and the way back by one's own link.

The work itself: annotation.views.work.

Opening a link stores nothing, so that a mail program that looks at it uses nothing up; the button does.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from annotation.domain.coming_back import come_back, place_of_link
from annotation.domain.crowd_consent import consent_terms, recruitment_of
from annotation.domain.crowd_sessions import agree, entry_problem, return_address
from annotation.domain.invitations import accept_invitation, invitation_of, require_usable
from annotation.domain.participation import ParticipationError, Step, decline_consent, join_study, next_step
from annotation.domain.prolific import Arrival, arrival_problem, arrive, parse_arrival
from annotation.domain.study_checklist import SECONDS_PER_JUDGEMENT
from annotation.forms.joining import JoinForm
from annotation.models import Invitation, Participation, Role, Study, User
from annotation.views.access import signed_in_user
from annotation.views.work_access import STEP_URLS, annotator_page

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
EVERY_STEP = tuple(Step)


@never_cache
@require_http_methods(["GET", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponseBase:
    """What the study is, how long it takes and who runs it; then in, under a name, a code or one's own account."""
    study = Study.objects.select_related("created_by").filter(join_token=token).first()
    if study is None:
        return no_such_link(request, _("This link leads to no study; ask the person who sent it for a new one."))
    try:
        arrival = parse_arrival(request.POST if request.method == "POST" else request.GET)
    except ParticipationError as error:
        return join_page(request, study, problem=str(error), status=400)
    if arrival is not None:
        return join_from_prolific(request, study, arrival)
    form = JoinForm(request.POST or None)
    problem = closed_to(study, person_of(request))
    if request.method == "POST" and not problem and (request.user.is_authenticated or form.is_valid()):
        try:
            return enter(request, lambda: join_study(token=token, user=person_of(request)), form)
        except ParticipationError as error:
            return join_page(request, study, problem=str(error), status=409)
    return join_page(request, study, problem=problem, form=form)


def person_of(request: HttpRequest) -> User | None:
    return signed_in_user(request) if request.user.is_authenticated else None


def place_in(study: Study, user: User | None) -> Participation | None:
    return study.participations.filter(user=user).first() if user is not None else None


def closed_to(study: Study, user: User | None) -> str:
    """Why the open link lets this person in no more, in a sentence; empty if it does."""
    place = place_in(study, user)
    if place is None and not recruitment_of(study).by_link:
        return _("This study takes part by invitation only; open the link of your own invitation.")
    return entry_problem(study, place) if is_open(study) else ""


def join_from_prolific(request: HttpRequest, study: Study, arrival: Arrival) -> HttpResponseBase:
    """One button; the account belongs to the PID, whoever was signed in before."""
    if request.method == "POST":
        try:
            return enter(request, lambda: arrive(study=study, arrival=arrival, user=person_of(request)))
        except ParticipationError as error:
            return join_page(request, study, problem=str(error), status=409)
    problem = arrival_problem(study=study, arrival=arrival) if is_open(study) else ""
    return join_page(request, study, arrival=arrival, problem=problem)


@never_cache
@require_http_methods(["GET", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponseBase:
    """A link for one person, once; opened again by that person it leads on."""
    user = person_of(request)
    try:
        invited = invitation_of(token)
    except ParticipationError as error:
        return no_such_link(request, str(error))
    visit = request.POST.get("visit", "") or secrets.token_urlsafe(16)
    try:
        if request.method == "POST":
            return enter(request, lambda: accept_invitation(token=token, user=user, visit=visit))
        if invited.used_at is not None:
            return enter(request, lambda: accept_invitation(token=token, user=user))
        require_usable(invited)
    except ParticipationError as error:
        return join_page(request, invited.study, problem=str(error), status=409)
    if invited.kind == Invitation.Kind.FIRST and (problem := entry_problem(invited.study, None)):
        return join_page(request, invited.study, problem=problem)
    return join_page(request, invited.study, invitation=invited, visit=visit)


@never_cache
@require_http_methods(["GET", "POST"])
def own_link(request: HttpRequest, place: int, proof: str) -> HttpResponseBase:
    """Somebody without a password comes back to their place; who is there already goes on."""
    user = person_of(request)
    try:
        found = place_of_link(place, proof)
    except ParticipationError as error:
        return no_such_link(request, str(error))
    if request.method == "GET" and (user is None or user.pk != found.user_id):
        return render(request, "annotation/work/back.html", {"study": found.study, "participation": found})
    try:
        return enter(request, lambda: come_back(place_id=place, proof=proof, user=user))
    except ParticipationError as error:
        return join_page(request, found.study, problem=str(error), status=409)


@require_GET
@login_required
def sign_out(request: HttpRequest) -> HttpResponse:
    """Somebody without a password is shown their links first; without one they could not come back."""
    places = Participation.objects.filter(user=signed_in_user(request), role=Role.ANNOTATOR)
    studies = [place.study for place in places.select_related("study").order_by("-study_id")]
    return render(request, "annotation/work/sign_out.html", {"studies": studies})


def no_such_link(request: HttpRequest, sentence: str) -> HttpResponse:
    return render(request, "annotation/work/no_link.html", {"sentence": sentence}, status=404)


def join_page(request: HttpRequest, study: Study, *, status: int = 200, **context: object) -> HttpResponse:
    recruitment = recruitment_of(study)
    n_items = min(study.session_length, study.n_items or study.session_length)
    values = {
        "study": study,
        "recruitment": recruitment,
        "form": JoinForm(),
        "n_items": n_items,
        "minutes": recruitment.announced_minutes or minutes(n_items),
        "is_open": is_open(study),
        "participation": place_in(study, person_of(request)),
        "terms": consent_terms(study, recruitment),
    }
    return render(request, "annotation/work/join.html", values | context, status=status)


def is_open(study: Study) -> bool:
    return study.state in {Study.State.OPEN, Study.State.PAUSED}


def minutes(n_items: int) -> int:
    return max(1, round(n_items * SECONDS_PER_JUDGEMENT / 60))


def enter(request: HttpRequest, find_place: Callable[[], Participation], form: JoinForm | None = None) -> HttpResponse:
    """Sign in as whoever the place belongs to, and go to the step that is next."""
    user = person_of(request)
    participation = find_place()
    if user is None or user.pk != participation.user_id:
        if form is not None:
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
        try:
            if request.POST.get("agree") == "yes":
                agree(participation=participation)
                return redirect("work", slug=study.slug)
            if request.POST.get("agree") == "no":
                decline_consent(participation=participation)
                return redirect("declined", slug=study.slug)
            messages.warning(request, _("Tick the box if you agree; without it the study cannot begin."))
        except ParticipationError as error:
            messages.warning(request, str(error))
            participation.refresh_from_db()  # what was refused is not stored
    terms = consent_terms(study, recruitment_of(study))
    context = {"study": study, "participation": participation, "is_given": is_given, "terms": terms}
    return render(request, "annotation/work/consent.html", context)


@require_GET
@annotator_page(*EVERY_STEP)
def declined(request: HttpRequest, participation: Participation) -> HttpResponseBase:
    """Somebody who does not agree: the code for that, and the way back."""
    study = participation.study
    if participation.declined_at is None:
        return redirect(STEP_URLS[next_step(participation)], slug=study.slug)
    recruitment = recruitment_of(study)
    code = recruitment.no_consent_code if recruitment.pk else ""
    return_url = return_address(participation, recruitment, code)
    context = {"study": study, "code": code, "return_url": return_url}
    return render(request, "annotation/work/return.html", context)


urlpatterns = [
    path("join/<str:token>/", join, name="join"),
    path("invitation/<str:token>/", invitation, name="invitation"),
    path("back/<int:place>/<str:proof>/", own_link, name="own-link"),
    path("signing-out/", sign_out, name="sign-out"),
    path("work/<slug:slug>/consent/", consent, name="consent"),
    path("work/<slug:slug>/declined/", declined, name="declined"),
]
