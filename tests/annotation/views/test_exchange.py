"""Pages of what comes in and goes out: who may open them, and that each does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from annotation.domain.errands import work_off_errands
from annotation.domain.webhook_delivery import deliver_due
from annotation.models import Annotation, ApiToken, Bundle, Errand, Role, Study, StudyEvent, User, Webhook
from tests.annotation.domain.webhook_receiver import receiving
from tests.factories import OpenStudy, make_draft_study, make_open_study, make_person

pytestmark = pytest.mark.django_db


@pytest.fixture
def opened(artifact_root: Path, tmp_path: Path, settings: Any) -> OpenStudy:
    settings.EXPORT_ROOT = tmp_path / "exports"
    return make_open_study(n_items=4, is_simulated=True, locked_hash="a" * 64)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def table(text: str, name: str = "table.csv") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, text.encode())


def page(client: Client, address: str, status: int = 200) -> str:
    response = client.get(address)
    assert response.status_code == status
    return response.content.decode()


PAGES = ("/studies/discs/exchange/", "/studies/discs/webhooks/", "/imports/")


@pytest.mark.parametrize("address", PAGES)
def test_who_may_open_it(opened: OpenStudy, address: str) -> None:
    assert Client().get(address).status_code == 302
    page(client_of(opened.researcher), address)
    page(client_of(make_person("stranger")), address, 403 if address == "/imports/" else 404)
    reader = make_person("reader", Role.RESEARCHER)
    page(client_of(reader), address, 403 if "webhooks" in address else 200)
    assert client_of(opened.researcher).put(address).status_code == 405


@pytest.mark.parametrize("act", ["items", "bundle", "returns", "simulate"])
def test_acts_are_for_those_who_change_the_study(opened: OpenStudy, act: str) -> None:
    address = f"/studies/discs/exchange/{act}/"
    assert client_of(make_person("reader", Role.RESEARCHER)).post(address).status_code == 403
    assert client_of(make_person("stranger")).post(address).status_code == 404
    assert client_of(opened.researcher).get(address).status_code == 405
    assert Errand.objects.count() == 0


def test_the_page_offers_what_can_be_done(opened: OpenStudy) -> None:
    text = page(client_of(opened.researcher), "/studies/discs/exchange/")
    assert "Make a bundle" in text
    assert "Let them work" in text
    assert "Import items" not in text
    make_draft_study("later")
    text = page(client_of(opened.researcher), "/studies/later/exchange/")
    assert "Import items" in text
    assert "Make a bundle" not in text


def test_a_simulation_is_asked_for_and_shown(opened: OpenStudy) -> None:
    client = client_of(opened.researcher)
    values = {"n": 2, "accuracy": 0.9, "separation": 1, "bias": 0, "seconds": 5, "lapse_rate": 0, "limit": 3}
    response = client.post("/studies/discs/exchange/simulate/", values, follow=True)
    assert "waiting for a worker" in response.content.decode()
    errand = Errand.objects.get()
    work_off_errands()
    text = page(client, f"/errands/{errand.pk}/")
    assert "<strong>3</strong> answers" in text
    assert Annotation.objects.filter(is_simulated=True).count() == 3
    wrong = client.post("/studies/discs/exchange/simulate/", values | {"accuracy": 2})
    assert wrong.status_code == 400
    listed = client.post("/studies/discs/exchange/simulate/", values | {"annotators": "- {name: ada, sight: 1}"})
    assert "no property &#x27;sight&#x27;" in listed.content.decode()


def test_a_bundle_is_made_and_downloaded(opened: OpenStudy) -> None:
    client = client_of(opened.researcher)
    response = client.post("/studies/discs/exchange/bundle/", {"per_item": ""}, follow=True)
    errand = Errand.objects.get()
    assert client.get(f"/errands/{errand.pk}/file").status_code == 404
    work_off_errands()
    assert "Download" in page(client, f"/errands/{errand.pk}/")
    response = client.get(f"/errands/{errand.pk}/file")
    assert b"".join(response.streaming_content)[:2] == b"PK"  # type: ignore[attr-defined]
    assert response["Content-Disposition"] == 'attachment; filename="discs.bundle.zip"'
    assert client_of(make_person("other", Role.RESEARCHER)).get(f"/errands/{errand.pk}/").status_code == 404
    assert client_of(make_person("other2", Role.RESEARCHER)).get(f"/errands/{errand.pk}/file").status_code == 404
    assert "Take its answers home" in page(client, "/studies/discs/exchange/")
    assert Bundle.objects.count() == 1


def test_a_file_that_is_no_bundle_is_a_sentence(opened: OpenStudy) -> None:
    client = client_of(opened.researcher)
    client.post("/imports/", {"what": "bundle", "file": table("x", "x.zip")})
    work_off_errands()
    errand = Errand.objects.get()
    assert "The file is no bundle of Vitrine" in page(client, f"/errands/{errand.pk}/")
    assert client.post("/imports/", {"what": "bundle"}).status_code == 400


def test_answers_are_checked_then_taken_in(opened: OpenStudy) -> None:
    client = client_of(opened.researcher)
    values = {"what": "answers", "name": "Before", "protocol": "intruder", "mapping": "annotator = rater"}
    rows = "rater,item,intruder\nann,1,4\nbob,1,7\n"
    client.post("/imports/", values | {"file": table(rows)})
    work_off_errands()
    errand = Errand.objects.get()
    text = page(client, f"/errands/{errand.pk}/")
    assert "1 line is wrong" in text
    assert "it is a number from 0 to 4" in text
    assert "Take it in" not in text
    client.post("/imports/", values | {"file": table(rows.replace("7", "2"))})
    work_off_errands()
    errand = Errand.objects.order_by("id")[1]
    assert "Nothing was changed so far." in page(client, f"/errands/{errand.pk}/")
    client.post(f"/errands/{errand.pk}/")
    work_off_errands()
    study = Study.objects.get(name="Before")
    assert f"/studies/{study.slug}/" in page(client, f"/errands/{errand.pk}/")
    assert study.annotations.count() == 2
    text = client.post(f"/errands/{errand.pk}/", follow=True).content.decode()
    assert "was done already" in text


def test_forms_that_are_not_right(opened: OpenStudy) -> None:
    client = client_of(opened.researcher)
    response = client.post(
        "/imports/", {"what": "answers", "protocol": "intruder", "file": table("a\n"), "mapping": "x"}
    )
    text = response.content.decode()
    assert response.status_code == 400
    assert "Give the new study a name" in text
    assert "ours = theirs" in text
    assert Errand.objects.count() == 0


def test_a_webhook_is_made_pinged_and_removed(opened: OpenStudy, settings: Any) -> None:
    settings.WEBHOOKS_INSIDE = True
    client = client_of(opened.researcher)
    with receiving() as receiver:
        text = client.post(
            "/studies/discs/webhooks/", {"url": receiver.url, "events": ["study.paused", "export.done"]}
        ).content.decode()
        webhook = Webhook.objects.get()
        assert webhook.secret in text
        address = f"/studies/discs/webhooks/{webhook.pk}/"
        assert webhook.secret not in page(client, address)
        client.post(address, {"act": "ping"})
        assert "pending" in page(client, address)
        deliver_due()
        text = page(client, address)
        assert "delivered" in text
        assert "thank you" in text
        delivery = webhook.deliveries.get()
        client.post(f"{address}deliveries/{delivery.pk}/")
        deliver_due()
        assert len(receiver.received) == 2
    client.post(address, {"act": "change", "events": ["flag.raised"]})
    client.post(address, {"act": "switch"})
    webhook.refresh_from_db()
    assert (webhook.events, webhook.is_active) == (["flag.raised"], False)
    assert "at least one event" in client.post(address, {"act": "change"}, follow=True).content.decode()
    old = webhook.secret
    webhook.refresh_from_db()
    text = client.post(address, {"act": "renew"}).content.decode()
    webhook.refresh_from_db()
    assert webhook.secret != old
    assert webhook.secret in text
    assert client.post(address, {"act": "eat"}).status_code == 404
    client.post(address, {"act": "remove"})
    assert Webhook.objects.count() == 0
    kinds = set(StudyEvent.objects.values_list("kind", flat=True))
    assert {"webhook added", "webhook changed", "webhook switched off", "webhook removed"} <= kinds


def test_a_webhook_to_the_inside_is_refused(opened: OpenStudy) -> None:
    response = client_of(opened.researcher).post(
        "/studies/discs/webhooks/", {"url": "https://127.0.0.1/x", "events": ["study.paused"]}
    )
    assert response.status_code == 400
    assert "inside a private network" in response.content.decode()


def test_the_log_of_a_webhook_costs_the_same_with_many_deliveries(
    opened: OpenStudy, settings: Any, django_assert_max_num_queries: Any
) -> None:
    webhook = Webhook.objects.create(study=opened.study, url="https://example.org/", events=["ping"], secret="s")
    client = client_of(opened.researcher)
    for n in (1, 3):
        for _ in range(n):
            webhook.deliveries.create(event="ping", body="{}", next_attempt_at="2026-01-01T00:00Z")
        with django_assert_max_num_queries(14):
            page(client, f"/studies/discs/webhooks/{webhook.pk}/")


def test_a_token_has_a_lifetime(opened: OpenStudy) -> None:
    client = client_of(opened.researcher)
    client.post("/tokens/", {"name": "one", "scopes": ["items:read", "webhooks:write"], "days": "30"})
    token = ApiToken.objects.get()
    assert token.expires_at is not None
    assert token.scopes == ["items:read", "webhooks:write"]
    client.post("/tokens/", {"name": "two", "scopes": ["items:read"], "days": "7"})
    assert ApiToken.objects.count() == 1
