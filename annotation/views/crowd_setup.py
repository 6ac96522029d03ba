"""How a study finds its people, for its researchers: ways in, codes, pay and consent; and invitations."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop, ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from annotation.domain.crowd_consent import consent_terms, recruitment_of
from annotation.domain.crowd_settings import set_up_crowd
from annotation.domain.invitations import invite, invite_back, revoke
from annotation.domain.prolific import PARAMETERS
from annotation.domain.studies import StudyError
from annotation.forms.crowd import InviteForm, RecruitmentForm
from annotation.models import Invitation, Participation, Study
from annotation.views.access import signed_in_user
from annotation.views.crowd import csv_file
from annotation.views.study_access import study_editor

PER_PAGE = 200
STATES = (gettext_noop("open"), gettext_noop("used"), gettext_noop("expired"), gettext_noop("revoked"))


@never_cache
@require_http_methods(["GET", "POST"])
@study_editor
def crowd_settings(request: HttpRequest, study: Study) -> HttpResponseBase:
    recruitment = recruitment_of(study)
    initial = {"session_length": study.session_length}
    form = RecruitmentForm(request.POST or None, instance=recruitment, initial=initial)
    if request.method == "POST" and form.is_valid():
        before = study.consent_version
        try:
            set_up_crowd(
                study=study, user=signed_in_user(request), values=form.recruitment_values(),
                session_length=form.cleaned_data["session_length"],
            )  # fmt: skip
            messages.success(request, said(before, study.consent_version))
            return redirect("crowd-settings", slug=study.slug)
        except StudyError as error:
            form.add_error(None, str(error))
    if request.method == "POST":
        recruitment = recruitment_of(study)  # the form has written its values, right or wrong, on the other
    link = request.build_absolute_uri(reverse("join", args=[study.join_token]))
    placeholders = "&".join(f"{name}={{{{%{name}%}}}}" for name in PARAMETERS)
    context = {
        "study": study,
        "form": form,
        "recruitment": recruitment,
        "terms": consent_terms(study, recruitment),
        "join_url": link,
        "prolific_url": f"{link}?{placeholders}",
        "tab": "crowd",
        "part": "settings",
    }
    return render(request, "annotation/studies/crowd_settings.html", context)


def said(before: str, now: str) -> str:
    if before == now:
        return _("Saved.")
    return _(
        "Saved. People agree to something else now: the consent is version %(now)s, and everybody is asked again."
    ) % {"now": now}


@never_cache
@require_http_methods(["GET", "POST"])
@study_editor
def crowd_invitations(request: HttpRequest, study: Study) -> HttpResponseBase:
    """Make links, invite back, take back, and see who has used theirs."""
    form = InviteForm(request.POST if request.POST.get("act") == "invite" else None)
    if request.method == "POST":
        try:
            done = act(request, study, form)
            if done:
                messages.success(request, done)
                return redirect("crowd-invitations", slug=study.slug)
        except StudyError as error:
            if form.is_bound:
                form.add_error(None, str(error))
            else:
                messages.error(request, str(error))
    found = chosen_invitations(request, study)
    context = {
        "study": study,
        "recruitment": recruitment_of(study),
        "form": form,
        "page": Paginator(found, PER_PAGE).get_page(request.GET.get("page")),
        "batches": study.invitations.order_by("batch").values_list("batch", flat=True).distinct(),
        "states": STATES,
        "state": request.GET.get("state", ""),
        "batch": request.GET.get("batch", ""),
        "query": request.GET.urlencode(),
        "tab": "crowd",
        "part": "invitations",
    }
    return render(request, "annotation/studies/crowd_invitations.html", context)


def act(request: HttpRequest, study: Study, form: InviteForm) -> str:
    """What a button asks for, and the sentence that says what was done; empty where the form has to be corrected."""
    user, what = signed_in_user(request), request.POST.get("act", "")
    if what == "invite":
        if not form.is_valid():
            return ""
        made = invite(study=study, user=user, **form.invitation_values())
        return ngettext(
            "%(n)s invitation was made: download its link below.",
            "%(n)s invitations were made: download their links below.",
            len(made),
        ) % {"n": len(made)}
    if what == "back":
        n_invited, n_open, n_not_yet = invite_back(study=study, user=user)
        return _(
            "%(n_invited)s people are invited back; %(n_open)s were already, %(n_not_yet)s ended too short a time ago."
        ) % {"n_invited": n_invited, "n_open": n_open, "n_not_yet": n_not_yet}
    if what == "revoke":
        ids = [int(value) for value in request.POST.getlist("invitation") if value.isdecimal()]
        n = revoke(study=study, user=user, invitations=ids)
        return ngettext("%(n)s invitation was taken back.", "%(n)s invitations were taken back.", n) % {"n": n}
    raise StudyError(_("This page has no such button; load it again."))


def chosen_invitations(request: HttpRequest, study: Study) -> QuerySet[Invitation]:
    found = study.invitations.select_related("participation__user")
    batch, state = request.GET.get("batch", ""), request.GET.get("state", "")
    if batch:
        found = found.filter(batch=batch)
    return found.filter(in_state(state)) if state in STATES else found


def in_state(state: str) -> Q:
    is_expired = Q(expires_at__isnull=False, expires_at__lte=timezone.now())
    conditions = {
        "used": Q(used_at__isnull=False),
        "revoked": Q(used_at__isnull=True, revoked_at__isnull=False),
        "expired": Q(used_at__isnull=True, revoked_at__isnull=True) & is_expired,
        "open": Q(used_at__isnull=True, revoked_at__isnull=True) & ~is_expired,
    }
    return conditions[state]


@require_GET
@study_editor
def invitations_csv(request: HttpRequest, study: Study) -> HttpResponseBase:
    """The links of the page as it is filtered, for a mail merge or to hand out."""
    lines = (
        [
            request.build_absolute_uri(reverse("invitation", args=[one.token])), one.email, one.kind, one.state,
            one.batch, code_of(one.participation), one.expires_at.isoformat() if one.expires_at else "",
        ]
        for one in chosen_invitations(request, study)
    )  # fmt: skip
    columns = ("link", "email", "kind", "state", "batch", "person", "expires_at")
    return csv_file(f"{study.slug}-invitations.csv", columns, lines)


def code_of(participation: Participation | None) -> str:
    return participation.user.annotator_code if participation else ""


urlpatterns = [
    path("studies/<slug:slug>/crowd/settings/", crowd_settings, name="crowd-settings"),
    path("studies/<slug:slug>/crowd/invitations/", crowd_invitations, name="crowd-invitations"),
    path("studies/<slug:slug>/crowd/invitations.csv", invitations_csv, name="invitations-csv"),
]
