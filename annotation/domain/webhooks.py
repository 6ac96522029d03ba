"""Webhooks of a study: an address that is told what happens there, signed, with a log of every attempt.

The facts are rows that exist anyway (the study's log, answers, remarks, reports). `webhook_events` looks which of them
an address was not told of yet and writes a delivery; `webhook_delivery` sends what is due. So nothing is lost by a
crash, and no page that annotators use waits for a webhook.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.domain.studies import log_event
from annotation.domain.webhook_events import EVENTS, PING, marks_now
from annotation.domain.webhook_requests import AddressError, check_url, resolve
from annotation.models import Study, User, Webhook, WebhookDelivery

MOST_PER_STUDY = 10


class WebhookError(Exception):
    """The webhook cannot be made or changed; the message is fit for the user."""


class NewWebhook(NamedTuple):
    webhook: Webhook
    secret: str  # shown once


def create_webhook(*, study: Study, user: User, url: str, events: Iterable[str]) -> NewWebhook:
    """A webhook that is told of what happens from now on."""
    chosen = settle_events(events)
    address = settle_url(url)
    with transaction.atomic():
        locked = Study.objects.select_for_update().get(pk=study.pk)
        if locked.webhooks.count() >= MOST_PER_STUDY:
            raise WebhookError(
                _("A study has at most %(most_per_study)s webhooks; remove one first.")
                % {"most_per_study": MOST_PER_STUDY}
            )
        if locked.webhooks.filter(url=address).exists():
            raise WebhookError(_("This study has a webhook with this address already; change that one."))
        webhook = Webhook.objects.create(
            study=locked, url=address, events=chosen, secret=new_secret(), marks=marks_now(locked), created_by=user
        )
        log_event(locked, user, "webhook added", host=host_of(address), events=chosen)
    return NewWebhook(webhook, webhook.secret)


def settle_events(events: Iterable[str]) -> list[str]:
    chosen = sorted(set(events))
    unknown = [event for event in chosen if event not in EVENTS]
    if unknown:
        raise WebhookError(
            _("'%(unknown)s' is no event; it can be %(values)s.") % {"unknown": unknown[0], "values": ", ".join(EVENTS)}
        )
    if not chosen:
        raise WebhookError(_("Choose at least one event."))
    return chosen


def settle_url(url: str) -> str:
    """The address, looked at as it will be before each request, so that a mistake shows at once."""
    address = url.strip()
    try:
        parts = check_url(address, allows_inside=settings.WEBHOOKS_INSIDE)
        resolve(parts.hostname or "", parts.port or 443, allows_inside=settings.WEBHOOKS_INSIDE)
    except AddressError as error:
        raise WebhookError(str(error)) from error
    return address


def host_of(url: str) -> str:
    return check_url(url, allows_inside=True).hostname or ""


def new_secret() -> str:
    return f"vws_{secrets.token_urlsafe(32)}"


def change_webhook(*, webhook: Webhook, user: User, events: Iterable[str]) -> None:
    webhook.events = settle_events(events)
    webhook.save(update_fields=["events"])
    log_event(webhook.study, user, "webhook changed", host=host_of(webhook.url), events=webhook.events)


def renew_secret(*, webhook: Webhook, user: User) -> str:
    """A new secret, shown once; what is still to be delivered is signed with it."""
    webhook.secret = new_secret()
    webhook.save(update_fields=["secret"])
    log_event(webhook.study, user, "webhook secret renewed", host=host_of(webhook.url))
    return webhook.secret


def switch_webhook(*, webhook: Webhook, user: User, is_active: bool) -> None:
    """Off: nothing is sent, and what happens meanwhile is told when it is on again."""
    webhook.is_active, webhook.disabled_reason = is_active, ""
    with transaction.atomic():
        webhook.save(update_fields=["is_active", "disabled_reason"])
        log_event(webhook.study, user, "webhook switched on" if is_active else "webhook switched off",
                  host=host_of(webhook.url))  # fmt: skip


def remove_webhook(*, webhook: Webhook, user: User) -> None:
    with transaction.atomic():
        log_event(webhook.study, user, "webhook removed", host=host_of(webhook.url))
        webhook.delete()


def ping(*, webhook: Webhook) -> WebhookDelivery:
    """A delivery that says nothing, to see whether the address takes it; sent even while the webhook is off."""
    body = json.dumps({"event": PING, "study": webhook.study.slug, "at": timezone.now().isoformat()})
    return webhook.deliveries.create(event=PING, body=body, next_attempt_at=timezone.now())


def redeliver(*, delivery: WebhookDelivery) -> WebhookDelivery:
    """The same message once more, as a new delivery."""
    return WebhookDelivery.objects.create(
        webhook=delivery.webhook, event=delivery.event, body=delivery.body, next_attempt_at=timezone.now()
    )
