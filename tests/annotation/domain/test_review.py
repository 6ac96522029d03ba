"""Review: the queue of disagreements, lettered answers, verdicts, threads; and what is never told."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from django.test import Client

from annotation.domain.adjudication import (
    Judgement,
    adjudication_queue,
    settle_item,
    settled_items,
)
from annotation.domain.answer_message import AnswerError
from annotation.domain.answers import submit_answer
from annotation.domain.labels import first_labels, labels_of
from annotation.domain.queue import claim_slots
from annotation.domain.remarks import RemarkText, add_remark
from annotation.domain.review import answer_cards, disputes
from annotation.domain.threads import mark_seen, notices, reopen, reply_to, resolve, unresolved_counts, unresolved_for
from annotation.domain.unblinding import unblind
from annotation.models import Annotation, Item, Participation, Remark, Role, Study, User, Verdict
from tests.annotation.small_study import SmallStudy, make_answer, make_person, make_study

pytestmark = pytest.mark.django_db
ALIKE = {"patch_rating": 3, "image_rating": 3, "category": "shape", "label": "dots"}
CLEAR = ALIKE | {"image_rating": 4}
NONE = {"patch_rating": 1, "image_rating": 1, "category": "", "label": ""}
VERDICT = {"patch_rating": 2, "image_rating": 3, "category": "color", "label": "blue", "rationale": "Look at the sky."}


@pytest.fixture
def small() -> SmallStudy:
    small = make_study(n_items=4, overlap=3, n_people=3)
    Item.objects.filter(study=small.study).exclude(pk=small.items[3].pk).update(is_core=True)
    answer(small, small.items[0], [ALIKE, ALIKE, ALIKE])
    answer(small, small.items[1], [ALIKE, CLEAR, ALIKE])
    answer(small, small.items[2], [CLEAR, NONE, CLEAR])
    answer(small, small.items[3], [CLEAR, NONE])
    return small


def answer(small: SmallStudy, item: Item, payloads: list[dict[str, Any]]) -> None:
    for person, payload in zip(small.people, payloads, strict=False):
        slots = claim_slots(study=small.study, annotator=person, n=4, have=[])
        slot = next(slot for slot in slots if slot.item_id == item.pk)
        submit_answer(annotator=person, study=small.study, answer=make_answer(item, slot, payload=payload))


@pytest.fixture
def rosa(small: SmallStudy) -> User:
    rosa = make_person("rosa", Role.REVIEWER)
    Participation.objects.create(study=small.study, user=rosa, role=Role.REVIEWER)
    return rosa


def settle(small: SmallStudy, judge: User, item: Item, **values: Any) -> Verdict:
    judgement = Judgement(
        values.get("uuid", uuid.uuid4()), item.pk, values.get("payload", VERDICT), values.get("visible_ms", 5000)
    )
    return settle_item(study=small.study, judge=judge, judgement=judgement).verdict


def test_the_largest_disagreement_of_the_core_comes_first(small: SmallStudy) -> None:
    rows = disputes(small.study)
    assert [row.item_id for row in rows] == [small.items[2].pk, small.items[1].pk]
    assert [row.item_id for row in disputes(small.study, shown="all")][-1] == small.items[0].pk
    assert rows[0].n_answers == 3


def test_excluded_and_late_answers_do_not_disagree(small: SmallStudy) -> None:
    odd = Annotation.objects.filter(item=small.items[2], patch_rating=1)
    odd.update(excluded_reason="too quick")
    assert [row.item_id for row in disputes(small.study)] == [small.items[1].pk]
    assert len(answer_cards(small.study, small.items[2])) == 2


def test_answers_are_lettered_within_their_item_and_name_nobody(small: SmallStudy) -> None:
    cards = [answer_cards(small.study, item) for item in small.items[:3]]
    assert [[card.letter for card in row] for row in cards] == [["A", "B", "C"]] * 3
    assert cards[2] == answer_cards(small.study, small.items[2])
    assert cards[0][0].differs == frozenset()
    assert cards[1][0].differs == {"image_rating"}
    assert [one.words for one in cards[0][0].said] == ["mostly", "mostly", "shape", "dots"]
    orders = set()
    for item in small.items[:3]:
        people = {card.letter: card for card in answer_cards(small.study, item)}
        orders.add(tuple(sorted(people)))
    assert orders == {("A", "B", "C")}


def test_a_verdict_is_kept_once_and_revised_by_a_new_row(small: SmallStudy, rosa: User) -> None:
    item, first = small.items[2], uuid.uuid4()
    verdict = settle(small, rosa, item, uuid=first)
    assert settle(small, rosa, item, uuid=first) == verdict
    assert (verdict.rationale, verdict.label, verdict.category) == ("Look at the sky.", "blue", "color")
    assert (verdict.payload, verdict.n_answers) == ({k: v for k, v in VERDICT.items() if k != "rationale"}, 3)
    second = settle(small, rosa, item, payload=VERDICT | {"label": "sky"}, visible_ms=1999)
    verdict.refresh_from_db()
    assert (second.revision_of, verdict.is_current, second.is_current) == (verdict, False, True)
    assert (verdict.is_hasty, second.is_hasty) == (False, True)
    assert [row.item_id for row in disputes(small.study)] == [small.items[1].pk]
    assert [row.item_id for row in disputes(small.study, shown="settled")] == [item.pk]
    assert adjudication_queue(small.study)[1] == (1, 2)


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ({k: v for k, v in VERDICT.items() if k != "rationale"}, "The answer has no rationale; it is asked for."),
        (VERDICT | {"rationale": " "}, "The rationale is empty; write a few words."),
        (VERDICT | {"category": "smell"}, "This study has no category 'smell'."),
        (VERDICT | {"image_rating": 9}, "The image_rating is 9; it can be 1, 2, 3, 4, null."),
    ],
)
def test_a_verdict_is_checked_by_the_studys_own_questions(
    small: SmallStudy, rosa: User, payload: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AnswerError) as refusal:
        settle(small, rosa, small.items[2], payload=payload)
    assert str(refusal.value) == sentence
    assert not Verdict.objects.exists()


def test_verdicts_are_held_against_the_majority(small: SmallStudy, rosa: User) -> None:
    settle(small, rosa, small.items[2], payload=VERDICT | {"image_rating": 2})
    settle(small, rosa, small.items[1])
    rows = [(row.item_id, row.verdict, row.majority, row.n_answers) for row in settled_items(small.study)]
    assert rows == [(small.items[2].pk, False, True, 3), (small.items[1].pk, True, True, 3)]
    assert settled_items(small.study)[0].judge == rosa.annotator_code


def test_a_settled_label_comes_first_once_the_study_is_unblinded(small: SmallStudy, rosa: User) -> None:
    settle(small, rosa, small.items[2])
    feature = small.items[2].feature
    assert labels_of(feature) == []
    Study.objects.filter(pk=small.study.pk).update(state=Study.State.CLOSED)
    unblind(study=Study.objects.get(pk=small.study.pk), user=None)
    assert [(row.label, row.n, row.is_adjudicated) for row in labels_of(feature)] == [
        ("blue", 1, True), ("dots", 2, False),
    ]  # fmt: skip
    assert first_labels([feature, small.items[0].feature])[feature.pk].text == "blue"


# ---- threads


def remark(small: SmallStudy, kind: str = "flag", text: str = "Is this one broken?") -> Remark:
    sent = RemarkText(uuid=uuid.uuid4(), item=small.items[0].pk, kind=kind, text=text)
    return add_remark(annotator=small.people[0], study=small.study, remark=sent)


def test_flags_and_comments_are_open_until_resolved(small: SmallStudy, rosa: User) -> None:
    flagged = remark(small)
    remark(small, "comment", "Nice.")
    remark(small, "skip")
    assert unresolved_counts([small.study]) == {small.study.pk: 2}
    resolve(remark=flagged, user=rosa, note="It is fine.")
    assert unresolved_counts([small.study]) == {small.study.pk: 1}
    reopen(remark=flagged)
    assert unresolved_counts([small.study]) == {small.study.pk: 2}


def test_open_remarks_are_counted_for_those_who_research_in_the_study(small: SmallStudy, rosa: User) -> None:
    remark(small)
    rhea = make_person("rhea", Role.RESEARCHER)
    assert unresolved_for(rhea) == 0
    Participation.objects.create(study=small.study, user=rhea, role=Role.RESEARCHER)
    assert unresolved_for(rhea) == 1


def test_the_author_of_a_remark_is_told_of_an_answer_once(small: SmallStudy, rosa: User) -> None:
    flagged = remark(small)
    reply = reply_to(remark=flagged, author=rosa, text="No, look at the corner.")
    mine, other = (small.study.participations.get(user=person) for person in small.people[:2])
    assert [(one.remark, one.reply) for one in notices(mine)] == [("Is this one broken?", "No, look at the corner.")]
    assert notices(other) == []
    assert mark_seen(participation=other, reply_ids=[reply.pk]) == 0
    assert mark_seen(participation=mine, reply_ids=[reply.pk]) == 1
    assert notices(mine) == []


# ---- pages


@pytest.fixture
def reviewer(rosa: User) -> Client:
    client = Client()
    client.force_login(rosa)
    return client


def test_the_queue_and_an_item_show_answers_and_nothing_of_what_the_item_is(
    small: SmallStudy, reviewer: Client
) -> None:
    Item.objects.filter(study=small.study).update(condition="random_directions", stratum="block 0 / low")
    remark(small)
    pages = [reviewer.get("/studies/first/review/").content.decode()]
    pages += [reviewer.get(f"/studies/first/review/{item.pk}/").content.decode() for item in small.items[:3]]
    assert f"/studies/first/review/{small.items[2].pk}/" in pages[0]
    assert "Where answers disagree" in pages[0]
    assert pages[3].count('<span class="letter">') == 3
    told = ["random", "blocks.", "block 0", "sae first", small.people[0].username, "condition"]
    told += [person.annotator_code for person in small.people[1:]]
    for page in pages:
        assert [word for word in told if word in page.split("<main", 1)[1]] == []


def test_the_item_page_settles_revises_and_remarks(small: SmallStudy, reviewer: Client) -> None:
    address = f"/studies/first/review/{small.items[2].pk}/"
    form = {"uuid_given": str(uuid.uuid4()), "visible": "900", "patch_rating": "2", "image_rating": "null"}
    refused = reviewer.post(address, form | {"category": "", "label": "x", "rationale": ""})
    assert "This field is required." in refused.content.decode()
    assert reviewer.post(address, form | {"category": "color", "label": "x", "rationale": "So."})["Location"] == address
    verdict = Verdict.objects.get()
    assert verdict.payload == {"patch_rating": 2, "image_rating": None, "category": "color", "label": "x"}
    assert verdict.is_hasty
    page = reviewer.get(address).content.decode()
    assert "settled in under 2 s" in page
    assert "have another look" in page
    reviewer.post(address, {"act": "remark", "text": "A hard one."})
    assert Remark.objects.get().text == "A hard one."
    assert unresolved_counts([small.study]) == {small.study.pk: 1}


def test_the_player_settles_by_an_endpoint_that_can_be_asked_twice(small: SmallStudy, reviewer: Client) -> None:
    given = reviewer.post("/studies/first/adjudicate/next", "{}", content_type="application/json").json()
    assert (given["items"], given["done"], given["of"]) == ([], 0, 2)  # no pictures are frozen in this study
    body = {"uuid": str(uuid.uuid4()), "item": small.items[2].pk, "payload": VERDICT, "timing": {"visible_ms": 700}}
    address = "/studies/first/adjudicate/answers"
    replies = [reviewer.post(address, json.dumps(body), content_type="application/json").json() for _ in range(2)]
    assert [reply["stored"] for reply in replies] == ["new", "replayed"]
    assert "less than two seconds" in replies[0]["warning"]
    wrong = reviewer.post(address, json.dumps(body | {"uuid": "x"}), content_type="application/json")
    assert (wrong.status_code, wrong.json()["error"]) == (422, "The uuid of the answer is 'x'; it must be a UUID.")
    forged = body | {"uuid": str(uuid.uuid4()), "item": 999_999}
    assert reviewer.post(address, json.dumps(forged), content_type="application/json").status_code == 422
    assert Verdict.objects.count() == 1


def test_remarks_are_answered_resolved_and_read(small: SmallStudy, reviewer: Client, client: Client) -> None:
    flagged = remark(small)
    page = reviewer.get("/studies/first/remarks/").content.decode()
    assert "Is this one broken?" in page
    assert "1 open remark" in page
    change = f"/studies/first/remarks/{flagged.pk}/"
    reviewer.post(change, {"act": "reply", "text": "It is fine.", "next": "https://elsewhere.example/"})
    moved = reviewer.post(change, {"act": "resolve", "text": "looked", "next": "/studies/first/remarks/?state="})
    assert moved["Location"] == "/studies/first/remarks/?state="
    assert "Is this one broken?" not in reviewer.get("/studies/first/remarks/").content.decode()
    assert "looked" in reviewer.get("/studies/first/remarks/?state=resolved").content.decode()
    client.force_login(small.people[0])
    (notice,) = client.get("/work/first/notices").json()["notices"]
    assert (notice["remark"], notice["reply"]) == ("Is this one broken?", "It is fine.")
    assert set(notice) == {"id", "remark", "reply", "at"}  # nothing of the item's row
    seen = client.post("/work/first/notices", json.dumps({"seen": [notice["id"]]}), content_type="application/json")
    assert seen.json() == {"notices": []}


def test_review_is_for_those_who_have_a_part_in_the_study(small: SmallStudy, reviewer: Client, client: Client) -> None:
    item = small.items[2]
    flagged = remark(small)
    pages = ("review/", f"review/{item.pk}/", "remarks/")
    client.force_login(small.people[0])
    for page in pages:
        assert reviewer.get(f"/studies/first/{page}").status_code == 200
        assert client.get(f"/studies/first/{page}").status_code == 403
    outsider = Client()
    outsider.force_login(make_person("rolf", Role.RESEARCHER))
    assert outsider.get("/studies/first/review/").status_code == 200
    assert outsider.get("/studies/first/adjudicate/").status_code == 403
    assert outsider.post(f"/studies/first/review/{item.pk}/", {}).status_code == 403
    assert outsider.post(f"/studies/first/remarks/{flagged.pk}/", {"act": "resolve"}).status_code == 403
    sent = json.dumps({"uuid": str(uuid.uuid4()), "item": item.pk, "payload": VERDICT})
    assert outsider.post("/studies/first/adjudicate/answers", sent, content_type="application/json").status_code == 403
    site_wide = Client()
    site_wide.force_login(make_person("ruth", Role.REVIEWER))
    assert site_wide.get("/studies/first/review/").status_code == 404
    assert reviewer.get("/studies/first/review/999999/").status_code == 404


def test_the_queue_asks_as_often_for_two_items_as_for_one(
    small: SmallStudy, reviewer: Client, rosa: User, django_assert_max_num_queries: Any
) -> None:
    counts = []
    for _ in range(2):
        with django_assert_max_num_queries(30) as asked:
            reviewer.get("/studies/first/review/")
        counts.append(len(asked))
        settle(small, rosa, small.items[1])
    assert counts[0] == counts[1]
