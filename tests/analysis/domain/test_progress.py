"""How a live study goes: speed, days, gold and a forecast by hand, and no word of results."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from analysis.domain.progress import Day, forecast, progress_of
from annotation.models import Annotation, Item, Participation, Study
from tests.analysis.studies import SmallStudy, make_study

pytestmark = pytest.mark.django_db


@pytest.fixture
def small() -> SmallStudy:
    return make_study(state=Study.State.OPEN)


def test_speed_counts_every_answer_in_its_bin(small: SmallStudy) -> None:
    first = Annotation.objects.filter(item=small.items[0]).values("pk")
    Annotation.objects.filter(pk__in=first).update(visible_ms=1500)
    progress = progress_of(small.study)
    assert {one.name: one.n for one in progress.speed if one.n} == {"0 to 2 s": 3, "5 to 10 s": 51}
    assert progress.mean_seconds == pytest.approx((3 * 1.5 + 51 * 6) / 54)


def test_gold_by_annotator_with_its_interval(small: SmallStudy) -> None:
    best = small.annotators[0]
    Participation.objects.filter(user=best).update(n_gold=10, n_gold_right=9, n_done=20)
    workers = progress_of(small.study).workers
    assert (workers[0].code, workers[0].n_done, workers[0].gold_share) == (best.annotator_code, 20, 0.9)
    assert workers[0].gold_low == pytest.approx(0.596, abs=0.001)
    assert [(one.gold_share, one.gold_low) for one in workers[1:]] == [(None, None)] * 2
    assert workers[1].mean_seconds == 6.0


def test_agreement_is_over_the_core_alone(small: SmallStudy) -> None:
    assert progress_of(small.study).n_core_items == 0
    Item.objects.filter(pk__in=[item.pk for item in small.items[:5]]).update(is_core=True)
    Study.objects.filter(pk=small.study.pk).update(n_slots_done=154)
    small.study.refresh_from_db()
    progress = progress_of(small.study)
    assert progress.n_core_items == 5
    assert progress.agreement is not None
    assert {line.figure.n_answers for line in progress.agreement.lines} == {15}


def test_the_forecast_goes_by_the_last_three_days() -> None:
    now = timezone.now()
    today = timezone.localtime(now).date()
    study = Study(n_slots=100, n_slots_done=40)
    days = [Day(today - timedelta(days=back), n) for back, n in ((5, 50), (2, 10), (1, 20), (0, 30))]
    found = forecast(study, days, now)
    assert (found.per_day, found.n_left, found.finished_on) == (20.0, 60, today + timedelta(days=3))
    assert forecast(study, days[3:], now).per_day == 30.0
    assert forecast(study, days[:1], now).finished_on is None
    assert forecast(study, [], now) == (0.0, 60, None)


def test_answers_per_day(small: SmallStudy) -> None:
    yesterday = timezone.now() - timedelta(days=1)
    Annotation.objects.filter(item=small.items[0]).update(received_at=yesterday)
    assert [day.n for day in progress_of(small.study).days] == [3, 51]
