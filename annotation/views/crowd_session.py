"""The end of a session and one's own place in a study: what the player asks for, the page with the code, my data."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.coming_back import renew_link
from annotation.domain.crowd_consent import recruitment_of
from annotation.domain.crowd_sessions import (
    SessionState,
    begin_session,
    leave_session,
    next_session_problem,
    session_state,
)
from annotation.domain.participation import ParticipationError, Step, next_step
from annotation.domain.retention import delete_identity, withdraw_answers
from annotation.models import Participation
from annotation.views.work_access import STEP_URLS, annotator_endpoint, annotator_page

EVERY_STEP = tuple(Step)


@never_cache
@require_GET
@annotator_endpoint
def session(participation: Participation, body: dict[str, Any]) -> dict[str, Any]:
    """Where the person is in the session; once it is over, the code and where to go."""
    place = whole(participation)
    state = session_state(participation=place)
    words = {"n": state.n, "of": state.of, "is_over": state.is_over, "may_leave": state.may_leave}
    return words | way_out(state, place)


@require_POST
@annotator_endpoint
def leave(participation: Participation, body: dict[str, Any]) -> dict[str, Any]:
    place = whole(participation)
    return way_out(leave_session(participation=place), place)


def whole(participation: Participation) -> Participation:
    """The row with every column: a request of the player reads only those its claims need."""
    return Participation.objects.select_related("study", "user").get(pk=participation.pk)


def way_out(state: SessionState, place: Participation) -> dict[str, str]:
    page = reverse("ended", args=[place.study.slug])
    return {"code": state.code, "url": (state.return_url or page) if state.is_over else ""}


@never_cache
@require_http_methods(["GET", "POST"])
@annotator_page(*EVERY_STEP)
def ended(request: HttpRequest, participation: Participation) -> HttpResponseBase:
    """A session is over: its code, large, the way back, and another session where one may follow."""
    study = participation.study
    if request.method == "POST":
        try:
            begin_session(participation=participation)
            return redirect(STEP_URLS[next_step(participation)], slug=study.slug)
        except ParticipationError as error:
            messages.warning(request, str(error))
    state = session_state(participation=participation)
    if not state.is_over:
        return redirect(STEP_URLS[next_step(participation)], slug=study.slug)
    recruitment = recruitment_of(study)
    last = participation.work_sessions.order_by("-number").first()
    context = {
        "study": study,
        "state": state,
        "session": last,
        "earned": last.pay_entries.filter(kind="earned").first() if last else None,
        "recruitment": recruitment,
        "is_screened_out": participation.screened_out_at is not None,
        "is_withdrawn": participation.withdrawn_at is not None,
        "problem": next_session_problem(participation) if recruitment.pk else "",
    }
    return render(request, "annotation/work/ended.html", context)


@never_cache
@require_http_methods(["GET", "POST"])
@annotator_page(*EVERY_STEP)
def mine(request: HttpRequest, participation: Participation) -> HttpResponseBase:
    """My participation: sessions, codes and pay; deleting who I am, taking my answers back."""
    study = participation.study
    if request.method == "POST":
        try:
            act_on_own(request, participation)
        except ParticipationError as error:
            messages.warning(request, str(error))
        return redirect("mine", slug=study.slug)
    session_state(participation=participation)
    recruitment = recruitment_of(study)
    context = {
        "study": study,
        "participation": participation,
        "recruitment": recruitment,
        "sessions": participation.work_sessions.order_by("number"),
        "entries": participation.pay_entries.order_by("id"),
        "identities": participation.external_identities.all(),
        "is_named": participation.user.username != participation.user.annotator_code.lower(),
        "n_answers": participation.n_done,
        "step_url": reverse(STEP_URLS[next_step(participation)], args=[study.slug]),
    }
    return render(request, "annotation/work/mine.html", context)


def act_on_own(request: HttpRequest, participation: Participation) -> None:
    act, is_sure = request.POST.get("act"), request.POST.get("confirmed") == "yes"
    if act not in {"delete", "withdraw", "link"} or not is_sure:
        messages.warning(request, _("Tick the box beside it first; nothing was changed."))
    elif act == "link":
        renew_link(participation=participation)
        update_session_auth_hash(request, participation.user)
        messages.success(request, _("This is your new link; the old one leads nowhere any more."))
    elif act == "delete":
        is_nameless = delete_identity(participation=participation)
        if is_nameless:
            update_session_auth_hash(request, participation.user)
            messages.success(request, _("Who you are was deleted; your answers are anonymous now."))
        else:
            messages.success(
                request, _("Who you are elsewhere was deleted. Your account stays: you are in other studies with it.")
            )
    else:
        n_withdrawn = withdraw_answers(participation=participation)
        messages.success(
            request, _("Your answers were taken back: %(n)s are left out of every figure.") % {"n": n_withdrawn}
        )


urlpatterns = [
    path("work/<slug:slug>/session", session, name="work-session"),
    path("work/<slug:slug>/leave", leave, name="work-leave"),
    path("work/<slug:slug>/ended/", ended, name="ended"),
    path("work/<slug:slug>/mine/", mine, name="mine"),
]
