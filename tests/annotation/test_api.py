"""The HTTP interface: tokens, scopes and roles; pages by key; blindness; exports."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from annotation.domain.errands import work_off_errands
from annotation.domain.exports import write_queued_exports
from annotation.domain.tokens import SCOPES, TokenError, create_token
from annotation.domain.unblinding import unblind
from annotation.domain.webhook_delivery import deliver_due
from annotation.models import Annotation, ApiToken, ExportFile, Participation, Role, Study, User
from tests.analysis.studies import SmallStudy, make_person, make_study
from tests.annotation.domain.webhook_receiver import receiving

pytestmark = pytest.mark.django_db

READING = {
    "/api/studies": "studies:read",
    "/api/studies/first": "studies:read",
    "/api/studies/first/progress": "studies:read",
    "/api/studies/first/items": "items:read",
    "/api/studies/first/people": "annotations:read",
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
        "hookpoint": "blocks.0", "latent": 0, "pole": 1, "variant": "", "text": "", "truth": {},
    }  # fmt: skip
    Study.objects.update(state=Study.State.OPEN)
    blind = program.get("/api/studies/first/items")["items"]
    assert {value for item in blind for name, value in item.items() if name not in ("item", "stimulus")} == {None}
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
        if "get" in methods and path.count("{") <= 1 and "errand" not in path and "webhook" not in path
    }  # fmt: skip
    page = Client().get("/api/docs").content.decode()
    assert "openapi.json" in page
    assert "https://" not in page


def test_what_is_refused_is_one_sentence(small: SmallStudy) -> None:
    program = Program(small.researcher)
    refused = [
        Client().get("/api/studies"),
        program.client.get("/api/studies", {"limit": 0}),
        program.client.get("/api/studies/first/annotations", {"since": "yesterday"}),
        program.client.get("/api/nothing/here"),
        program.client.post("/api/studies", {"name": "x"}, content_type="application/json"),
        program.client.post("/api/studies", "{", content_type="application/json"),
        program.client.post("/api/studies/first/pause"),
    ]
    assert [response.status_code for response in refused] == [401, 422, 422, 404, 422, 400, 409]
    for response in refused:
        sentence = response.json()["detail"]
        assert isinstance(sentence, str)
        assert 10 < len(sentence) < 300
    assert refused[1].json()["detail"].startswith("'page.limit'") or "'limit'" in refused[1].json()["detail"]


def test_a_token_expires(small: SmallStudy) -> None:
    made = create_token(user=small.researcher, name="short", scopes=["studies:read"], days="30")
    client = Client(headers={"Authorization": f"Bearer {made.secret}"})
    assert client.get("/api/studies").status_code == 200
    ApiToken.objects.filter(pk=made.token.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.get("/api/studies").status_code == 401
    with pytest.raises(TokenError, match="A token lives 30 days"):
        create_token(user=small.researcher, name="odd", scopes=["studies:read"], days="31")


def test_answers_since_a_cursor(small: SmallStudy) -> None:
    program = Program(small.researcher)
    keys = list(Annotation.objects.order_by("id").values_list("id", flat=True))
    page = program.get("/api/studies/first/annotations", since=keys[50])
    assert [row["key"] for row in page["items"]] == keys[51:]
    assert program.get("/api/studies/first/annotations", since=keys[-1]) == {"items": [], "next": None}


def test_people_are_codes(small: SmallStudy) -> None:
    page = Program(small.researcher).get("/api/studies/first/people")
    assert [one["annotator"] for one in page["items"]] == [one.annotator_code for one in small.annotators]
    assert not [one.username for one in [*small.annotators, small.researcher] if one.username in json.dumps(page)]


def test_a_study_is_made_from_the_values_of_a_study_file(small: SmallStudy, tmp_path: Path) -> None:
    program = Program(small.researcher)

    def make(**values: Any) -> Any:
        return program.client.post("/api/studies", {"values": values}, content_type="application/json")

    made = make(name="Second look", settings={"overlap": 2}, guideline="Look first.")
    assert (made.status_code, made.json()["slug"], made.json()["state"]) == (201, "second-look", "draft")
    (tmp_path / "secret.md").write_text("secret")
    told = make(name="Third look", guideline=str(tmp_path / "secret.md"))
    study = Study.objects.get(slug=told.json()["slug"])
    assert study.guidelines.get().text == str(tmp_path / "secret.md")  # a text, never a file of this machine
    wrong = make(name="Fourth", settings={"colour": 1})
    assert (wrong.status_code, "unknown entry 'colour'" in wrong.json()["detail"]) == (400, True)
    assert Study.objects.filter(name="Fourth").count() == 0
    launched = program.client.post("/api/studies/second-look/launch")
    assert (launched.status_code, "practice items" in launched.json()["detail"]) == (409, True)


def test_a_study_is_paused_resumed_and_closed_by_its_own_only(small: SmallStudy) -> None:
    Study.objects.update(state=Study.State.OPEN, created_by=None)
    stranger = Program(make_person("other", Role.RESEARCHER))
    assert stranger.client.post("/api/studies/first/pause").status_code == 403
    Study.objects.update(created_by=small.researcher)
    program = Program(small.researcher)
    states = [program.client.post(f"/api/studies/first/{act}").json() for act in ("pause", "resume", "close", "resume")]
    assert [state.get("state") for state in states] == ["paused", "open", "closed", None]
    assert "is closed" in states[-1]["detail"]
    reading = Program(small.researcher, ["studies:read"])
    assert reading.client.post("/api/studies/first/pause").status_code == 403


def test_an_export_from_a_cursor(small: SmallStudy) -> None:
    program = Program(small.researcher)
    keys = list(Annotation.objects.order_by("id").values_list("id", flat=True))
    body = {"file_format": "csv", "after": keys[49]}
    program.client.post("/api/studies/first/exports", body, content_type="application/json")
    write_queued_exports()
    [done] = program.get("/api/studies/first/exports")
    assert (done["n_rows"], done["after"], done["last"]) == (4, keys[49], keys[-1])


def test_webhooks_of_a_study(small: SmallStudy, settings: Any) -> None:
    settings.WEBHOOKS_INSIDE = True
    Study.objects.update(created_by=small.researcher)
    program, address = Program(small.researcher), "/api/studies/first/webhooks"
    with receiving() as receiver:
        body = {"url": receiver.url, "events": ["study.paused"]}
        made = program.client.post(address, body, content_type="application/json")
        assert (made.status_code, made.json()["secret"][:4]) == (201, "vws_")
        hook = f"{address}/{made.json()['id']}"
        assert "secret" not in program.get(address)[0]
        assert program.client.post(f"{hook}/ping").json()["state"] == "pending"
        deliver_due()
        [delivery] = program.get(f"{hook}/deliveries")["items"]
        assert (delivery["state"], delivery["attempts"][0]["status"]) == ("delivered", 200)
        again = program.client.post(f"{hook}/deliveries/{delivery['id']}/redeliver").json()
        assert again["body"] == delivery["body"]
        deliver_due()
        assert len(receiver.received) == 2
    changed = program.client.patch(
        hook, {"is_active": False, "events": ["export.done"]}, content_type="application/json"
    )
    assert (changed.json()["is_active"], changed.json()["events"]) == (False, ["export.done"])
    wrong = program.client.patch(hook, {"events": ["x"]}, content_type="application/json")
    assert (wrong.status_code, "is no event" in wrong.json()["detail"]) == (400, True)
    assert Program(small.researcher, ["studies:read"]).client.get(address).status_code == 403
    assert program.client.get(f"{address}/0/deliveries").status_code == 404
    assert program.client.post(f"{hook}/deliveries/0/redeliver").status_code == 404
    assert program.client.delete(hook).status_code == 204
    assert program.get(address) == []


def test_answers_are_imported_by_a_program(small: SmallStudy) -> None:
    program = Program(small.researcher)
    table = "rater,item,query,confidence\nann,1,0,3\nbob,1,1,1\nann,2,0,2\n"
    form = {
        "name": "Before", "protocol": "two-alternative", "mapping": json.dumps({"annotator": "rater"}),
        "dry_run": "true", "file": SimpleUploadedFile("before.csv", table.encode()),
    }  # fmt: skip
    asked = program.client.post("/api/imports/answers", form)
    assert (asked.status_code, asked.json()["state"]) == (202, "queued")
    work_off_errands()
    errand = f"/api/errands/{asked.json()['id']}"
    checked = program.get(errand)
    assert (checked["state"], checked["report"]["n_new"], checked["report"]["n_annotators"]) == ("checked", 3, 2)
    assert program.client.post(f"{errand}/confirm").status_code == 202
    work_off_errands()
    done = program.get(errand)
    assert (done["state"], done["study"]) == ("done", "before")
    assert program.client.post(f"{errand}/confirm").status_code == 409
    assert program.get("/api/studies/before")["origin"] == "import"
    Program(make_person("other", Role.RESEARCHER)).get(errand, 404)
    form = {"mapping": "[1]", "file": SimpleUploadedFile("before.csv", b"x")}
    assert "must be like" in program.client.post("/api/imports/answers", form).json()["detail"]
