"""Sending what is due: claim a delivery, send it, keep what came back, and try again later if it was not taken.

The attempts come after 15 s, 1 min, 4 min, 16 min, 1 h, 4 h and 17 h: eight in about a day. An address that took
nothing in all that time is switched off, and the study's log and the page of webhooks say so; so is one that answers
410, "gone".
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from annotation.domain.studies import log_event
from annotation.domain.webhook_events import PING
from annotation.domain.webhook_requests import Outcome, check_url, post, signature
from annotation.models import Webhook, WebhookAttempt, WebhookDelivery

MOST_ATTEMPTS = 8
FIRST_DELAY = 15.0
GROWTH = 4.0
CLAIMED_FOR = timedelta(seconds=60)
GONE = 410


def deliver_due(*, seconds: float = 10.0) -> int:
    """Send what is due, for some seconds at most; returns how many requests were made."""
    started, n_sent = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        delivery = claim_delivery()
        if delivery is None:
            break
        record(delivery, send(delivery))
        n_sent += 1
    return n_sent


def claim_delivery(*, now: datetime | None = None) -> WebhookDelivery | None:
    """The delivery that is due longest; another worker finds it again only if this one dies with it."""
    moment = now or timezone.now()
    wanted = Q(webhook__is_active=True) | Q(event=PING)
    with transaction.atomic():
        delivery = (
            WebhookDelivery.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("webhook__study")
            .filter(wanted, state=WebhookDelivery.State.PENDING, next_attempt_at__lte=moment)
            .order_by("next_attempt_at", "id").first()
        )  # fmt: skip
        if delivery is not None:
            WebhookDelivery.objects.filter(pk=delivery.pk).update(next_attempt_at=moment + CLAIMED_FOR)
    return delivery


def send(delivery: WebhookDelivery) -> Outcome:
    """One signed request; each attempt has its own time and so its own signature."""
    body, stamp = delivery.body.encode(), int(time.time())
    headers = {
        "Vitrine-Event": delivery.event,
        "Vitrine-Delivery": str(delivery.uuid),
        "Vitrine-Attempt": str(delivery.n_attempts + 1),
        "Vitrine-Timestamp": str(stamp),
        "Vitrine-Signature": signature(delivery.webhook.secret, stamp, body),
    }
    return post(delivery.webhook.url, headers, body, allows_inside=settings.WEBHOOKS_INSIDE)


def record(delivery: WebhookDelivery, outcome: Outcome, *, now: datetime | None = None) -> None:
    """Keep the attempt, and settle what becomes of the delivery."""
    moment, number = now or timezone.now(), delivery.n_attempts + 1
    with transaction.atomic():
        WebhookAttempt.objects.create(delivery=delivery, number=number, **outcome._asdict())
        row = WebhookDelivery.objects.filter(pk=delivery.pk)
        if outcome.is_taken:
            row.update(state="delivered", n_attempts=number, delivered_at=moment)
        elif number >= MOST_ATTEMPTS or outcome.status == GONE or delivery.event == PING:
            row.update(state="given-up", n_attempts=number)
            disable_if_dead(delivery, outcome)
        else:
            row.update(n_attempts=F("n_attempts") + 1, next_attempt_at=moment + delay_after(number))


def delay_after(n_attempts: int) -> timedelta:
    return timedelta(seconds=FIRST_DELAY * GROWTH ** (n_attempts - 1))


def disable_if_dead(delivery: WebhookDelivery, outcome: Outcome) -> None:
    """Switch off an address that is gone, or that has taken nothing since this delivery was first due."""
    webhook = delivery.webhook
    has_worked = webhook.deliveries.filter(state="delivered", delivered_at__gte=delivery.created_at).exists()
    if delivery.event == PING or (has_worked and outcome.status != GONE):
        return
    why = f"answered {outcome.status}" if outcome.status is not None else outcome.error.rstrip(".")
    said = "It said that it is gone (410)." if outcome.status == GONE else f"Nothing was taken for a day; last: {why}."
    changed = Webhook.objects.filter(pk=webhook.pk, is_active=True).update(is_active=False, disabled_reason=said[:300])
    if changed:
        host = check_url(webhook.url, allows_inside=True).hostname or ""
        log_event(webhook.study, None, "webhook disabled", host=host, reason=said)
