"""The test for blindness sees what is there, and only that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from annotation.domain.blindness import (
    ALONE,
    TOGETHER,
    BlindnessError,
    Described,
    Figure,
    area_of_classifier,
    area_under_curve,
    blindness,
    figures_of,
    standard_error,
)
from annotation.models import Study
from tests.annotation.launchable_study import finish_run, make_launchable


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    assert area_under_curve(np.array([3.0, 1.0, 2.0, 2.0]), np.array([1, 0, 1, 0])) == 0.875


def test_the_standard_error_is_that_of_a_rank_test() -> None:
    n, m = 40, 60
    assert standard_error(n, m) == pytest.approx(((n + m + 1) / (12 * n * m)) ** 0.5)


def test_a_classifier_finds_a_difference_and_finds_none_in_noise() -> None:
    rng = np.random.default_rng(0)
    labels = [1] * 200 + [0] * 300
    noise = rng.normal(size=(500, 3))
    owners = list(range(500))
    assert abs(area_of_classifier(noise.tolist(), labels, owners, 0) - 0.5) < 0.08
    told = noise + np.array(labels)[:, None] * [1.0, 0.0, 0.0]
    assert area_of_classifier(told.tolist(), labels, owners, 0) == pytest.approx(0.76, abs=0.05)


def test_counts_that_tell_are_called_so() -> None:
    rng = np.random.default_rng(1)

    def described(condition: str, shift: float) -> list[Described]:
        names = ("cells", "shown twice", "active patches", "heat mass", "density")
        return [
            Described(condition, n, dict(zip(names, rng.normal(shift, 1, 5), strict=True)), {"brightness": 0.5})
            for n in range(250)
        ]

    features = described("real", 0)
    alike = [one._replace(condition="shuffled") for one in features]
    same = list(figures_of("shuffled", alike, features, 0))
    other = list(figures_of("shuffled", described("shuffled", 1), features, 0))
    assert [figure.is_judged for figure in same] == [True] * 6 + [False]
    assert all(figure.is_blind for figure in same)
    assert [figure.is_blind for figure in other] == [False] * 6 + [True]


def test_a_figure_of_few_items_says_that_it_cannot_tell() -> None:
    assert Figure("shuffled", "density", 0.6, standard_error(20, 20), 20, 20, True).is_blind
    assert not Figure("shuffled", "density", 0.6, standard_error(20, 20), 20, 20, True).can_tell
    assert not Figure("shuffled", "density", 0.6, standard_error(400, 400), 400, 400, True).is_blind


def test_a_classifier_that_is_wrong_has_told_nothing_and_one_number_has_either_way() -> None:
    error = standard_error(400, 400)
    assert Figure("shuffled", TOGETHER, 0.42, error, 400, 400, True).is_blind
    assert not Figure("shuffled", TOGETHER, 0.58, error, 400, 400, True).is_blind
    assert not Figure("shuffled", "density", 0.42, error, 400, 400, True).is_blind


@pytest.mark.django_db
def test_a_launched_study_is_described_and_few_items_are_refused(artifact_root: Path, tmp_path: Path) -> None:
    from annotation.domain.launching import launch_study

    launchable = make_launchable(tmp_path)
    with pytest.raises(BlindnessError, match="launch it first"):
        blindness(launchable.study)
    launchable.study.sampler |= {"n_features": 30}
    launchable.study.control_share, launchable.study.control_kinds = 0.5, ["shuffled"]
    launchable.study.save()
    finish_run(launch_study(study=launchable.study, user=launchable.researcher))
    study = Study.objects.get()
    figures = {figure.statistic: figure for figure in blindness(study)}
    assert set(figures) == {*ALONE, "counts together", "sprite"}
    assert figures["cells"].area == 0.5
    assert {figure.n_controls for figure in figures.values()} == {study.items.filter(condition="shuffled").count()}
    study.items.filter(condition="shuffled").update(condition="catch")
    with pytest.raises(CommandError, match="too few items"):
        call_command("check_blindness", study.slug)
