"""What goes wrong between a browser and the server: one clear sentence or nothing, and no answer lost or counted twice.

Each test says what the player would send, and looks at what is stored.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import close_old_connections, connection
from django.test import Client
from django.utils import timezone

from annotation.domain.crowd_settings import change_recruitment
from annotation.domain.practice import ask_anew
from annotation.domain.queue import expire_leases
from annotation.domain.retention import withdraw_answers
from annotation.domain.row_numbers import numbers_of
from annotation.models import Annotation, Item, Participation, Slot, Study, User
from tests.factories import OpenStudy, make_annotator, make_open_study
from tests.servers import TestDatabase, poll

pytestmark = pytest.mark.django_db
Reply = tuple[int, dict[str, Any]]


class Browser:
    """One tab of one annotator."""

    def __init__(self, study: Study, user: User) -> None:
        self.study, self.user = study, user
        self.client = Client(raise_request_exception=False)
        self.client.force_login(user)

    def post(self, name: str, body: dict[str, Any]) -> Reply:
        address = f"/work/{self.study.slug}/{name}"
        response = self.client.post(address, json.dumps(body), content_type="application/json")
        return response.status_code, response.json()

    def claim(self, n: int = 1, have: list[int] | None = None) -> list[dict[str, Any]]:
        status, reply = self.post("claim", {"n": n, "have": have or []})
        assert status == 200, reply
        items: list[dict[str, Any]] = reply["items"]
        return items

    def send(self, body: dict[str, Any]) -> Reply:
        return self.post("answers", body)


def answer_to(work: dict[str, Any], **changes: Any) -> dict[str, Any]:
    body = {
        "uuid": str(uuid.uuid4()), "slot": work["slot"], "item": work["item"], "revision_of": None,
        "payload": {"patch_rating": 3, "image_rating": None, "category": "", "label": "red disc"},
        "timing": {"visible_ms": 4200}, "submitted_at": timezone.now().isoformat(),
        "stimulus_id": work["stimulus"]["id"], "protocol_version": "1.0", "guideline_version": 1,
    }  # fmt: skip
    return body | changes


def counts(study: Study) -> tuple[int, int, int]:
    """Rows stored, answers the person is said to have given, judgements the study is said to have."""
    study.refresh_from_db()
    done = sum(Participation.objects.filter(study=study).values_list("n_done", flat=True))
    return Annotation.objects.count(), done, study.n_slots_done


@pytest.fixture
def here(artifact_root: Path) -> OpenStudy:
    return make_open_study(n_items=6, n_practice=2)


@pytest.fixture
def ada(here: OpenStudy) -> Browser:
    return Browser(here.study, make_annotator(here.study))


@pytest.fixture
def bob(here: OpenStudy) -> Browser:
    return Browser(here.study, make_annotator(here.study, "bob"))


def test_a_double_submit_is_one_answer(ada: Browser) -> None:
    body = answer_to(ada.claim()[0])
    assert [ada.send(body)[1]["stored"] for _ in range(2)] == ["new", "replayed"]
    assert counts(ada.study) == (1, 1, 1)


def test_a_submit_that_is_sent_again_after_a_day_is_one_answer(ada: Browser) -> None:
    body = answer_to(ada.claim()[0])
    ada.send(body)
    Annotation.objects.update(received_at=timezone.now() - timedelta(days=1))
    expire_leases(study=ada.study, now=timezone.now() + timedelta(days=1))
    status, reply = ada.send(body)
    assert (status, reply["stored"], reply["uuid"]) == (200, "replayed", body["uuid"])
    assert counts(ada.study) == (1, 1, 1)


def test_two_tabs_get_the_same_items_and_their_answers_count_once(ada: Browser) -> None:
    other_tab = Browser(ada.study, ada.user)
    first, second = (sorted(tab.claim(3), key=lambda one: int(one["slot"])) for tab in (ada, other_tab))
    assert [one["slot"] for one in second] == [one["slot"] for one in first]
    here, there = answer_to(first[0]), answer_to(second[0], payload={"patch_rating": 1, "image_rating": 1})
    assert [ada.send(here)[1]["stored"], other_tab.send(there)[1]["stored"]] == ["new", "revision"]
    assert counts(ada.study) == (2, 1, 1)
    assert Annotation.objects.get(is_current=True).patch_rating == 1


def test_an_answer_whose_lease_ran_out_offline_takes_the_slot_that_is_still_open(ada: Browser) -> None:
    body = answer_to(ada.claim()[0])
    expire_leases(study=ada.study, now=timezone.now() + timedelta(hours=2))
    status, reply = ada.send(body)
    assert (status, reply["stored"]) == (200, "new")
    assert counts(ada.study) == (1, 1, 1)


def test_an_answer_whose_slot_went_to_another_meanwhile_is_kept_and_counted_apart(ada: Browser, bob: Browser) -> None:
    work = ada.claim()[0]
    expire_leases(study=ada.study, now=timezone.now() + timedelta(hours=2))
    theirs = next(one for one in bob.claim(6) if one["item"] == work["item"])
    bob.send(answer_to(theirs))
    status, reply = ada.send(answer_to(work))
    assert (status, reply["stored"]) == (200, "late_extra")
    assert counts(ada.study) == (2, 2, 1)
    assert work["item"] not in [one["item"] for one in ada.claim(6)]


def test_an_answer_to_a_paused_study_is_taken_and_nothing_more_is_given(ada: Browser) -> None:
    work = ada.claim()[0]
    Study.objects.update(state=Study.State.PAUSED)
    assert ada.send(answer_to(work))[1]["stored"] == "new"
    status, reply = ada.post("claim", {"n": 3, "have": []})
    assert (status, reply["items"], reply["study_state"]) == (200, [], "paused")
    assert counts(ada.study) == (1, 1, 1)


def test_a_forged_item_is_refused_in_a_sentence(ada: Browser, here: OpenStudy) -> None:
    work = ada.claim()[0]
    elsewhere, numbers = make_open_study("elsewhere", n_items=2), numbers_of(here.study).items
    never_shown = Item.objects.filter(study=here.study).exclude(pk=numbers.row_id(work["item"]))[0]
    theirs = elsewhere.items[0].pk
    nobodys = "The answer names an item that is not in this study."
    not_this = "The answer was given to another stimulus than this item's; reload the page."
    for forged, sentence in [
        (numbers_of(elsewhere.study).items.number(theirs), nobodys), (numbers.number(theirs), nobodys),
        (never_shown.pk, nobodys), (10**12, nobodys), (2**60, nobodys), (numbers.number(never_shown.pk), not_this),
    ]:  # fmt: skip
        assert ada.send(answer_to(work, item=forged)) == (422, {"error": sentence})
    for broken in (-1, "7", None, 2**70, True):
        assert ada.send(answer_to(work, item=broken))[0] == 422
    assert counts(ada.study) == (0, 0, 0)
    assert ada.send(answer_to(work))[1]["stored"] == "new"


def test_a_page_of_an_old_session_gets_its_refusal_as_a_sentence(ada: Browser) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(ada.user)
    address = f"/work/{ada.study.slug}/claim"
    reply = strict.post(address, "{}", content_type="application/json")
    assert (reply.status_code, reply.json()) == (
        403, {"error": "This page was opened too long ago; reload it. Nothing is lost."},
    )  # fmt: skip
    assert b"<h1>" in strict.post(address, {}).content
    strict.cookies.clear()
    reply = strict.post(address, "{}", content_type="application/json")
    assert (reply.status_code, reply.json()) == (401, {"error": "You are signed out. Sign in again; nothing is lost."})


def test_nobody_answers_for_another(ada: Browser, bob: Browser, here: OpenStudy) -> None:
    work = ada.claim()[0]
    forged = answer_to(work) | {"annotator": ada.user.pk, "user": ada.user.username, "participation": 1}
    assert bob.send(forged)[0] == 200  # an answer is its sender's, whatever it says
    stored = Annotation.objects.get()
    assert (stored.annotator, stored.slot_id, stored.is_late_extra) == (bob.user, None, True)
    assert Slot.objects.get(pk=numbers_of(here.study).slots.row_id(work["slot"])).annotator == ada.user
    assert ada.send(answer_to(work))[1]["stored"] == "new"
    stranger = Browser(here.study, make_annotator(make_open_study("elsewhere", n_items=2).study, "eve"))
    assert stranger.send(answer_to(work))[0] == 404
    signed_out = Browser(here.study, ada.user)
    signed_out.client.logout()
    assert signed_out.send(answer_to(work)) == (401, {"error": "You are signed out. Sign in again; nothing is lost."})
    assert Annotation.objects.count() == 2


@pytest.mark.parametrize(
    ("payload", "part"),
    [
        ({"patch_rating": 9, "image_rating": 1}, "patch_rating is 9"),
        ({"patch_rating": "3", "image_rating": 1}, "patch_rating is '3'"),
        ({"image_rating": 1}, "no patch_rating"),
        ({"patch_rating": 1, "image_rating": 1, "block": 7}, "a part 'block'"),
        ({"patch_rating": 1, "image_rating": 1, "label": "x" * 5000}, "5000 characters"),
        ({"patch_rating": 1, "image_rating": 1, "label": {"a": 1}}, "label must be text"),
        ([], "needs a payload"),
    ],
)
def test_an_answer_that_fails_the_schema_names_the_part_and_the_item_stays(
    ada: Browser, payload: Any, part: str
) -> None:
    work = ada.claim()[0]
    status, reply = ada.send(answer_to(work, payload=payload))
    assert status == 422
    assert part in reply["error"]
    assert counts(ada.study) == (0, 0, 0)
    assert [one["slot"] for one in ada.claim()] == [work["slot"]]
    assert ada.send(answer_to(work))[1]["stored"] == "new"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_refused(ada: Browser, number: float) -> None:
    work = ada.claim()[0]
    assert ada.send(answer_to(work, timing={"visible_ms": number})) == (400, {"error": "The request is not JSON."})
    assert counts(ada.study) == (0, 0, 0)


def test_nobody_answers_before_consent_and_practice(ada: Browser, bob: Browser) -> None:
    work = ada.claim()[0]
    sentence = "Give your consent and finish the practice before you answer."
    for missing in ({"practised_at": None}, {"consented_at": None}):
        Participation.objects.filter(user=bob.user).update(**missing)
        assert bob.send(answer_to(work)) == (422, {"error": sentence})
    ask_anew(study=ada.study)  # a new guideline: what was under way is kept
    assert ada.send(answer_to(work))[1]["stored"] == "new"
    assert counts(ada.study) == (1, 1, 1)


def test_an_answer_that_comes_after_answers_were_taken_back_counts_in_no_figure(ada: Browser, bob: Browser) -> None:
    change_recruitment(study=ada.study, user=None, values={"may_withdraw": True})
    answered, under_way = (answer_to(one) for one in ada.claim(2))
    ada.send(answered)
    withdraw_answers(participation=Participation.objects.get(user=ada.user))
    assert ada.send(under_way)[1]["stored"] == "late_extra"
    assert list(Annotation.objects.values_list("excluded_reason", flat=True)) == ["withdrawn", "withdrawn"]
    assert under_way["item"] in [one["item"] for one in bob.claim(6)]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_an_hour_wrong_costs_nothing(ada: Browser, hours: int) -> None:
    wrong = timezone.now() + timedelta(hours=hours)
    work = ada.claim()[0]
    body = answer_to(work, submitted_at=wrong.isoformat(), timing={"shown_at": wrong.isoformat(), "visible_ms": 900})
    assert ada.send(body)[1]["stored"] == "new"
    stored = Annotation.objects.get()
    assert stored.submitted_at == wrong
    assert abs(timezone.now() - stored.received_at) < timedelta(minutes=5)
    assert counts(ada.study) == (1, 1, 1)


def test_a_clock_that_is_decades_wrong_is_told(ada: Browser) -> None:
    status, reply = ada.send(answer_to(ada.claim()[0], submitted_at="1970-01-01T00:00:00Z"))
    assert (status, "set the clock of this computer" in reply["error"]) == (422, True)
    assert counts(ada.study) == (0, 0, 0)


# ---- the server in trouble


@contextmanager
def full_disk() -> Iterator[None]:
    """The database can store no more: PostgreSQL raises what it raises then, SQLite has reached its last page."""
    if connection.vendor == "postgresql":
        raising = "BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END"
        run(f"CREATE FUNCTION no_space() RETURNS trigger AS $$ {raising} $$ LANGUAGE plpgsql")
        run("CREATE TRIGGER no_space BEFORE INSERT ON annotation_annotation EXECUTE FUNCTION no_space()")
        try:
            yield
        finally:
            run("DROP TRIGGER no_space ON annotation_annotation")
            run("DROP FUNCTION no_space()")
        return
    filling = "INSERT INTO filler SELECT zeroblob(9000000)"
    run(f"CREATE TRIGGER no_space BEFORE INSERT ON annotation_annotation BEGIN {filling}; END")
    try:
        yield
    finally:
        run("DROP TRIGGER no_space")


def run(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def filler() -> Iterator[None]:
    """SQLite: a file that may grow a little, and a table whose rows do not fit."""
    if connection.vendor == "postgresql":
        yield
        return
    run("CREATE TABLE filler (content)")
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA page_count")
        pages = cursor.fetchone()[0]
    run(f"PRAGMA max_page_count = {pages + 200}")
    yield
    run("PRAGMA max_page_count = 1073741823")
    run("DROP TABLE filler")


@pytest.mark.django_db(transaction=True)
def test_a_full_disk_is_told_and_nothing_is_half_stored(ada: Browser, filler: None) -> None:
    body = answer_to(ada.claim()[0])
    with full_disk():
        status, reply = ada.send(body)
        assert (status, reply) == (
            507,
            {"error": "The server's disk is full. Your answers are kept here and sent again; tell the researchers."},
        )
        assert counts(ada.study) == (0, 0, 0)
        slot = numbers_of(ada.study).slots.row_id(body["slot"])
        assert Slot.objects.get(pk=slot).state == Slot.State.LEASED
    assert ada.send(body)[1]["stored"] == "new"
    assert counts(ada.study) == (1, 1, 1)


@pytest.mark.django_db(transaction=True)
def test_while_the_database_is_dead_a_sentence_is_told_and_afterwards_the_answer_counts_once(
    ada: Browser, database_server: TestDatabase
) -> None:
    if database_server.cluster is None:
        return  # a SQLite file cannot be away

    def send(body: dict[str, Any], name: str = "answers") -> Reply:
        close_old_connections()  # as the server does before each request, and the test client does not
        return ada.post(name, body)

    answered, waiting = (answer_to(one) for one in ada.claim(2))
    assert send(answered)[0] == 200
    database_server.cluster.stop()
    try:
        replies = [send(answered), send(waiting), send({"n": 1, "have": []}, "claim")]
        sentence = "The server's database does not answer. Your answers are kept here and sent again."
        assert replies == [(503, {"error": sentence})] * 3
    finally:
        database_server.cluster.start()
    poll(lambda: send(waiting)[0] == 200, "the database's return", seconds=20)
    assert [send(body)[1]["stored"] for body in (answered, waiting)] == ["replayed", "replayed"]
    assert counts(ada.study) == (2, 2, 2)
