"""The pages of exports and tokens: who gets in, what they show."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks

from annotation.domain.exports import request_export, write_queued_exports
from annotation.domain.tokens import create_token, token_for
from annotation.models import ApiToken, ExportFile
from tests.analysis.studies import SmallStudy, make_person, make_study

pytestmark = pytest.mark.django_db


@pytest.fixture
def small(tmp_path: Path, settings: Any) -> SmallStudy:
    settings.EXPORT_ROOT = tmp_path / "exports"
    return make_study()


def test_only_researchers_see_the_exports(client: Client, small: SmallStudy) -> None:
    address = reverse("exports", args=["first"])
    assert client.get(address).status_code == 302
    client.force_login(small.annotators[0])
    assert client.get(address).status_code == 403
    assert client.post(address, {"format": "csv"}).status_code == 403
    client.force_login(make_person("stranger"))
    assert client.get(address).status_code == 404
    client.force_login(small.researcher)
    assert client.get(reverse("exports", args=["second"])).status_code == 404
    assert client.put(address).status_code == 405
    assert "No export yet." in client.get(address).content.decode()
    assert ExportFile.objects.count() == 0


def test_an_export_is_asked_for_written_and_downloaded(
    client: Client, small: SmallStudy, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    client.force_login(small.researcher)
    address = reverse("exports", args=["first"])
    with django_capture_on_commit_callbacks() as callbacks:
        page = client.post(address, {"format": "csv"}, follow=True)
    assert len(callbacks) == 1  # the wake-up of the workers
    assert "waiting for a worker" in page.content.decode()
    write_queued_exports()
    export = ExportFile.objects.get()
    text = client.get(address).content.decode()
    assert f'title="{export.sha256}"' in text
    download = reverse("export-download", args=["first", export.pk, "annotations.csv"])
    assert download in text
    response = client.get(download)
    content = b"".join(response.streaming_content)  # type: ignore[attr-defined]
    assert hashlib.sha256(content).hexdigest() == export.sha256
    assert response["Content-Disposition"] == f'attachment; filename="first-{export.pk}-annotations.csv"'
    for name in ("nothing.csv", "..%2Fcard.json"):
        assert client.get(download.replace("annotations.csv", name)).status_code == 404
    client.force_login(small.annotators[0])
    assert client.get(download).status_code == 403
    client.force_login(make_person("stranger"))
    assert client.get(download).status_code == 404


def test_an_export_of_another_study_is_not_there(client: Client, small: SmallStudy) -> None:
    other = make_study(slug="other")
    request_export(study=other.study, file_format="csv", user=other.researcher)
    write_queued_exports()
    client.force_login(small.researcher)
    export = ExportFile.objects.get()
    assert client.get(reverse("export-download", args=["first", export.pk, "card.md"])).status_code == 404


def test_an_unknown_format_is_a_message_and_no_row(client: Client, small: SmallStudy) -> None:
    client.force_login(small.researcher)
    page = client.post(reverse("exports", args=["first"]), {"format": "xlsx"}, follow=True)
    assert "&#x27;xlsx&#x27; is no export format" in page.content.decode()
    assert ExportFile.objects.count() == 0


@pytest.mark.parametrize("n_exports", [1, 3])
def test_the_page_asks_as_often_for_three_exports_as_for_one(
    client: Client, small: SmallStudy, n_exports: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(n_exports):
        request_export(study=small.study, file_format="csv", user=small.researcher)
    client.force_login(small.researcher)
    with django_assert_num_queries(9):  # session, user, study, exports, unblinding; two counts each of header and tabs
        page = client.get(reverse("exports", args=["first"]))
    assert len(page.context["rows"]) == n_exports


def test_a_token_is_made_shown_once_and_revoked(client: Client, small: SmallStudy) -> None:
    client.force_login(small.researcher)
    page = client.post(reverse("tokens"), {"name": "notebook", "scopes": ["studies:read"]})
    secret = page.context["secret"]
    assert secret in page.content.decode()
    assert secret not in client.get(reverse("tokens")).content.decode()
    token = token_for(secret)
    assert token is not None
    assert (token.user, token.scopes) == (small.researcher, ["studies:read"])
    assert secret not in (token.hashed, token.prefix)
    client.post(reverse("token-revoke", args=[token.pk]))
    assert token_for(secret) is None


def test_a_token_without_scope_or_with_an_unknown_one_is_refused(client: Client, small: SmallStudy) -> None:
    client.force_login(small.researcher)
    for scopes in ([], ["everything"]):
        page = client.post(reverse("tokens"), {"name": "notebook", "scopes": scopes})
        assert "secret" not in page.context
    assert ApiToken.objects.count() == 0


def test_tokens_are_for_researchers_and_their_own(client: Client, small: SmallStudy) -> None:
    token = create_token(user=small.researcher, name="mine", scopes=["studies:read"]).token
    assert client.get(reverse("tokens")).status_code == 302
    client.force_login(small.annotators[0])
    assert client.get(reverse("tokens")).status_code == 403
    client.force_login(make_person("another", "researcher"))
    assert client.post(reverse("token-revoke", args=[token.pk])).status_code == 404
    assert client.get(reverse("token-revoke", args=[token.pk])).status_code == 405
    assert client.delete(reverse("tokens")).status_code == 405
    token.refresh_from_db()
    assert token.revoked_at is None
