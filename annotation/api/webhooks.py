"""Webhooks of a study: what is told to which address, and what became of each delivery."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Query, Schema, Status
from ninja.errors import HttpError

from annotation.api.base import PageQuery, api, refusing, study_to_change, token_with
from annotation.domain import webhooks
from annotation.domain.webhooks import WebhookError
from annotation.models import Webhook, WebhookDelivery
from config.wakeup import wake_workers

SCOPE = "webhooks:write"


class WebhookOut(Schema):
    id: int
    url: str
    events: list[str]
    is_active: bool
    disabled_reason: str
    created_at: datetime


class NewWebhookOut(WebhookOut):
    """`secret` signs every delivery; it is not shown again."""

    secret: str


class WebhookIn(Schema):
    url: str
    events: list[str]


class WebhookChange(Schema):
    events: list[str] | None = None
    is_active: bool | None = None


class AttemptOut(Schema):
    number: int
    at: datetime
    status: int | None
    duration_ms: int
    response: str
    error: str


class DeliveryOut(Schema):
    id: int
    delivery: str
    event: str
    state: str
    body: str
    created_at: datetime
    next_attempt_at: datetime | None
    attempts: list[AttemptOut]


class DeliveryPage(Schema):
    items: list[DeliveryOut]
    next: int | None


def webhook_out(webhook: Webhook) -> WebhookOut:
    return WebhookOut(**{name: getattr(webhook, name) for name in WebhookOut.model_fields})


def delivery_out(delivery: WebhookDelivery) -> DeliveryOut:
    is_pending = delivery.state == WebhookDelivery.State.PENDING
    return DeliveryOut(
        id=delivery.pk, delivery=str(delivery.uuid), event=delivery.event, state=delivery.state, body=delivery.body,
        created_at=delivery.created_at, next_attempt_at=delivery.next_attempt_at if is_pending else None,
        attempts=[
            AttemptOut(**{name: getattr(one, name) for name in AttemptOut.model_fields})
            for one in delivery.attempts.all()
        ],
    )  # fmt: skip


def webhook_of(request: HttpRequest, slug: str, webhook_id: int) -> Webhook:
    webhook = study_to_change(request, slug, SCOPE).webhooks.select_related("study").filter(pk=webhook_id).first()
    if webhook is None:
        raise HttpError(
            404, _("There is no webhook %(webhook_id)s of '%(slug)s'.") % {"webhook_id": webhook_id, "slug": slug}
        )
    return webhook


@api.get("/studies/{slug}/webhooks", response=list[WebhookOut], tags=["webhooks"])
def list_webhooks(request: HttpRequest, slug: str) -> list[WebhookOut]:
    return [webhook_out(webhook) for webhook in study_to_change(request, slug, SCOPE).webhooks.all()]


@api.post("/studies/{slug}/webhooks", response={201: NewWebhookOut}, tags=["webhooks"])
def add_webhook(request: HttpRequest, slug: str, body: WebhookIn) -> Status[NewWebhookOut]:
    """The secret is in this answer only."""
    study, user = study_to_change(request, slug, SCOPE), token_with(request, SCOPE).user
    made = refusing(
        lambda: webhooks.create_webhook(study=study, user=user, url=body.url, events=body.events),
        WebhookError, status=400,
    )  # fmt: skip
    return Status(201, NewWebhookOut(**webhook_out(made.webhook).dict(), secret=made.secret))


@api.patch("/studies/{slug}/webhooks/{webhook_id}", response=WebhookOut, tags=["webhooks"])
def change_webhook(request: HttpRequest, slug: str, webhook_id: int, body: WebhookChange) -> WebhookOut:
    """Other events, or switch it off and on."""
    webhook, user = webhook_of(request, slug, webhook_id), token_with(request, SCOPE).user
    events, is_active = body.events, body.is_active
    if events is not None:
        refusing(lambda: webhooks.change_webhook(webhook=webhook, user=user, events=events), WebhookError, status=400)
    if is_active is not None:
        webhooks.switch_webhook(webhook=webhook, user=user, is_active=is_active)
    return webhook_out(webhook)


@api.delete("/studies/{slug}/webhooks/{webhook_id}", response={204: None}, tags=["webhooks"])
def remove_webhook(request: HttpRequest, slug: str, webhook_id: int) -> Status[None]:
    webhook = webhook_of(request, slug, webhook_id)
    webhooks.remove_webhook(webhook=webhook, user=token_with(request, SCOPE).user)
    return Status(204, None)


@api.post("/studies/{slug}/webhooks/{webhook_id}/ping", response={202: DeliveryOut}, tags=["webhooks"])
def ping_webhook(request: HttpRequest, slug: str, webhook_id: int) -> Status[DeliveryOut]:
    delivery = webhooks.ping(webhook=webhook_of(request, slug, webhook_id))
    transaction.on_commit(lambda: wake_workers("cpu"))
    return Status(202, delivery_out(delivery))


@api.get("/studies/{slug}/webhooks/{webhook_id}/deliveries", response=DeliveryPage, tags=["webhooks"])
def list_deliveries(request: HttpRequest, slug: str, webhook_id: int, page: Query[PageQuery]) -> DeliveryPage:
    """Oldest first; what was settled more than thirty days ago is forgotten."""
    rows = webhook_of(request, slug, webhook_id).deliveries.filter(pk__gt=page.after).order_by("pk")
    deliveries = list(rows.prefetch_related("attempts")[: page.limit])
    return DeliveryPage(
        items=[delivery_out(delivery) for delivery in deliveries],
        next=deliveries[-1].pk if len(deliveries) == page.limit else None,
    )


@api.post(
    "/studies/{slug}/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
    response={202: DeliveryOut},
    tags=["webhooks"],
)
def redeliver(request: HttpRequest, slug: str, webhook_id: int, delivery_id: int) -> Status[DeliveryOut]:
    """The same message once more, as a new delivery."""
    delivery = webhook_of(request, slug, webhook_id).deliveries.filter(pk=delivery_id).first()
    if delivery is None:
        raise HttpError(404, _("There is no delivery %(delivery_id)s of this webhook.") % {"delivery_id": delivery_id})
    again = webhooks.redeliver(delivery=delivery)
    transaction.on_commit(lambda: wake_workers("cpu"))
    return Status(202, delivery_out(again))
