"""Webhooks: what is told, that it is signed, tried again, given up; and that no address inside the network is asked."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from annotation.domain import webhook_requests
from annotation.domain.answers import submit_answer
from annotation.domain.queue import claim_slots
from annotation.domain.remarks import RemarkText, add_remark
from annotation.domain.studies import close_study, log_event, pause_study, resume_study
from annotation.domain.webhook_delivery import (
    MOST_ATTEMPTS,
    claim_delivery,
    delay_after,
    deliver_due,
    record,
)
from annotation.domain.webhook_events import LAG, collect_news
from annotation.domain.webhook_requests import (
    AddressError,
    Outcome,
    check_url,
    is_public,
    is_signed,
    post,
    resolve,
    signature,
)
from annotation.domain.webhooks import (
    WebhookError,
    create_webhook,
    ping,
    redeliver,
    remove_webhook,
    renew_secret,
    switch_webhook,
)
from annotation.models import StudyEvent, Webhook, WebhookAttempt, WebhookDelivery, WorkSession
from tests.annotation.domain.webhook_receiver import Receiver, receiving
from tests.annotation.small_study import SmallStudy, make_answer, make_person, make_study
from tests.servers import WorkerProcess, poll

pytestmark = pytest.mark.django_db
LATER = timedelta(seconds=120)


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.WEBHOOKS_INSIDE = True
    with receiving() as server:
        yield server


@pytest.fixture
def small(db: None) -> SmallStudy:
    return make_study()


def make_webhook(small: SmallStudy, receiver: Receiver, *events: str) -> Webhook:
    user = make_person("rhea", "researcher")
    return create_webhook(study=small.study, user=user, url=receiver.url, events=events or ["study.paused"]).webhook


def tell(*, after: timedelta = LATER) -> int:
    """Collect the news as if some time had gone by, and send them."""
    collect_news(now=timezone.now() + after)
    WebhookDelivery.objects.update(next_attempt_at=timezone.now())
    return deliver_due()


def test_a_pause_is_told_once_and_signed(small: SmallStudy, receiver: Receiver) -> None:
    webhook = make_webhook(small, receiver)
    pause_study(study=small.study, user=None)
    assert tell() == 1
    assert tell() == 0
    [got] = receiver.received
    assert (got.path, got.headers["Vitrine-Event"]) == ("/hook?from=vitrine", "study.paused")
    message = json.loads(got.body)
    assert (message["event"], message["study"], message["data"]["what"]) == ("study.paused", "first", "paused")
    assert is_signed(got.headers, got.body, secret=webhook.secret, now=time.time())
    assert not is_signed(got.headers, got.body + b" ", secret=webhook.secret, now=time.time())
    assert not is_signed(got.headers, got.body, secret="another", now=time.time())
    assert not is_signed(got.headers, got.body, secret=webhook.secret, now=time.time() + 301)
    [attempt] = WebhookAttempt.objects.all()
    assert (attempt.status, attempt.response, attempt.error) == (200, "thank you", "")
    assert WebhookDelivery.objects.get().state == "delivered"


def test_the_signature_is_the_one_documented() -> None:
    wanted = "v1=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163"
    assert signature("secret", 1_700_000_000, b"{}") == wanted


def test_only_the_chosen_events_and_only_from_now_on(small: SmallStudy, receiver: Receiver) -> None:
    pause_study(study=small.study, user=None)
    make_webhook(small, receiver, "study.opened", "study.closed")
    resume_study(study=small.study, user=None)
    pause_study(study=small.study, user=None)
    close_study(study=small.study, user=None)
    tell()
    assert [json.loads(got.body)["event"] for got in receiver.received] == ["study.opened", "study.closed"]


def test_answers_are_told_in_batches_by_a_cursor(small: SmallStudy, receiver: Receiver) -> None:
    make_webhook(small, receiver, "answers.stored")
    person = small.people[0]
    for slot in claim_slots(study=small.study, annotator=person, n=3):
        submit_answer(annotator=person, study=small.study, answer=make_answer(slot.item, slot))
    assert tell(after=LAG) == 0  # young and few: not yet
    assert tell(after=timedelta(seconds=70)) == 1
    data = json.loads(receiver.received[0].body)["data"]
    last = small.study.annotations.order_by("-pk").values_list("pk", flat=True)[0]
    assert data == {"n_answers": 3, "after": data["after"], "last": last}
    assert tell() == 0


def test_a_flag_is_told_and_a_skip_is_not(small: SmallStudy, receiver: Receiver) -> None:
    make_webhook(small, receiver, "flag.raised")
    for kind in ("skip", "flag"):
        text = RemarkText(uuid=uuid.uuid4(), item=small.items[0].pk, kind=kind, text="blurred")
        add_remark(annotator=small.people[0], study=small.study, remark=text)
    assert tell() == 1
    assert json.loads(receiver.received[0].body)["data"]["text"] == "blurred"


def test_the_end_of_a_session_is_told_by_pseudonym(small: SmallStudy, receiver: Receiver) -> None:
    make_webhook(small, receiver, "participant.finished")
    participation = small.study.participations.get(user=small.people[0])
    session = WorkSession.objects.create(participation=participation, number=1, length=10)
    assert tell() == 0
    WorkSession.objects.filter(pk=session.pk).update(ended_at=timezone.now(), ending="complete", n_done=10)
    assert tell() == 1
    assert tell() == 0
    data = json.loads(receiver.received[0].body)["data"]
    code = small.people[0].annotator_code
    assert data == {"annotator": code, "session": 1, "n_done": 10, "ending": "complete"}


def test_a_real_worker_tells_what_happened(
    transactional_db: None, receiver: Receiver, start_worker: Callable[..., WorkerProcess]
) -> None:
    made = make_study()
    make_webhook(made, receiver)
    start_worker("cpu", VITRINE_WEBHOOKS_INSIDE="1")
    pause_study(study=made.study, user=None)
    poll(lambda: len(receiver.received), "the delivery", seconds=60)
    assert receiver.received[0].headers["Vitrine-Event"] == "study.paused"
    poll(lambda: WebhookDelivery.objects.get().state == "delivered", "its record", seconds=20)


def test_a_young_row_waits_for_transactions_that_began_before_it(small: SmallStudy, receiver: Receiver) -> None:
    make_webhook(small, receiver)
    pause_study(study=small.study, user=None)
    assert tell(after=timedelta(0)) == 0
    assert tell() == 1


def test_what_is_not_taken_comes_again_later_and_later(small: SmallStudy, receiver: Receiver) -> None:
    make_webhook(small, receiver)
    pause_study(study=small.study, user=None)
    receiver.status, receiver.answer = 503, b"not now"
    tell()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.n_attempts) == ("pending", 1)
    assert timedelta(seconds=10) < delivery.next_attempt_at - timezone.now() < timedelta(seconds=16)
    assert claim_delivery() is None
    receiver.status = 200
    tell()
    assert list(WebhookAttempt.objects.values_list("number", "status", "response")) == [
        (1, 503, "not now"), (2, 200, "not now"),
    ]  # fmt: skip


def test_the_attempts_take_about_a_day() -> None:
    total = sum((delay_after(n) for n in range(1, MOST_ATTEMPTS)), timedelta())
    assert timedelta(hours=20) < total < timedelta(hours=28)


def fail_until_given_up(delivery: WebhookDelivery, outcome: Outcome) -> None:
    for _ in range(MOST_ATTEMPTS):
        delivery.refresh_from_db()
        record(delivery, outcome)


def test_an_address_that_takes_nothing_for_a_day_is_switched_off(small: SmallStudy, receiver: Receiver) -> None:
    webhook = make_webhook(small, receiver)
    pause_study(study=small.study, user=None)
    collect_news(now=timezone.now() + LATER)
    delivery = webhook.deliveries.get()
    fail_until_given_up(delivery, Outcome(500, 3, "oh", ""))
    delivery.refresh_from_db()
    webhook.refresh_from_db()
    assert (delivery.state, delivery.n_attempts, webhook.is_active) == ("given-up", MOST_ATTEMPTS, False)
    assert "answered 500" in webhook.disabled_reason
    assert StudyEvent.objects.filter(kind="webhook disabled").count() == 1
    resume_study(study=small.study, user=None)
    assert collect_news(now=timezone.now() + LATER) == 0


def test_one_lost_message_does_not_switch_off_an_address_that_works(small: SmallStudy, receiver: Receiver) -> None:
    webhook = make_webhook(small, receiver)
    pause_study(study=small.study, user=None)
    collect_news(now=timezone.now() + LATER)
    lost = webhook.deliveries.get()
    record(redeliver(delivery=lost), Outcome(204, 3, "", ""))
    fail_until_given_up(lost, Outcome(500, 3, "oh", ""))
    webhook.refresh_from_db()
    assert webhook.is_active


def test_gone_ends_it_at_once(small: SmallStudy, receiver: Receiver) -> None:
    webhook = make_webhook(small, receiver)
    pause_study(study=small.study, user=None)
    receiver.status = 410
    tell()
    webhook.refresh_from_db()
    assert (webhook.is_active, webhook.deliveries.get().state) == (False, "given-up")


def test_a_ping_is_sent_even_when_switched_off_and_never_retried(small: SmallStudy, receiver: Receiver) -> None:
    webhook = make_webhook(small, receiver)
    switch_webhook(webhook=webhook, user=webhook.created_by or make_person("x"), is_active=False)
    receiver.status = 500
    delivery = ping(webhook=webhook)
    assert deliver_due() == 1
    delivery.refresh_from_db()
    assert delivery.state == "given-up"
    assert json.loads(receiver.received[0].body)["event"] == "ping"


def test_a_redirect_is_not_followed(small: SmallStudy, receiver: Receiver) -> None:
    make_webhook(small, receiver)
    pause_study(study=small.study, user=None)
    receiver.status = 302
    tell()
    assert len(receiver.received) == 1
    assert WebhookDelivery.objects.get().state == "pending"


def test_a_receiver_that_keeps_us_waiting_is_left(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_requests, "TIMEOUT_SECONDS", 0.3)
    receiver.hold.clear()
    outcome = post(receiver.url, {}, b"{}", allows_inside=True)
    assert (outcome.status, outcome.error) == (None, "No answer within 0 seconds.")
    assert outcome.duration_ms < 5000


def test_a_long_answer_is_kept_in_part(receiver: Receiver) -> None:
    receiver.answer = b"\x00" + "ä".encode() * 10_000
    outcome = post(receiver.url, {}, b"{}", allows_inside=True)
    assert (outcome.status, outcome.response) == (200, "ä" * 500)


def test_nobody_there_is_a_sentence(receiver: Receiver) -> None:
    receiver.shutdown()
    receiver.server_close()
    outcome = post(receiver.url, {}, b"{}", allows_inside=True)
    assert outcome.status is None
    assert outcome.error.startswith("No connection: ")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.0.9", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "255.255.255.255",
    ],
)  # fmt: skip
def test_addresses_inside_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_addresses_outside_are_public() -> None:
    assert is_public("9.9.9.9")
    assert is_public("2620:fe::fe")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "[::1]"])
def test_a_name_that_leads_inside_is_refused(host: str) -> None:
    with pytest.raises(AddressError, match="inside a private network"):
        resolve(host.strip("[]"), 443, allows_inside=False)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://example.org/", "must begin with https"),
        ("ftp://example.org/", "must begin with https"),
        ("https:///path", "must name a host"),
        ("https://user:password@example.org/", "no user or password"),
        ("https://example.org:99999/", "is no address"),
        ("https://example.org/a b", "no spaces"),
        ("https://example.org/\r\nHost: x", "no spaces"),
        ("https://example.org/" + "x" * 500, "at most 500"),
    ],
)
def test_addresses_that_cannot_be(url: str, sentence: str) -> None:
    with pytest.raises(AddressError, match=sentence):
        check_url(url, allows_inside=False)


def test_the_guard_looks_again_before_each_request(receiver: Receiver) -> None:
    outcome = post(receiver.url.replace("http:", "https:"), {}, b"{}", allows_inside=False)
    assert "inside a private network" in outcome.error
    assert receiver.received == []


def test_what_cannot_be_made(small: SmallStudy, settings: Any) -> None:
    user = make_person("rhea", "researcher")
    for url, events, sentence in (
        ("https://localhost/", ["study.paused"], "private network"),
        ("http://example.org/", ["study.paused"], "https"),
    ):
        with pytest.raises(WebhookError, match=sentence):
            create_webhook(study=small.study, user=user, url=url, events=events)
    settings.WEBHOOKS_INSIDE = True
    for events, sentence in (([], "at least one"), (["study.eaten"], "is no event")):
        with pytest.raises(WebhookError, match=sentence):
            create_webhook(study=small.study, user=user, url="http://localhost/", events=events)
    create_webhook(study=small.study, user=user, url="http://localhost/", events=["study.paused"])
    with pytest.raises(WebhookError, match="already"):
        create_webhook(study=small.study, user=user, url="http://localhost/", events=["study.paused"])


def test_a_new_secret_signs_and_a_removed_webhook_is_told_nothing(small: SmallStudy, receiver: Receiver) -> None:
    webhook = make_webhook(small, receiver)
    user = webhook.created_by
    assert user is not None
    secret = renew_secret(webhook=webhook, user=user)
    pause_study(study=small.study, user=None)
    tell()
    assert is_signed(receiver.received[0].headers, receiver.received[0].body, secret=secret, now=time.time())
    remove_webhook(webhook=webhook, user=user)
    log_event(small.study, None, "closed")
    assert tell() == 0
    assert Webhook.objects.count() == WebhookDelivery.objects.count() == 0
