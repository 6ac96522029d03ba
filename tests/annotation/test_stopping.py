"""A study pauses itself once its interval is narrow enough, and tells no more than that."""

from __future__ import annotations

import math
import random

import pytest

from annotation.domain.priorities import INTERPRETABLE_FROM
from annotation.domain.stopping import Outcome, half_width, outcomes, stop_if_reached, validate_stopping
from annotation.domain.studies import StudyError
from annotation.models import Condition, Item, Study, StudyEvent
from annotation.templatetags.study_log import event_sentence
from tests.annotation.judging import INTERPRETABLE, NOTHING, judge_all
from tests.annotation.small_study import make_study


def test_without_clusters_the_interval_is_that_of_a_share() -> None:
    rng = random.Random(0)
    answers = [Outcome(feature, feature % 40, float(rng.random() < 0.75)) for feature in range(4000)]
    assert half_width(answers) == pytest.approx(1.96 * math.sqrt(0.75 * 0.25 / 4000), rel=0.35)


def test_answers_that_cluster_by_annotator_widen_it() -> None:
    rng = random.Random(1)
    alike = [Outcome(f, a, float(rng.random() < 0.5)) for f in range(100) for a in range(6)]
    stubborn = [Outcome(f, a, float(a < 3)) for f in range(100) for a in range(6)]
    narrow, wide = half_width(alike), half_width(stubborn)
    assert narrow is not None
    assert wide is not None
    assert wide > 5 * narrow


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(2)
    n_covered = 0
    for _ in range(200):
        annotators = [rng.gauss(0, 0.05) for _ in range(20)]
        features = [min(1.0, max(0.0, rng.gauss(0.6, 0.2))) for _ in range(60)]
        answers = [
            Outcome(f, a, float(rng.random() < p + annotators[a]))
            for f, p in enumerate(features)
            for a in rng.sample(range(20), 4)
        ]
        width = half_width(answers)
        assert width is not None
        n_covered += abs(sum(one.value for one in answers) / len(answers) - 0.6) <= width
    assert 0.90 <= n_covered / 200 <= 1.0


def test_too_few_annotators_or_features_say_nothing() -> None:
    assert half_width([]) is None
    assert half_width([Outcome(f, 1, 1.0) for f in range(50)]) is None
    assert half_width([Outcome(f, f % 3, 1.0) for f in range(9)]) is None


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"half_width": 0.7}, "between 0 and 0.5"),
        ({"half_width": True}, "between 0 and 0.5"),
        ({"half_width": 0.05, "min_judgements": -1}, "whole number"),
        ({"half_width": 0.05, "share": 1}, "not 'share'"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule: dict[str, object], sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        validate_stopping(rule)
    assert validate_stopping({}) == {}
    assert validate_stopping({"half_width": 0.05}) == {"half_width": 0.05, "min_judgements": 0}


@pytest.mark.django_db
def test_the_study_pauses_itself_and_says_so_without_a_result() -> None:
    small = make_study(n_items=24, overlap=2)
    Item.objects.filter(pk__in=[item.pk for item in small.items[:4]]).update(condition=Condition.SHUFFLED)
    for person in small.people:
        judge_all(small, person, lambda item: NOTHING if item.condition == Condition.SHUFFLED else INTERPRETABLE)
    Study.objects.update(stopping={"half_width": 0.05, "min_judgements": 49})
    small.study.refresh_from_db()
    assert {one.value for one in outcomes(small.study)} == {1.0}  # the controls are not looked at
    assert not stop_if_reached(study=small.study)
    small.study.stopping = {"half_width": 0.05, "min_judgements": 40}
    assert stop_if_reached(study=small.study)
    event = StudyEvent.objects.get(kind="stopped itself")
    assert event.detail == {"half_width": 0.05, "n_judgements": 48}
    assert event_sentence(event) == (
        "Paused itself after 48 judgements: the interval of its main quantity is within 5 % on either side"
    )
    assert Study.objects.get(pk=small.study.pk).state == Study.State.PAUSED
    assert not stop_if_reached(study=small.study)
    assert INTERPRETABLE_FROM == 3
