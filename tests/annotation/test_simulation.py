"""Simulated annotators answer by their rule, through the queue, and are marked."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from annotation.domain.launching import launch_study
from annotation.domain.simulated_sight import NOTHING, Finding, Sight, best_agreement, region_of
from annotation.domain.simulation import SimulatedAnnotator, category_of, judge, rate, simulate_annotators
from annotation.domain.studies import StudyError
from annotation.models import Annotation, Condition, Slot, Study, User
from tests.annotation.launchable_study import finish_run, make_launchable

COLORS = {"color": {"red": 0.25, "blue": 0.75}}
SURE = SimulatedAnnotator("sure", error_rate=0, lapse_rate=0)


@pytest.fixture
def opened(db: None, artifact_root: Path, tmp_path: Path) -> Study:
    launchable = make_launchable(tmp_path, is_simulated=True)
    finish_run(launch_study(study=launchable.study, user=launchable.researcher))
    launchable.study.refresh_from_db()
    return launchable.study


def test_agreement_counts_only_what_is_beyond_the_usual() -> None:
    reds = [{"color": "red"}] * 3 + [{"color": "blue"}]
    assert best_agreement(reds, COLORS)[1:] == ("color", "red")
    assert best_agreement(reds, COLORS).score == pytest.approx(2 / 3)
    assert best_agreement([{"color": "blue"}] * 3 + [{"color": "red"}], COLORS).score == 0
    assert best_agreement([], COLORS) == NOTHING


def test_regions_cut_the_picture_in_nine() -> None:
    assert [region_of(patch, (6, 6)) for patch in (0, 14, 35)] == ["top left", "middle center", "bottom right"]


@pytest.mark.parametrize(("score", "rating"), [(0.0, 1), (0.39, 1), (0.4, 2), (0.55, 3), (0.79, 3), (0.8, 4)])
def test_ratings_follow_the_thresholds(score: float, rating: int) -> None:
    assert rate(Finding(score, "color", "red"), SURE, random.Random(0)) == rating


def test_a_bias_shifts_and_an_error_moves_by_one_step() -> None:
    finding = Finding(0.5, "color", "red")
    assert rate(finding, SimulatedAnnotator("x", 0, 0, bias=0.1), random.Random(0)) == 3
    wrong = {rate(finding, SimulatedAnnotator("x", 1, 0), random.Random(seed)) for seed in range(20)}
    assert wrong == {1, 3}


def test_lapses_can_be_anything() -> None:
    finding = Finding(1.0, "color", "red")
    assert {rate(finding, SimulatedAnnotator("x", 0, 1), random.Random(seed)) for seed in range(60)} == {
        1, 2, 3, 4, None,
    }  # fmt: skip


def test_nothing_seen_has_no_name() -> None:
    payload = judge(Sight(NOTHING, NOTHING), SURE, ["color"], random.Random(0))
    assert payload == {"patch_rating": 1, "image_rating": 1, "category": "", "label": ""}


def test_the_category_is_that_of_the_attribute_or_its_kind() -> None:
    names = ["color", "position", "object", "other"]
    found = [category_of(Finding(1, attribute, "x"), names) for attribute in ("color", "row", "class", "smell")]
    assert found == ["color", "position", "object", "other"]


def test_they_fill_the_study_and_are_marked(opened: Study) -> None:
    n_answers = simulate_annotators(study=opened)
    opened.refresh_from_db()
    assert n_answers == opened.n_slots == opened.n_slots_done == Annotation.objects.count()
    assert not Slot.objects.filter(study=opened).exclude(state=Slot.State.DONE).exists()
    assert set(Annotation.objects.values_list("is_simulated", "annotator__is_simulated")) == {(True, True)}
    event = opened.events.get(kind="simulated")
    assert event.detail["annotators"][0]["error_rate"] == 0.05


def test_they_answer_catch_items_right_and_see_more_in_features_than_in_shuffled_patches(opened: Study) -> None:
    simulate_annotators(study=opened, annotators=[SURE, SimulatedAnnotator("sure too", 0, 0)])
    checks = Annotation.objects.filter(item__condition=Condition.CATCH)
    assert set(checks.values_list("is_gold_right", flat=True)) == {True}

    def mean(condition: Condition) -> float:
        ratings = Annotation.objects.filter(item__condition=condition).values_list("image_rating", flat=True)
        return sum(rating or 0 for rating in ratings) / len(ratings)

    assert mean(Condition.REAL) > mean(Condition.SHUFFLED)


def test_a_second_call_goes_on_with_the_same_accounts(opened: Study) -> None:
    assert simulate_annotators(study=opened, limit=7) == 7
    n_people = User.objects.filter(is_simulated=True).count()
    simulate_annotators(study=opened, limit=3)
    assert (User.objects.filter(is_simulated=True).count(), Annotation.objects.count()) == (n_people, 10)


def test_a_study_for_people_takes_no_simulated_answers(opened: Study) -> None:
    opened.is_simulated = False
    with pytest.raises(StudyError, match="is for people"):
        simulate_annotators(study=opened)
