"""The pages of quality and of the queue: what they show, to whom, and what a click changes."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from annotation.models import Annotation, Assignment, Cohort, Exclusion, Item, Participation, Role, Slot, Study, User
from tests.annotation.judging import INTERPRETABLE, NOTHING, judge_all, place_of
from tests.annotation.small_study import SmallStudy, join, make_person, make_study

pytestmark = pytest.mark.django_db
PAGES = ("quality/", "quality/{user}/", "quality/leave-out/?annotator={user}", "queue/")


@pytest.fixture
def judged() -> SmallStudy:
    small = make_study(n_items=6, overlap=3, n_people=3)
    Item.objects.update(is_core=True)
    for person in small.people[:2]:
        judge_all(small, person, lambda item: INTERPRETABLE)
    judge_all(small, small.people[2], lambda item: NOTHING)
    return small


@pytest.fixture
def rhea(judged: SmallStudy) -> Client:
    """The study's researcher."""
    user = make_person("rhea", Role.RESEARCHER)
    Participation.objects.create(study=judged.study, user=user, role=Role.RESEARCHER)
    client = Client()
    client.force_login(user)
    return client


def url(small: SmallStudy, page: str) -> str:
    return f"/studies/{small.study.slug}/{page.format(user=small.people[2].pk)}"


def text_of(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def test_the_table_tells_how_people_work(judged: SmallStudy, rhea: Client) -> None:
    page = text_of(rhea, url(judged, "quality/"))
    codes = [person.annotator_code for person in judged.people]
    assert [code in page for code in codes] == [True] * 3
    assert "33 % of the pairs of answers" in page
    assert "disagreement" not in page  # six items are too few to say so
    assert "0 % 0 of 6" in page


def test_leaving_out_shows_its_effect_then_applies_and_is_taken_back(judged: SmallStudy, rhea: Client) -> None:
    address = url(judged, "quality/leave-out/?annotator={user}")
    page = text_of(rhea, address)
    assert "6 judgements of 6 items fall away" in page
    assert "33 % say the same now, 100 % after it" in page
    assert not Exclusion.objects.exists()
    refused = rhea.post(address, {"annotator": judged.people[2].pk, "reason": ""})
    assert (refused.status_code, Exclusion.objects.count()) == (200, 0)
    done = rhea.post(address, {"annotator": judged.people[2].pk, "reason": "Asleep."}, follow=True)
    assert b"6 judgements are left out" in done.content
    exclusion = Exclusion.objects.get()
    assert (exclusion.annotator, exclusion.by.username) == (judged.people[2], "rhea")  # type: ignore[union-attr]
    back = rhea.post(url(judged, f"quality/exclusions/{exclusion.pk}/"), follow=True)
    assert b"6 judgements count again" in back.content
    assert not Annotation.objects.exclude(excluded_reason="").exists()


def test_single_answers_are_chosen_on_an_annotators_page(judged: SmallStudy, rhea: Client) -> None:
    page = rhea.get(url(judged, "quality/{user}/")).content.decode()
    ids = re.findall(r'name="answer" value="(\d+)"', page)
    assert len(ids) == 6
    query = "&".join(f"answer={pk}" for pk in ids[:2])
    assert "2 judgements of 2 items fall away" in text_of(rhea, url(judged, f"quality/leave-out/?{query}"))
    rhea.post(url(judged, "quality/leave-out/"), {"answer": ids[:2], "reason": "No picture."})
    assert Annotation.objects.exclude(excluded_reason="").count() == 2
    nothing = rhea.get(url(judged, "quality/leave-out/?answer=x"), follow=True)
    assert b"Choose answers to leave out first" in nothing.content


def test_no_page_tells_an_answer_or_a_condition(judged: SmallStudy, rhea: Client) -> None:
    Item.objects.update(condition="shuffled", stratum="blocks.1 · dense")
    for page in PAGES:
        text = text_of(rhea, url(judged, page))
        assert not re.search(r"shuffled|blocks\.|dense|round things", text)


def test_the_queue_is_set_and_the_log_says_so(judged: SmallStudy, rhea: Client) -> None:
    fields = {"order": "finish", "max_per_person": "40", "half_width": "5", "min_judgements": "100", "reason": "x"}
    Slot.objects.filter(item=judged.items[0]).update(state=Slot.State.OPEN, annotator=None)
    rhea.post(url(judged, "queue/"), fields)
    judged.study.refresh_from_db()
    assert (judged.study.queue_order, judged.study.max_per_person) == ("finish", 40)
    assert judged.study.stopping == {"half_width": 0.05, "min_judgements": 100}
    assert 'value="5"' in rhea.get(url(judged, "queue/")).content.decode()
    assert set(Slot.objects.filter(state="open").values_list("lane", flat=True)) == {1}
    rhea.post(url(judged, "queue/"), fields | {"order": "breadth"})
    assert sorted(Slot.objects.filter(state="open").values_list("lane", flat=True)) == [1, 2, 3]
    versions = judged.study.versions.order_by("id").values_list("version", "kind", "reason")
    assert [row for row in versions if row[0] != "1.0"] == [("1.1", "minor", "x"), ("1.2", "minor", "x")]
    wrong = rhea.post(url(judged, "queue/"), fields | {"half_width": "0.05"})
    assert (wrong.status_code, b"greater than or equal to 0.5" in wrong.content) == (422, True)
    versions_page = text_of(rhea, url(judged, "versions/"))
    assert "Order of the queue: every item once before any twice → finish what was begun" in versions_page
    assert "Stopping rule: none → within ±5 %, from 100 judgements on" in versions_page
    Study.objects.update(state=Study.State.CLOSED)
    assert "within ±5 %, from 100 judgements on" in text_of(rhea, url(judged, "queue/"))
    assert b"is closed" in rhea.post(url(judged, "queue/"), fields | {"max_per_person": "3"}).content


def test_items_are_reserved_for_a_cohort_and_given_back(judged: SmallStudy, rhea: Client) -> None:
    late = make_person("late")
    place = join(judged.study, late)
    Slot.objects.update(state=Slot.State.OPEN, annotator=None)
    rhea.post(url(judged, "queue/cohorts/"), {"name": "experts", "people": [place.pk]})
    cohort = Cohort.objects.get()
    assert place_of(judged, late).cohort == cohort
    rhea.post(url(judged, "queue/reservations/"), {"to": f"cohort:{cohort.pk}", "share": "50"})
    assignment = Assignment.objects.get()
    assert assignment.n_slots == 9
    assert "cohort experts 9 9" in text_of(rhea, url(judged, "queue/"))
    rhea.post(url(judged, f"queue/reservations/{assignment.pk}/"))
    assert "Nothing: everybody may judge everything." in text_of(rhea, url(judged, "queue/"))
    wrong = rhea.post(url(judged, "queue/reservations/"), {"to": "person:999999", "share": "50"})
    assert wrong.status_code == 422


@pytest.mark.parametrize("page", PAGES)
def test_who_may_open_them(judged: SmallStudy, rhea: Client, page: str) -> None:
    address = url(judged, page)
    statuses = {}
    for name, user in (("annotator", judged.people[0]), ("stranger", make_person("eve"))):
        client = Client()
        client.force_login(user)
        statuses[name] = client.get(address).status_code
    assert statuses == {"annotator": 403, "stranger": 404}
    assert Client().get(address).status_code == 302
    assert rhea.get(address).status_code == 200
    assert rhea.get(address.replace(judged.study.slug, "none", 1)).status_code == 404


def test_a_reviewer_reads_and_changes_nothing(judged: SmallStudy) -> None:
    reviewer = make_person("rex", Role.REVIEWER)
    Participation.objects.create(study=judged.study, user=reviewer, role=Role.REVIEWER)
    client = Client()
    client.force_login(reviewer)
    assert client.get(url(judged, "quality/")).status_code == 200
    fields = {"annotator": judged.people[2].pk, "reason": "Asleep."}
    assert client.post(url(judged, "quality/leave-out/"), fields).status_code == 403
    assert client.post(url(judged, "queue/"), {"order": "finish"}).status_code == 403
    assert client.post(url(judged, "queue/reservations/"), {"share": 5}).status_code == 403
    assert (Exclusion.objects.count(), Assignment.objects.count()) == (0, 0)


@pytest.mark.parametrize("page", ["quality/", "queue/"])
def test_more_annotators_cost_no_more_queries(judged: SmallStudy, rhea: Client, page: str) -> None:
    n_queries = []
    for number in range(2):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            rhea.get(url(judged, page))
        n_queries.append(len(queries))
        for each in range(3):
            join(judged.study, User.objects.create(username=f"more-{number}-{each}"))
        rhea.get(url(judged, page))
    assert n_queries[1] <= n_queries[0]
