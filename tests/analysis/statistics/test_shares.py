"""Shares by majority: by hand, against the slow version, and whether the interval covers the truth."""

from __future__ import annotations

import time

import numpy as np
import pytest

from analysis.statistics.bootstrap import draw_poisson_weights, draw_weights, n_resamples_for
from analysis.statistics.ratings import Ratings, make_ratings
from analysis.statistics.shares import Share, count_votes, share_interpretable


def whole(ratings: Ratings, n_resamples: int = 200, seed: int = 0) -> Share:
    group = np.zeros(ratings.n_features, dtype=np.int64)
    rng = np.random.default_rng(seed)
    return share_interpretable(ratings, rng, group=group, names=["all"], n_resamples=n_resamples)[0]


def test_majorities_by_hand() -> None:
    # feature 0: 4, 3, 1 -> yes; feature 1: 3, 2, cannot tell -> no; feature 2: 4, 1 -> tie; feature 3: 3 -> yes
    ratings = make_ratings([0, 0, 0, 1, 1, 1, 2, 2, 3], [0, 1, 2, 0, 1, 2, 0, 1, 2], [4, 3, 1, 3, 2, 0, 4, 1, 3])
    share = whole(ratings)
    assert count_votes(ratings).majority().tolist() == [True, False, False, True]
    assert share.features.value == 0.5
    assert share.judgements.value == pytest.approx(5 / 9)
    assert (share.n_ties, share.features.n_answers, share.features.n_features, share.features.n_annotators) == (
        1,
        9,
        4,
        3,
    )
    assert "1 tie counted as no majority" in share.features.note


def test_groups_are_counted_apart_and_an_empty_one_says_so() -> None:
    ratings = make_ratings([0, 1, 2, 3], [0, 0, 1, 1], [4, 4, 1, 4])
    group = np.array([0, 0, 1, 1])
    first, second, third = share_interpretable(
        ratings, np.random.default_rng(0), group=group, names=["a", "b", "c"], n_resamples=50
    )
    assert (first.features.value, second.features.value) == (1.0, 0.5)
    assert (third.features.value, third.features.note) == (None, "no answers yet")


def test_all_alike_gets_the_exact_bound_and_not_a_point() -> None:
    share = whole(make_ratings(np.arange(10), np.zeros(10), np.full(10, 4)))
    assert share.features.low == pytest.approx(0.025 ** (1 / 10))
    assert share.features.high == 1.0
    assert (
        share.features.note
        == "one annotator: the interval speaks of features only; all alike: exact bound over features"
    )


def test_resampled_shares_equal_the_slow_ones() -> None:
    """Each resample spelled out: annotators and features repeated as often as they were drawn."""
    rng = np.random.default_rng(5)
    feature, annotator = np.divmod(np.arange(60), 4)
    ratings = make_ratings(feature, annotator, rng.integers(0, 5, size=60))
    same_draws = np.random.default_rng(1)
    annotators = draw_weights(np.zeros(4, np.int64), 8, same_draws)
    features = draw_weights(np.zeros(15, np.int64), 8, same_draws)
    assert np.all(annotators.sum(axis=0) == 4)
    assert np.all(features.sum(axis=0) == 15)
    from analysis.statistics.shares import _resampled

    by_feature, by_judgement = _resampled(ratings, np.zeros(15, np.int64), 1, np.random.default_rng(1), 8)
    for draw in range(8):
        wins, votes = [], []
        for f in np.repeat(np.arange(15), features[:, draw].astype(int)):
            mine = [
                bool(value >= 3)
                for a, value in zip(
                    ratings.annotator[ratings.feature == f], ratings.value[ratings.feature == f], strict=True
                )
                for _ in range(int(annotators[a, draw]))
            ]
            wins.append(0.5 * (1 + np.sign(2 * sum(mine) - len(mine))))
            votes.extend(mine)
        assert by_feature[0, draw] == pytest.approx(np.mean(wins))
        assert by_judgement[0, draw] == pytest.approx(np.mean(votes))


def test_draws_stay_within_their_stratum() -> None:
    stratum = np.array([0, 1, 0, 2, 1, 1, 0, 2, 2])
    weights = draw_weights(stratum, 30, np.random.default_rng(0))
    for index in range(3):
        assert np.all(weights[stratum == index].sum(axis=0) == 3)


def simulate(rng: np.random.Generator, n_features: int, n_annotators: int, overlap: int) -> Ratings:
    """Logits of features and annotators with the standard deviations of research/annotation.md §3."""
    features, annotators = rng.normal(1, 1.5, n_features), rng.normal(0, 0.5, n_annotators)
    feature = np.repeat(np.arange(n_features), overlap)
    annotator = np.concatenate([rng.permutation(n_annotators)[:overlap] for _ in range(n_features)])
    chance = 1 / (1 + np.exp(-(features[feature] + annotators[annotator])))
    return make_ratings(feature, annotator, np.where(rng.random(feature.size) < chance, 4, 1))


@pytest.mark.parametrize(("n_features", "n_annotators"), [(84, 20), (120, 8)])
def test_the_two_way_interval_covers_the_truth(n_features: int, n_annotators: int) -> None:
    # Each feature anew with three annotators each anew: the truth of the majority of three, and of one judgement.
    rng = np.random.default_rng(2)
    chance = 1 / (1 + np.exp(-(rng.normal(1, 1.5, (200_000, 1)) + rng.normal(0, 0.5, (200_000, 3)))))
    answers = rng.random(chance.shape) < chance
    truth = (float(np.mean(answers.sum(axis=1) >= 2)), float(np.mean(answers)))
    hits = np.zeros(2)
    for trial in range(120):
        share = whole(simulate(rng, n_features, n_annotators, 3), 200, trial)
        for index, figure in enumerate((share.features, share.judgements)):
            assert figure.low is not None
            assert figure.high is not None
            hits[index] += figure.low <= truth[index] <= figure.high
    assert np.all(hits / 120 >= 0.92), hits
    assert hits.min() < 120, "an interval that never misses says nothing"


def test_thousands_of_features_take_two_seconds_at_most() -> None:
    ratings = simulate(np.random.default_rng(0), 6600, 3, 3)
    started = time.process_time()
    whole(ratings, 2000)
    assert time.process_time() - started < 2.0


def test_the_weights_of_many_features_are_poisson_and_give_the_same_interval() -> None:
    n = 6000
    ratings = simulate(np.random.default_rng(4), n, 12, 2)
    weights = draw_poisson_weights(n, 40, np.random.default_rng(0))
    assert float(weights.mean()) == pytest.approx(1, abs=0.01)
    assert float(weights.var()) == pytest.approx(1, abs=0.02)
    assert [float(np.mean(weights == count)) for count in range(3)] == pytest.approx([0.368, 0.368, 0.184], abs=0.005)
    few = ratings.where(ratings.feature < 5000)
    wide, narrow = whole(few, 400).judgements, whole(ratings, 400).judgements
    assert wide.high is not None
    assert wide.low is not None
    assert narrow.high is not None
    assert narrow.low is not None
    assert narrow.high - narrow.low == pytest.approx(wide.high - wide.low, rel=0.15)


def test_fewer_resamples_are_drawn_of_more_answers() -> None:
    assert [n_resamples_for(n) for n in (0, 60_000, 120_000, 10**6, 10**7)] == [2000, 2000, 1000, 200, 200]
