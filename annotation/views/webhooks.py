"""Pages of a study's webhooks: the addresses, their events and secrets, and the log of what was sent."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from annotation.domain import webhooks as domain
from annotation.domain.webhook_events import EVENTS
from annotation.domain.webhook_requests import REPLAY_SECONDS
from annotation.domain.webhooks import WebhookError
from annotation.forms.exchange import WebhookForm
from annotation.models import Study, User, Webhook
from annotation.views.access import signed_in_user
from annotation.views.study_access import study_editor
from config.wakeup import wake_workers

PER_PAGE = 50


@require_http_methods(["GET", "POST"])
@study_editor
def webhooks(request: HttpRequest, study: Study) -> HttpResponse:
    form, secret = WebhookForm(request.POST or None), ""
    if request.method == "POST" and form.is_valid():
        try:
            made = domain.create_webhook(study=study, user=signed_in_user(request), **form.cleaned_data)
            form, secret = WebhookForm(), made.secret
        except WebhookError as error:
            form.add_error("url", str(error))
    context = {
        "study": study, "tab": "exchange", "form": form, "secret": secret, "rows": study.webhooks.all(),
        "replay_minutes": REPLAY_SECONDS // 60,
    }  # fmt: skip
    return render(request, "annotation/webhooks.html", context, status=400 if form.errors else 200)


def webhook_or_404(study: Study, pk: int) -> Webhook:
    found = study.webhooks.select_related("study").filter(pk=pk).first()
    if found is None:
        raise Http404(_("There is no such webhook of this study."))
    return found


@require_http_methods(["GET", "POST"])
@study_editor
def webhook(request: HttpRequest, study: Study, pk: int) -> HttpResponse:
    found, secret = webhook_or_404(study, pk), ""
    if request.method == "POST":
        act = ACTS.get(request.POST.get("act", ""))
        if act is None:
            raise Http404(_("There is no such act."))
        try:
            secret = act(request, found, signed_in_user(request)) or ""
        except WebhookError as error:
            messages.error(request, str(error))
        if act is remove:
            return redirect("study-webhooks", slug=study.slug)
        if not secret:
            return redirect("study-webhook", slug=study.slug, pk=pk)
    deliveries = found.deliveries.prefetch_related("attempts")
    page = Paginator(deliveries, PER_PAGE).get_page(request.GET.get("page"))
    context: dict[str, Any] = {
        "study": study, "tab": "exchange", "webhook": found, "page": page, "events": EVENTS, "secret": secret,
        "has_pending": any(delivery.state == "pending" for delivery in page),
    }  # fmt: skip
    return render(request, "annotation/webhook.html", context)


def change(request: HttpRequest, webhook: Webhook, user: User) -> None:
    domain.change_webhook(webhook=webhook, user=user, events=request.POST.getlist("events"))
    messages.success(request, _("The events are changed."))


def ping(request: HttpRequest, webhook: Webhook, user: User) -> None:
    domain.ping(webhook=webhook)
    transaction.on_commit(lambda: wake_workers("cpu"))


def switch(request: HttpRequest, webhook: Webhook, user: User) -> None:
    domain.switch_webhook(webhook=webhook, user=user, is_active=not webhook.is_active)


def renew(request: HttpRequest, webhook: Webhook, user: User) -> str:
    return domain.renew_secret(webhook=webhook, user=user)


def remove(request: HttpRequest, webhook: Webhook, user: User) -> None:
    domain.remove_webhook(webhook=webhook, user=user)
    messages.success(request, _("The webhook and its log are removed."))


ACTS = {"change": change, "ping": ping, "switch": switch, "renew": renew, "remove": remove}


@require_POST
@study_editor
def redeliver(request: HttpRequest, study: Study, pk: int, delivery: int) -> HttpResponse:
    found = webhook_or_404(study, pk).deliveries.filter(pk=delivery).first()
    if found is None:
        raise Http404(_("There is no such delivery."))
    domain.redeliver(delivery=found)
    transaction.on_commit(lambda: wake_workers("cpu"))
    return redirect("study-webhook", slug=study.slug, pk=pk)


urlpatterns = [
    path("studies/<slug:slug>/webhooks/", webhooks, name="study-webhooks"),
    path("studies/<slug:slug>/webhooks/<int:pk>/", webhook, name="study-webhook"),
    path("studies/<slug:slug>/webhooks/<int:pk>/deliveries/<int:delivery>/", redeliver, name="webhook-redeliver"),
]
