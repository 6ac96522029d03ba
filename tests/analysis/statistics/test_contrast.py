"""Control-corrected AUC: by pairs, at chance, and where there is nothing to compare with."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.statistics.contrast import auc_over_controls
from analysis.statistics.figures import Figure
from analysis.statistics.ratings import Ratings, make_ratings


def auc(ratings: Ratings, is_control: np.ndarray, n_resamples: int = 200) -> Figure:
    rng = np.random.default_rng(0)
    return auc_over_controls(ratings, rng, is_control=is_control, n_categories=4, of="test", n_resamples=n_resamples)


def test_it_equals_the_count_over_all_pairs() -> None:
    rng = np.random.default_rng(1)
    feature, annotator = np.divmod(np.arange(120), 3)
    ratings = make_ratings(feature, annotator, rng.integers(1, 5, size=120))
    is_control = np.arange(40) % 4 == 0
    control = is_control[ratings.feature]
    wins = [
        1.0 if real > other else 0.5 if real == other else 0.0
        for real in ratings.value[~control]
        for other in ratings.value[control]
    ]
    assert auc(ratings, is_control).value == pytest.approx(np.mean(wins))


def test_real_features_that_always_win_reach_one_and_all_ties_a_half() -> None:
    feature = np.arange(20)
    is_control = feature >= 10
    assert auc(make_ratings(feature, feature % 2, np.where(is_control, 1, 4)), is_control).value == 1.0
    assert auc(make_ratings(feature, feature % 2, np.full(20, 3)), is_control).value == 0.5


def test_without_controls_it_says_why() -> None:
    figure = auc(make_ratings([0, 1], [0, 1], [4, 4]), np.array([False, False]))
    assert (figure.value, figure.note) == (None, "undefined: no answers on controls")
    figure = auc(make_ratings([0, 1], [0, 1], [4, 4]), np.array([True, True]))
    assert (figure.value, figure.note) == (None, "undefined: no answers on real features")


def test_the_interval_covers_chance_where_controls_are_rated_alike() -> None:
    """Generous and strict annotators, features of their own appeal, no difference between real and control."""
    hits = 0
    is_control = np.arange(80) % 4 == 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        feature = np.repeat(np.arange(80), 3)
        annotator = np.concatenate([rng.permutation(12)[:3] for _ in range(80)])
        latent = rng.normal(0, 1, 80)[feature] + rng.normal(0, 0.7, 12)[annotator] + rng.normal(0, 1, 240)
        ratings = make_ratings(feature, annotator, np.digitize(latent, [-1, 0, 1]) + 1)
        figure = auc(ratings, is_control)
        assert figure.low is not None
        assert figure.high is not None
        hits += figure.low <= 0.5 <= figure.high
    assert 92 <= hits <= 100
