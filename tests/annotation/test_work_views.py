"""The way from a link to the first item, and the player's endpoints: what they answer, and to whom."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotation.domain.keyboards import clashes
from annotation.domain.player_keys import RESERVED_KEYS, category_bindings, fixed_bindings
from annotation.domain.protocols import PROTOCOLS
from annotation.domain.row_numbers import numbers_of
from annotation.domain.studies import DEFAULT_CATEGORIES
from annotation.domain.work_sessions import remember
from annotation.models import (
    Annotation,
    ImageReport,
    Participation,
    PracticeAnswer,
    Remark,
    Role,
    Slot,
    Study,
    Term,
    User,
)
from annotation.templatetags.prose import prose
from tests.annotation.signing_in import signed_in
from tests.factories import CATEGORIES, OpenStudy, make_annotator, make_open_study, make_person

pytestmark = pytest.mark.django_db
ENDPOINTS = ("claim", "answers", "remarks", "reports", "heartbeat", "release", "practice/answers")
PASSWORD = "a long password"
RATE = PROTOCOLS["rate-describe-categorise"]
PAGES = ("", "consent/", "guideline/", "practice/")


@pytest.fixture
def here(artifact_root: Path) -> OpenStudy:
    return make_open_study(n_items=7, n_practice=2, session_length=60)


@pytest.fixture
def ada(here: OpenStudy) -> User:
    return make_annotator(here.study)


def post(client: Client, address: str, body: Any) -> tuple[int, dict[str, Any]]:
    response = client.post(address, json.dumps(body), content_type="application/json")
    return response.status_code, response.json()


def answer_to(work: dict[str, Any], **changes: Any) -> dict[str, Any]:
    body = {
        "uuid": str(uuid.uuid4()), "slot": work["slot"], "item": work["item"], "revision_of": None,
        "payload": {"patch_rating": 3, "image_rating": None, "category": "colour", "label": "red disc"},
        "timing": {"visible_ms": 4200}, "submitted_at": "2026-11-21T10:00:00Z",
        "stimulus_id": work["stimulus"]["id"], "protocol_version": "1.0", "guideline_version": 1,
    }  # fmt: skip
    return body | changes


# ---- keys


def test_no_two_bindings_want_the_same_key() -> None:
    for categories in (CATEGORIES, DEFAULT_CATEGORIES):
        assert clashes([*fixed_bindings(RATE), *category_bindings(categories)]) == []
    assert clashes([*fixed_bindings(RATE), *category_bindings([("skies", "s")])]) == ["s"]


def test_the_reserved_keys_are_those_the_player_uses_itself() -> None:
    assert "".join(sorted(RESERVED_KEYS)) == "/01234?acdefiqrstwz"


# ---- joining


def test_a_stranger_joins_by_the_link_and_is_led_step_by_step(here: OpenStudy, client: Client) -> None:
    link = f"/join/{here.study.join_token}/"
    assert b"about 2 minutes" in client.get(link).content
    response = client.post(link, {"name": "eve", "password": ""})
    work = f"/work/{here.study.slug}/"
    assert response["Location"] == f"{work}consent/"
    eve = User.objects.get(username="eve")
    assert (eve.role, eve.has_usable_password()) == (Role.ANNOTATOR, False)
    assert client.get(work)["Location"] == f"{work}consent/"
    assert client.post(f"{work}consent/", {}).status_code == 200
    assert client.post(f"{work}consent/", {"agree": "yes"})["Location"] == work
    assert client.get(work)["Location"] == f"{work}guideline/"
    assert b"<strong>patches</strong>" in client.get(f"{work}guideline/").content
    assert client.post(f"{work}guideline/")["Location"] == work
    assert client.get(work)["Location"] == f"{work}practice/"
    place = Participation.objects.get(user=eve)
    assert (place.consent_version, place.guideline_version) == ("1.0", 1)


def test_without_a_name_a_code_is_the_name(here: OpenStudy, client: Client) -> None:
    client.post(f"/join/{here.study.join_token}/", {"name": "", "password": ""})
    user = Participation.objects.get(study=here.study).user
    assert user.username == user.annotator_code.lower()


def test_a_password_lets_one_come_back(here: OpenStudy, client: Client) -> None:
    client.post(f"/join/{here.study.join_token}/", {"name": "eve", "password": PASSWORD})
    assert User.objects.get(username="eve").check_password(PASSWORD)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "ADA", "password": ""}, "This name is taken."),
        ({"name": "", "password": PASSWORD}, "Choose a name to sign in with"),
        ({"name": "two words", "password": ""}, "Use letters, digits"),
        ({"name": "eve", "password": "short"}, "at least 8 characters"),
    ],
)
def test_joining_refuses_with_a_sentence(
    here: OpenStudy, ada: User, client: Client, fields: dict[str, str], sentence: str
) -> None:
    n_users = User.objects.count()
    assert sentence in client.post(f"/join/{here.study.join_token}/", fields).content.decode()
    assert User.objects.count() == n_users


def test_a_session_is_looked_at_in_every_request(here: OpenStudy, ada: User) -> None:
    client, address = signed_in(ada), f"/work/{here.study.slug}/heartbeat"
    other = signed_in(ada)
    for one in (client, other, client, other):
        assert post(one, address, {"slots": []})[0] == 200
    with CaptureQueriesContext(connection) as queries:
        assert post(client, address, {"slots": []})[0] == 200
    assert len(queries) == 1
    Session.objects.filter(session_key=client.cookies["sessionid"].value).delete()  # signed out in another process
    assert post(client, address, {"slots": []})[0] == 401
    Session.objects.update(expire_date=timezone.now())
    assert post(other, address, {"slots": []})[0] == 401


@pytest.mark.parametrize("change", [{"is_active": False}, {"password": "changed"}])
def test_a_changed_account_is_signed_out_at_once(here: OpenStudy, ada: User, change: dict[str, Any]) -> None:
    client, address = signed_in(ada), f"/work/{here.study.slug}/heartbeat"
    for _ in range(2):
        assert post(client, address, {"slots": []})[0] == 200
    User.objects.filter(pk=ada.pk).update(**change)
    assert post(client, address, {"slots": []})[0] == 401


def test_a_remembered_session_of_somebody_else_does_not_count(here: OpenStudy, ada: User) -> None:
    bob = make_annotator(here.study, "bob")
    client = signed_in(ada)
    remember(client.cookies["sessionid"].value, bob)
    status, reply = post(client, f"/work/{here.study.slug}/claim", {"n": 1, "have": []})
    assert status == 200
    slot = numbers_of(here.study).slots.row_id(reply["items"][0]["slot"])
    assert Slot.objects.get(pk=slot).annotator_id == ada.pk


def test_somebody_signed_in_joins_as_themselves_once(here: OpenStudy) -> None:
    bob = make_person("bob")
    client = signed_in(bob)
    for _ in range(2):
        client.post(f"/join/{here.study.join_token}/")
    assert Participation.objects.filter(user=bob, study=here.study).count() == 1


@pytest.mark.parametrize(("state", "words"), [("draft", "has not opened yet"), ("closed", "is closed")])
def test_a_study_that_is_not_open_cannot_be_joined(here: OpenStudy, client: Client, state: str, words: str) -> None:
    Study.objects.update(state=state)
    link = f"/join/{here.study.join_token}/"
    assert words in client.get(link).content.decode()
    client.post(link, {"name": "eve"})
    assert not User.objects.filter(username="eve").exists()


def test_a_wrong_link_is_404_and_a_wrong_method_405(here: OpenStudy, client: Client) -> None:
    assert client.get("/join/nothing/").status_code == 404
    assert client.put(f"/join/{here.study.join_token}/").status_code == 405


# ---- pages


def test_pages_of_the_work_are_for_the_annotators_of_the_study(here: OpenStudy, ada: User) -> None:
    reviewer = make_person("rosa")
    Participation.objects.create(study=here.study, user=reviewer, role=Role.REVIEWER)
    stranger = signed_in(make_person("stranger"))
    for page in PAGES:
        address = f"/work/{here.study.slug}/{page}"
        assert Client().get(address)["Location"].startswith("/login/")
        assert stranger.get(address).status_code == 404
        assert signed_in(reviewer).get(address).status_code == 403
        assert signed_in(here.researcher).get(address).status_code == 403
        assert signed_in(here.researcher).get(f"/work/nowhere/{page}").status_code == 404
        assert signed_in(ada).delete(address).status_code == 405


def test_the_player_is_told_its_study(here: OpenStudy, ada: User) -> None:
    Participation.objects.filter(user=ada).update(n_done=5)
    page = signed_in(ada).get(f"/work/{here.study.slug}/")
    config = page.context["config"]
    assert (config["mode"], config["done"], config["session_length"]) == ("work", 5, 7)
    assert [row["value"] for row in config["keys"] if row["question"] == "category"] == [name for name, _ in CATEGORIES]
    assert "condition" not in page.content.decode()


def test_my_studies_lead_to_the_next_step(here: OpenStudy, ada: User) -> None:
    page = signed_in(ada).get("/studies/").content.decode()
    assert f'href="/work/{here.study.slug}/">Begin' in page
    assert "New study" not in page


# ---- endpoints


def test_endpoints_are_for_the_annotators_of_the_study(here: OpenStudy, ada: User) -> None:
    reviewer = make_person("rosa")
    Participation.objects.create(study=here.study, user=reviewer, role=Role.REVIEWER)
    stranger, annotator = signed_in(make_person("stranger")), signed_in(ada)
    for name in ENDPOINTS:
        address = f"/work/{here.study.slug}/{name}"
        signed_out = post(Client(), address, {})
        assert signed_out == (401, {"error": "You are signed out. Sign in again; nothing is lost."})
        assert post(stranger, address, {})[0] == 404
        assert post(signed_in(reviewer), address, {})[0] == 403
        assert post(signed_in(here.researcher), address, {})[0] == 403
        assert post(signed_in(here.researcher), f"/work/nowhere/{name}", {})[0] == 404
        assert annotator.get(address).status_code == 405
        assert annotator.post(address, "not json", content_type="application/json").status_code == 400
        assert post(annotator, address, ["a list"])[0] == 400
        assert annotator.post(address, "[" * 90_000, content_type="application/json").status_code == 400
        for text in ("nul \x00", "half a pair \ud800"):
            assert post(annotator, address, {"text": text})[0] == 400


def test_a_claim_brings_items_with_their_pictures_and_nothing_secret(here: OpenStudy, ada: User) -> None:
    client = signed_in(ada)
    status, reply = post(client, f"/work/{here.study.slug}/claim", {"n": 5, "have": []})
    assert status == 200
    assert (len(reply["items"]), reply["done"], reply["of"], reply["study_state"]) == (5, 0, 7, "open")
    work = reply["items"][0]
    assert set(work) == {"slot", "item", "stimulus", "previous"}
    assert set(work["stimulus"]) == {"id", "sprite", "zoom", "grid", "panels", "text"}
    patches, images = work["stimulus"]["panels"]
    assert (patches["name"], patches["kind"], images["name"], images["kind"]) == ("patches",) * 2 + ("images",) * 2
    assert set(images["cells"][0]) == {"x", "y", "w", "h", "zoom", "value", "map"}
    assert set(patches["cells"][0]) == {"x", "y", "w", "h", "box"}
    picture = client.get(work["stimulus"]["sprite"])
    assert picture.getvalue()[8:12] == b"WEBP"
    assert picture["Cache-Control"] == "private, max-age=31536000, immutable"
    held = [item["slot"] for item in reply["items"]]
    _, second = post(client, f"/work/{here.study.slug}/claim", {"n": 5, "have": held})
    assert len({item["slot"] for item in second["items"]} | set(held)) == 7
    _, lost = post(client, f"/work/{here.study.slug}/claim", {"n": 5, "have": held[1:]})
    assert held[0] in [item["slot"] for item in lost["items"]]


def test_items_come_in_the_order_of_their_numbers_whatever_they_are(here: OpenStudy, ada: User) -> None:
    """Claimed twice, the same items come in the same order, with a check among them as without."""
    client, numbers = signed_in(ada), numbers_of(here.study)
    orders = []
    for _ in range(6):
        items = post(client, f"/work/{here.study.slug}/claim", {"n": 7, "have": []})[1]["items"]
        orders.append([item["slot"] for item in items])
        Slot.objects.filter(pk=numbers.slots.row_id(orders[0][0])).update(lane=-1)  # from now on a check
    assert orders == [sorted(orders[0])] * 6
    assert len(set(orders[0])) == 7


def test_the_progress_of_a_study_is_told_in_tenths(here: OpenStudy, ada: User) -> None:
    """By a count one would see which of one's own answers is not a judgement wanted."""
    client, pages = signed_in(ada), []
    for n_done in (30, 39, 40):
        Study.objects.update(n_slots=100, n_slots_done=n_done)
        pages.append(client.get("/studies/").content.decode())
    assert ["The whole study: some 30 %" in page for page in pages] == [True, True, False]
    assert ["width:30%" in page for page in pages] == [True, True, False]
    assert not [page for page in pages if "39" in page]


def test_a_claim_that_makes_no_sense_is_400(here: OpenStudy, ada: User) -> None:
    client = signed_in(ada)
    wrong: list[dict[str, Any]] = [{"n": 0}, {"n": 99}, {"n": "5"}, {"n": True}]
    wrong += [{"have": 3}, {"have": ["a"]}, {"have": [-1]}]
    for body in wrong:
        assert post(client, f"/work/{here.study.slug}/claim", body)[0] == 400
    assert Slot.objects.filter(state="leased").count() == 0


def test_a_claim_before_practice_is_409_and_in_a_pause_empty(here: OpenStudy, ada: User) -> None:
    newcomer = signed_in(make_annotator(here.study, "newcomer", is_ready=False))
    status, reply = post(newcomer, f"/work/{here.study.slug}/claim", {})
    assert (status, reply["error"]) == (409, "Finish the practice of 'Study of discs' before you begin.")
    Study.objects.update(state=Study.State.PAUSED)
    reply = post(signed_in(ada), f"/work/{here.study.slug}/claim", {})[1]
    assert (reply["items"], reply["study_state"]) == ([], "paused")


def test_an_answer_is_stored_once_and_counted(here: OpenStudy, ada: User) -> None:
    client = signed_in(ada)
    work = post(client, f"/work/{here.study.slug}/claim", {"n": 1})[1]["items"][0]
    body = answer_to(work)
    address = f"/work/{here.study.slug}/answers"
    assert post(client, address, body) == (200, {"uuid": body["uuid"], "stored": "new", "done": 1, "of": 7})
    assert post(client, address, body)[1]["stored"] == "replayed"
    revised = answer_to(work, revision_of=body["uuid"], payload=body["payload"] | {"patch_rating": 4})
    assert post(client, address, revised)[1] == {"uuid": revised["uuid"], "stored": "revision", "done": 1, "of": 7}
    assert Annotation.objects.get(is_current=True).patch_rating == 4
    assert Annotation.objects.count() == 2


WRONG_ANSWERS: list[dict[str, Any]] = [
    {"uuid": "x"}, {"item": 10**12}, {"item": "1"}, {"payload": 3}, {"payload": {"patch_rating": 3}},
    {"payload": {"patch_rating": 5, "image_rating": 1}}, {"submitted_at": "yesterday"}, {"stimulus_id": "other"},
    {"payload": {"patch_rating": 3, "image_rating": 1, "category": "no such"}}, {"timing": [1]},
]  # fmt: skip


def test_an_answer_that_cannot_be_is_422_with_a_sentence(here: OpenStudy, ada: User) -> None:
    client = signed_in(ada)
    work = post(client, f"/work/{here.study.slug}/claim", {"n": 1})[1]["items"][0]
    for changes in WRONG_ANSWERS:
        status, reply = post(client, f"/work/{here.study.slug}/answers", answer_to(work, **changes))
        assert (status, reply["error"][-1]) == (422, ".")
    assert Annotation.objects.count() == 0


def test_remarks_reports_heartbeat_and_release(here: OpenStudy, ada: User) -> None:
    client = signed_in(ada)
    base = f"/work/{here.study.slug}"
    first, second = post(client, f"{base}/claim", {"n": 2})[1]["items"]
    flag = {"uuid": str(uuid.uuid4()), "item": first["item"], "slot": first["slot"], "kind": "flag", "text": ""}
    assert [post(client, f"{base}/remarks", flag)[0] for _ in range(2)] == [200, 200]
    assert Remark.objects.count() == 1
    assert post(client, f"{base}/remarks", flag | {"uuid": str(uuid.uuid4()), "kind": "shout"})[0] == 422
    report = {"uuid": str(uuid.uuid4()), "item": first["item"], "panel": "images", "cell": 2, "reason": "Broken"}
    assert post(client, f"{base}/reports", report)[0] == 200
    assert ImageReport.objects.get().image.index == 2
    assert post(client, f"{base}/reports", report | {"uuid": str(uuid.uuid4()), "cell": 99})[0] == 404
    slots = [first["slot"], second["slot"]]
    assert post(client, f"{base}/heartbeat", {"slots": slots})[1]["held"] == 2
    assert post(client, f"{base}/release", {"slots": slots})[1] == {"released": 2}
    assert Slot.objects.filter(state="open").count() == 7


def test_the_last_answers_can_be_gone_back_to(here: OpenStudy, ada: User) -> None:
    client, base = signed_in(ada), f"/work/{here.study.slug}"
    given = [answer_to(work) for work in post(client, f"{base}/claim", {"n": 2})[1]["items"]]
    for body in given:
        post(client, f"{base}/answers", body)
    revised = answer_to(
        {"slot": None, "item": given[0]["item"], "stimulus": {"id": given[0]["stimulus_id"]}},
        payload=given[0]["payload"] | {"label": "ring"}, revision_of=given[0]["uuid"],
    )  # fmt: skip
    post(client, f"{base}/answers", revised)
    answers = client.get(f"{base}/history").json()["answers"]
    assert [answer["uuid"] for answer in answers] == [given[1]["uuid"], revised["uuid"]]
    assert answers[1]["payload"]["label"] == "ring"
    assert set(answers[0]) == {"slot", "item", "stimulus", "uuid", "payload"}
    assert Client().get(f"{base}/history").status_code == 401
    assert signed_in(make_annotator(here.study, "bob")).get(f"{base}/history").json() == {"answers": []}
    assert client.post(f"{base}/history").status_code == 405


def test_terms_that_begin_with_the_words_come_first(here: OpenStudy, ada: User) -> None:
    for text, n_uses in (("red disc", 1), ("disc", 5), ("discs of one color", 2), ("square", 9)):
        Term.objects.create(study=here.study, text=text, n_uses=n_uses)
    address = f"/work/{here.study.slug}/terms"
    found = signed_in(ada).get(address, {"q": "DISC"}).json()["terms"]
    assert [term["text"] for term in found] == ["disc", "discs of one color", "red disc"]
    assert signed_in(ada).get(address).json() == {
        "terms": [], "near": [], "is_known": False, "may_create": False, "mode": "open",
    }  # fmt: skip
    assert Client().get(address).status_code == 401
    assert signed_in(ada).post(address).status_code == 405


def test_practice_tells_what_was_right_and_why(here: OpenStudy) -> None:
    client = signed_in(make_annotator(here.study, "newcomer", is_ready=False))
    client.post(f"/work/{here.study.slug}/consent/", {"agree": "yes"})
    client.post(f"/work/{here.study.slug}/guideline/")
    page = client.get(f"/work/{here.study.slug}/practice/")
    shown = [work["item"] for work in page.context["config"]["items"]]
    assert [numbers_of(here.study).practice.row_id(number) for number in shown] == [item.pk for item in here.practice]
    payload = {"patch_rating": 4, "image_rating": None, "category": "shape", "label": ""}
    body = {"reference": shown[0], "payload": payload}
    status, reply = post(client, f"/work/{here.study.slug}/practice/answers", body)
    assert status == 200
    assert reply == {
        "is_right": False,
        "reason": "All of them are discs of one color.",
        "questions": [
            {"name": "patch_rating", "given": 4, "accepted": [3, 4], "is_right": True},
            {"name": "category", "given": "shape", "accepted": ["colour"], "is_right": False},
        ],
        "outcome": "continue",
        "round": 1,
        "n_rounds": 3,
        "n_answered": 1,
        "n_items": 2,
        "sentence": "",
    }
    assert len(client.get(f"/work/{here.study.slug}/practice/").context["config"]["items"]) == 1
    for forged in (0, here.practice[0].pk, 2**60):
        body = {"reference": forged, "payload": payload}
        assert post(client, f"/work/{here.study.slug}/practice/answers", body)[0] == 400
    assert PracticeAnswer.objects.count() == 1


def test_pictures_are_for_the_people_of_the_study(here: OpenStudy, ada: User) -> None:
    stimulus_id = here.items[0].stimulus_id
    address = f"/stimuli/{here.study.stimuli_digest}/{stimulus_id}.webp"
    assert Client().get(address).status_code == 401
    assert signed_in(make_person("stranger")).get(address).status_code == 404
    zoom = signed_in(here.researcher).get(address.replace(".webp", ".zoom.webp")).getvalue()
    assert len(signed_in(ada).get(address).getvalue()) < len(zoom)
    for wrong in ("nothing.webp", f"{stimulus_id}.json", f"{stimulus_id}.png"):
        assert signed_in(ada).get(f"/stimuli/{here.study.stimuli_digest}/{wrong}").status_code == 404
    assert signed_in(ada).post(address).status_code == 405


# ---- Markdown


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("# One\nTwo *three*", "<h2>One</h2>\n<p>Two <em>three</em></p>"),
        ("- a\n- b\n  c\n\n1. d", "<ul><li>a</li><li>b c</li></ul>\n<ol><li>d</li></ol>"),
        ("> so\n> on", "<blockquote><p>so on</p></blockquote>"),
        ("**b** `a*b*` 2*3*4", "<p><strong>b</strong> <code>a*b*</code> 2*3*4</p>"),
        ("[x](https://a.b/c?d=1&e)", '<p><a href="https://a.b/c?d=1&amp;e">x</a></p>'),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
        ("<script>x</script>", "<p>&lt;script&gt;x&lt;/script&gt;</p>"),
        ('[x](/a" onclick="y)', "<p>[x](/a&quot; onclick=&quot;y)</p>"),
    ],
)
def test_prose_knows_a_little_markdown_and_escapes_the_rest(text: str, html: str) -> None:
    assert prose(text) == html
