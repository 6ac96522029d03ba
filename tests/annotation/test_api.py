"""The HTTP interface: tokens, scopes and roles; pages by key; blindness; exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from annotation.domain.exports import write_queued_exports
from annotation.domain.tokens import SCOPES, create_token
from annotation.domain.unblinding import unblind
from annotation.models import Annotation, ExportFile, Participation, Role, Study, User
from tests.analysis.studies import SmallStudy, make_person, make_study

pytestmark = pytest.mark.django_db

READING = {
    "/api/studies": "studies:read",
    "/api/studies/first": "studies:read",
    "/api/studies/first/progress": "studies:read",
    "/api/studies/first/items": "studies:read",
    "/api/studies/first/annotations": "annotations:read",
    "/api/studies/first/report": "annotations:read",
    "/api/studies/first/exports": "exports:read",
}


class Program:
    """A client that sends a token."""

    def __init__(self, user: User, scopes: list[str] | None = None) -> None:
        self.token = create_token(user=user, name="test", scopes=scopes or list(SCOPES))
        self.client = Client(headers={"Authorization": f"Bearer {self.token.secret}"})

    def get(self, address: str, status: int = 200, **query: Any) -> Any:
        response = self.client.get(address, query)
        assert response.status_code == status, response.content
        return response.json()


@pytest.fixture
def small(tmp_path: Path, settings: Any) -> SmallStudy:
    settings.EXPORT_ROOT = tmp_path / "exports"
    made = make_study()
    unblind(study=made.study, user=made.researcher)
    return made


@pytest.mark.parametrize("address", READING)
def test_every_endpoint_refuses_whom_it_must(small: SmallStudy, address: str) -> None:
    assert Client().get(address).status_code == 401
    assert Client(headers={"Authorization": "Bearer vt_wrong"}).get(address).status_code == 401
    Program(small.researcher, [READING[address]]).get(address)
    others = [scope for scope in SCOPES if scope != READING[address]]
    assert "lacks the scope" in Program(small.researcher, others).get(address, 403)["detail"]
    Program(small.annotators[0]).get(address, 403)
    Program(make_person("stranger")).get(address, 403 if address == "/api/studies" else 404)
    assert Client().delete(address).status_code == 405


def test_a_study_that_is_not_there(small: SmallStudy) -> None:
    program = Program(small.researcher)
    for address in READING:
        if "first" in address:
            program.get(address.replace("first", "second"), 404)


def test_a_revoked_token_and_one_of_a_person_who_left(small: SmallStudy) -> None:
    program = Program(small.researcher)
    program.get("/api/studies")
    small.researcher.is_active = False
    small.researcher.save()
    program.get("/api/studies", 401)


def test_researchers_of_one_study_see_that_study_only(small: SmallStudy) -> None:
    make_study(slug="other")
    guest = make_person("guest")
    Participation.objects.create(study=small.study, user=guest, role=Role.RESEARCHER)
    program = Program(guest)
    assert [study["slug"] for study in program.get("/api/studies")["items"]] == ["first"]
    program.get("/api/studies/other", 404)


def test_studies_are_paged_by_key(small: SmallStudy) -> None:
    make_study(slug="other")
    program = Program(small.researcher)
    first = program.get("/api/studies", limit=1)
    assert [study["slug"] for study in first["items"]] == ["first"]
    assert first["items"][0]["is_unblinded"] is True
    second = program.get("/api/studies", limit=1, after=first["next"])
    assert [study["slug"] for study in second["items"]] == ["other"]
    assert program.get("/api/studies", limit=1, after=second["next"]) == {"items": [], "next": None}
    program.get("/api/studies", 422, limit=100_000)


def test_progress_counts(small: SmallStudy) -> None:
    assert Program(small.researcher).get("/api/studies/first/progress") == {
        "state": "closed", "n_slots": 100, "n_slots_done": 54, "n_annotators": 3, "n_annotators_active": 3,
    }  # fmt: skip


def test_items_tell_what_they_are_once_the_study_is_unblinded(small: SmallStudy) -> None:
    program = Program(small.researcher)
    items = program.get("/api/studies/first/items")["items"]
    assert items[0] == {
        "item": small.items[0].pk, "stimulus": f"{0:064x}", "condition": "real", "block": 0, "dictionary": "sae first",
    }  # fmt: skip
    Study.objects.update(state=Study.State.OPEN)
    blind = program.get("/api/studies/first/items")["items"]
    assert {(item["condition"], item["block"], item["dictionary"]) for item in blind} == {(None, None, None)}
    program.get("/api/studies/first/report", 403)


def test_answers_are_paged_in_order_and_blind_while_they_must_be(small: SmallStudy) -> None:
    program = Program(small.researcher)
    keys: list[int] = []
    after = 0
    while (page := program.get("/api/studies/first/annotations", after=after, limit=20))["items"]:
        keys += [row["key"] for row in page["items"]]
        after = page["next"]
    assert keys == list(Annotation.objects.order_by("id").values_list("id", flat=True))
    [row] = program.get("/api/studies/first/annotations", limit=1)["items"]
    assert (row["condition"], row["timing"]) == ("real", {"first_key_ms": 900})
    assert row["annotator"] == small.annotators[0].annotator_code
    assert small.annotators[0].username not in json.dumps(row)
    Study.objects.update(state=Study.State.OPEN)
    [row] = program.get("/api/studies/first/annotations", limit=1)["items"]
    assert not {"condition", "block", "dictionary", "feature", "is_gold_right", "repeat_of"} & set(row)


def test_the_report_has_the_figures_of_the_page(small: SmallStudy) -> None:
    from analysis.domain.report import figures_of, report_of_study

    answer = Program(small.researcher).get("/api/studies/first/report")
    report = report_of_study(small.study, include_simulated=False)
    assert answer["tally"]["n_used"] == 54
    assert [(one["level"], one["group"], one["name"], one["value"]) for one in answer["figures"]] == [
        (level, group, name, figure.value) for level, group, name, figure in figures_of(report)
    ]


def test_an_export_is_started_awaited_and_downloaded(small: SmallStudy) -> None:
    program = Program(small.researcher)
    address = "/api/studies/first/exports"
    started = program.client.post(address, {"file_format": "jsonl"}, content_type="application/json")
    assert (started.status_code, started.json()["state"]) == (202, "queued")
    write_queued_exports()
    done = program.get(f"{address}/{started.json()['id']}")
    assert (done["state"], done["n_rows"]) == ("done", 54)
    assert [one["id"] for one in program.get(address)] == [done["id"]]
    response = program.client.get(f"{address}/{done['id']}/files/annotations.jsonl")
    content = b"".join(response.streaming_content)  # type: ignore[attr-defined]
    assert content.count(b"\n") == 54
    program.get(f"{address}/{done['id']}/files/secret", 404)
    program.get(f"{address}/0", 404)


def test_starting_an_export_needs_scope_role_and_a_format(small: SmallStudy) -> None:
    def start(client: Client, file_format: str = "csv", slug: str = "first") -> int:
        body = {"file_format": file_format}
        return client.post(f"/api/studies/{slug}/exports", body, content_type="application/json").status_code

    assert start(Client()) == 401
    assert start(Program(small.researcher, ["exports:read"]).client) == 403
    assert start(Program(small.annotators[0]).client) == 403
    assert start(Program(make_person("stranger")).client) == 404
    assert start(Program(small.researcher).client, slug="second") == 404
    assert start(Program(small.researcher).client, "xlsx") == 400
    assert ExportFile.objects.count() == 0


def test_the_interface_describes_itself(small: SmallStudy) -> None:
    described = Client().get("/api/openapi.json").json()
    assert set(READING) == {
        path.replace("{slug}", "first") for path, methods in described["paths"].items()
        if "get" in methods and "{export_id}" not in path
    }  # fmt: skip
    page = Client().get("/api/docs").content.decode()
    assert "openapi.json" in page
    assert "https://" not in page
