"""What a webhook can be told, read from rows that exist anyway: what it was not told of yet becomes deliveries.

Messages are thin: they say that something happened and where to read it; what an item is (condition, dictionary, block)
is in none of them, so a blind study stays blind. A row is told of a few seconds after it was written, because two
transactions may commit in another order than their rows are numbered in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Max, Min
from django.utils import timezone
from django.utils.translation import gettext_noop as _

from annotation.models import (
    Annotation,
    ImageReport,
    Remark,
    Study,
    StudyEvent,
    Webhook,
    WebhookDelivery,
    WorkSession,
)

PING = "ping"
EVENTS = {
    "study.opened": _("the study opened, or was resumed"),
    "study.paused": _("the study was paused"),
    "study.closed": _("the study was closed"),
    "answers.stored": _("answers were stored: told once a minute, or after a hundred"),
    "flag.raised": _("an annotator flagged an item"),
    "image.reported": _("an annotator reported an image"),
    "export.done": _("an export is ready to be downloaded"),
    "participant.finished": _("an annotator's session ended: complete, left early or screened out"),
}
EVENT_OF_LOG = {
    "opened": "study.opened", "resumed": "study.opened", "paused": "study.paused", "closed": "study.closed",
    "export written": "export.done",
}  # fmt: skip
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAG = timedelta(seconds=5)
BATCH_ANSWERS, BATCH_AGE = 100, timedelta(seconds=60)
MOST_AT_ONCE = 500
KEPT = timedelta(days=30)


class News(NamedTuple):
    """One thing to tell, and the row it was read from."""

    event: str
    mark: int
    data: dict[str, Any]


Source = Callable[[Study, int, datetime], Iterator[News]]


def news_of_log(study: Study, after: int, until: datetime) -> Iterator[News]:
    rows = StudyEvent.objects.filter(study=study, pk__gt=after, at__lte=until).order_by("pk")
    for row in rows[:MOST_AT_ONCE]:
        yield News(EVENT_OF_LOG.get(row.kind, ""), row.pk, {"what": row.kind, "at": row.at.isoformat()} | public(row))


def public(row: StudyEvent) -> dict[str, Any]:
    """What of an event's detail goes out: numbers and codes of our own, never names."""
    return {name: row.detail[name] for name in ("export", "n_answers") if name in row.detail}


def news_of_answers(study: Study, after: int, until: datetime) -> Iterator[News]:
    """Many answers are one message; what they say is read with the cursor it gives."""
    rows = Annotation.objects.filter(study=study, pk__gt=after, received_at__lte=until)
    ids = list(rows.order_by("pk").values_list("pk", flat=True)[: 10 * MOST_AT_ONCE])
    if not ids:
        return
    oldest = rows.filter(pk__lte=ids[-1]).aggregate(oldest=Min("received_at"))["oldest"]
    if len(ids) >= BATCH_ANSWERS or oldest <= until - BATCH_AGE:
        yield News("answers.stored", ids[-1], {"n_answers": len(ids), "after": after, "last": ids[-1]})


def news_of_flags(study: Study, after: int, until: datetime) -> Iterator[News]:
    rows = Remark.objects.filter(item__study=study, pk__gt=after, at__lte=until, kind=Remark.Kind.FLAG).order_by("pk")
    for row in rows.select_related("author")[:MOST_AT_ONCE]:
        yield News("flag.raised", row.pk, {"remark": row.pk, "item": row.item_id, "text": row.text[:500]})


def news_of_reports(study: Study, after: int, until: datetime) -> Iterator[News]:
    rows = ImageReport.objects.filter(study=study, pk__gt=after, at__lte=until).order_by("pk")
    for row in rows[:MOST_AT_ONCE]:
        yield News("image.reported", row.pk, {"report": str(row.uuid), "reason": row.reason[:500]})


def news_of_sessions(study: Study, after: int, until: datetime) -> Iterator[News]:
    """Sessions end in any order, so the mark is the time of the last one told of, in microseconds."""
    rows = WorkSession.objects.filter(
        participation__study=study, ended_at__gt=EPOCH + timedelta(microseconds=after), ended_at__lte=until
    ).select_related("participation__user")
    for row in rows.order_by("ended_at", "pk")[:MOST_AT_ONCE]:
        assert row.ended_at is not None
        person = {"annotator": row.participation.user.annotator_code, "session": row.number, "n_done": row.n_done}
        yield News("participant.finished", microseconds(row.ended_at), person | {"ending": row.ending})


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


SOURCES: dict[str, Source] = {
    "log": news_of_log, "answer": news_of_answers, "flag": news_of_flags, "report": news_of_reports,
    "session": news_of_sessions,
}  # fmt: skip


def marks_now(study: Study) -> dict[str, int]:
    """The last row of each source: a new webhook is told of what comes after."""
    found = {
        "log": StudyEvent.objects.filter(study=study),
        "answer": Annotation.objects.filter(study=study),
        "flag": Remark.objects.filter(item__study=study),
        "report": ImageReport.objects.filter(study=study),
    }
    last = {name: rows.aggregate(last=Max("pk"))["last"] or 0 for name, rows in found.items()}
    return last | {"session": microseconds(timezone.now())}


def collect_news(*, now: datetime | None = None) -> int:
    """Write a delivery for everything an active webhook was not told of yet; returns how many were written."""
    moment = now or timezone.now()
    return sum(collect_for(pk, moment) for pk in Webhook.objects.filter(is_active=True).values_list("pk", flat=True))


def collect_for(webhook_id: int, now: datetime) -> int:
    with transaction.atomic():
        webhook = (
            Webhook.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("study").filter(pk=webhook_id, is_active=True).first()
        )  # fmt: skip
        if webhook is None:
            return 0
        marks, deliveries = dict(webhook.marks), []
        for name, source in SOURCES.items():
            for news in source(webhook.study, marks.get(name, 0), now - LAG):
                marks[name] = news.mark
                if news.event in webhook.events:
                    deliveries.append(delivery_of(webhook, news, now))
        if marks != webhook.marks:
            WebhookDelivery.objects.bulk_create(deliveries)
            Webhook.objects.filter(pk=webhook.pk).update(marks=marks)
            old = webhook.deliveries.exclude(state=WebhookDelivery.State.PENDING).filter(created_at__lt=now - KEPT)
            old.delete()
    return len(deliveries)


def delivery_of(webhook: Webhook, news: News, now: datetime) -> WebhookDelivery:
    body = {"event": news.event, "study": webhook.study.slug, "at": now.isoformat()} | {"data": news.data}
    return WebhookDelivery(
        webhook=webhook, event=news.event, body=json.dumps(body, ensure_ascii=False), next_attempt_at=now
    )
