"""What a draft will cost and tell, and what its pilot showed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from analysis.domain.pilot import report_of_pilot
from analysis.domain.planning import Assumptions, StudyPlan, plan_of
from annotation.domain.pilots import make_pilot
from annotation.models import Annotation, Feature, Item, Study, User
from tests.annotation.launchable_study import Launchable, make_launchable
from tests.annotation.small_study import join, make_answer, make_person

pytestmark = pytest.mark.django_db


@pytest.fixture
def launchable(artifact_root: Path, tmp_path: Path) -> Launchable:
    return make_launchable(tmp_path, core_share=0.5, core_overlap=3, overlap=1)


def planned(study: Study, **given: Any) -> StudyPlan:
    plan = plan_of(study, Assumptions()._replace(**given))
    assert isinstance(plan, StudyPlan)
    return plan


def answered_pilot(study: Study, n_items: int = 12, n_people: int = 6) -> Study:
    """A closed pilot in which the first half of the items is clear to all, and two of the rest split people."""
    pilot = make_pilot(study=study, user=None)
    features = Feature.objects.filter(dictionary__in=study.sampler["dictionaries"]).order_by("id")[:n_items]
    items = [
        Item.objects.create(study=pilot, feature=feature, stimulus_id=f"{place:064x}")
        for place, feature in enumerate(features)
    ]
    for who in range(n_people):
        person = make_person(f"pilot-{pilot.pk}-{who}")
        join(pilot, person)
        for place, item in enumerate(items):
            rating = 4 if place < n_items // 2 or (place < n_items // 2 + 2 and who % 2) else 1
            give(pilot, item, person, rating, 10 + who)
    Study.objects.filter(pk=pilot.pk).update(state=Study.State.CLOSED)
    pilot.refresh_from_db()
    return pilot


def give(study: Study, item: Item, person: User, rating: int, seconds: int) -> None:
    answer = make_answer(item)
    payload: dict[str, Any] = {"patch_rating": 1, "image_rating": rating, "category": "", "label": f"thing {rating}"}
    Annotation.objects.create(
        uuid=answer.uuid, study=study, item=item, annotator=person, payload=payload, submitted_at=answer.submitted_at,
        protocol_version="1.0", guideline_version=1, stimulus_id=item.stimulus_id, app_version="x",
        visible_ms=1000 * seconds, label=payload["label"],
    )  # fmt: skip


def test_a_plan_counts_work_and_narrows_with_more_people(launchable: Launchable) -> None:
    few, many = planned(launchable.study, n_annotators=4), planned(launchable.study, n_annotators=40, hourly_pay=12)
    assert few.hours == pytest.approx(few.estimate.n_judgements * 20 / 3600)
    assert many.cost == pytest.approx(12 * many.hours)
    assert few.overlap == 2.0
    assert few.rows[0].half_width > many.rows[0].half_width  # type: ignore[operator]
    blocks = [row for row in few.rows if row.group == "block"]
    assert sum(row.n_items for row in blocks) == few.rows[0].n_items
    assert all(row.half_width is None or row.half_width > few.rows[0].half_width for row in blocks)  # type: ignore[operator]
    assert sum(row.n_items for row in few.rows if row.group == "control") == few.estimate.n_controls
    assert any("fewer" in sentence or "dominate" in sentence for sentence in few.advice)
    assert not any("dominate" in sentence for sentence in many.advice)


def test_a_pilot_reports_time_spread_and_what_confused(launchable: Launchable) -> None:
    report = report_of_pilot(answered_pilot(launchable.study))
    assert (report.n_answers, report.n_people, report.n_items) == (72, 6, 12)
    assert report.seconds == 12.5
    assert report.share == pytest.approx(7 / 12)
    assert report.parts is not None
    assert report.parts.feature > report.parts.residual > report.parts.annotator
    raw = report.agreement[0]
    assert raw.value == pytest.approx((10 + 2 * 0.4) / 12)
    assert [item.spread for item in report.confusing] == [0.25, 0.25]
    assert report.confusing[0].words == ["thing 1", "thing 4"]


def test_the_plan_of_the_main_study_rests_on_its_pilot(launchable: Launchable) -> None:
    assumed = planned(launchable.study)
    answered_pilot(launchable.study)
    measured = planned(launchable.study)
    assert "literature" in assumed.source
    assert "72 answers" in measured.source
    assert measured.assumed.seconds == 12.5
    assert measured.hours == pytest.approx(assumed.hours * 12.5 / 20)
    assert planned(launchable.study, share=0.5).source == assumed.source


def test_the_pages_show_it_and_take_nonsense_calmly(launchable: Launchable, client: Client) -> None:
    client.force_login(launchable.researcher)
    page = client.get(f"/studies/{launchable.study.slug}/plan/?n_annotators=abc&share=700&seconds=-1&hourly_pay=10")
    assert page.context["plan"].assumed == Assumptions(10, 0.5, 20, 10.0)
    assert b"Make and launch the pilot" in page.content
    assumed = client.get(f"/studies/{launchable.study.slug}/plan/?share=80")
    assert assumed.context["plan"].assumed.share == 0.8
    words = " ".join(assumed.content.decode().split())
    assert ('value="80"' in words, bool(re.search(r"± \d[\d.]* %", words))) == (True, True)
    pilot = answered_pilot(launchable.study)
    report = client.get(f"/studies/{pilot.slug}/pilot-report/")
    assert "thing 4" in report.content.decode()
    confusing = report.context["report"].confusing[0].item
    assert client.get(f"/studies/{pilot.slug}/review/{confusing}/").status_code == 200
    assert f'href="/studies/{pilot.slug}/review/{confusing}/"' in report.content.decode()
    assert client.get(f"/studies/{launchable.study.slug}/pilot-report/").status_code == 403
    Study.objects.filter(pk=pilot.pk).update(state=Study.State.OPEN)
    open_page = client.get(f"/studies/{pilot.slug}/pilot-report/").content.decode()
    assert "Close the pilot" in open_page
    assert "thing 4" not in open_page


def test_a_pilot_is_made_and_launched_by_one_click(launchable: Launchable, client: Client) -> None:
    client.force_login(launchable.researcher)
    reply = client.post(f"/studies/{launchable.study.slug}/pilot/", follow=True)
    pilot = Study.objects.get(pilot_of=launchable.study)
    assert pilot.state == Study.State.LAUNCHING
    assert reply.redirect_chain[-1][0] == f"/studies/{pilot.slug}/"
