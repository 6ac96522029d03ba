"""Bradley-Terry with ties: against a general optimiser, against known strengths, under separation, and its clusters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from analysis.statistics.bradley_terry import (
    FIRST,
    RIDGE,
    SECOND,
    TIE,
    Comparisons,
    clusters_of_pairs,
    comparisons_of,
    fit,
    strengths,
)
from analysis.statistics.measured import make_measured


def slow_fit(counts: np.ndarray, comparisons: Comparisons) -> np.ndarray:
    """Davidson's likelihood as it is written, by a general optimiser."""

    def loss(theta: np.ndarray) -> float:
        total = 0.5 * RIDGE * float(theta @ theta)
        for (i, j), observed in zip(comparisons.pairs, counts.reshape(-1, 3), strict=True):
            a, b = np.exp(theta[i]), np.exp(theta[j])
            odds = np.array([a, b, np.exp(theta[-1]) * np.sqrt(a * b)])
            total -= float(observed @ np.log(odds / odds.sum()))
        return total

    found = minimize(loss, np.zeros(comparisons.n_sets + 1), tol=1e-12)
    return np.append(found.x[:-1] - found.x[:-1].mean(), found.x[-1])


def test_it_equals_the_slow_fit_for_every_resample() -> None:
    comparisons = comparisons_of(4)
    counts = np.random.default_rng(0).integers(1, 30, (18, 3)).astype(float)
    fast = fit(counts, comparisons)
    for column in range(3):
        assert fast[:, column] == pytest.approx(slow_fit(counts[:, column], comparisons), abs=1e-4)


def test_expected_counts_give_the_strengths_back() -> None:
    comparisons = comparisons_of(3)
    truth = np.array([0.8, 0.1, -0.9])
    counts = []
    for i, j in comparisons.pairs:
        odds = np.array([np.exp(truth[i]), np.exp(truth[j]), 0.6 * np.exp((truth[i] + truth[j]) / 2)])
        counts.extend(1e6 * odds / odds.sum())
    fitted = fit(np.array(counts)[:, None], comparisons)[:, 0]
    assert fitted == pytest.approx([*truth, np.log(0.6)], abs=1e-4)


def test_a_set_that_won_everything_stays_finite() -> None:
    fitted = fit(np.array([[50.0], [0.0], [0.0]]), comparisons_of(2))[:, 0]
    assert np.isfinite(fitted).all()
    assert 2 < fitted[0] - fitted[1] < 30


def test_outcomes_are_turned_with_their_pair() -> None:
    comparisons = comparisons_of(3)
    assert comparisons.cell(0, 2, FIRST) == comparisons.cell(2, 0, SECOND) == 3
    assert comparisons.cell(2, 1, FIRST) == 3 * 2 + SECOND
    assert comparisons.cell(1, 2, TIE) == comparisons.cell(2, 1, TIE) == 3 * 2 + TIE


def test_figures_of_sets_and_of_their_differences() -> None:
    rng = np.random.default_rng(1)
    outcome = rng.choice(3, 300, p=[0.55, 0.25, 0.2])
    found = strengths(make_measured(np.arange(300) // 3, np.arange(300) % 9, outcome), rng, names=["A", "B"])
    first, second = (figure.value for figure in found.of_sets)
    assert first is not None
    assert second is not None
    assert first == pytest.approx(-second)
    [difference] = found.differences
    assert difference.value == pytest.approx(first - second)
    assert difference.low is not None
    assert difference.low > 0
    assert f"{int(np.sum(outcome == TIE))} of 300 comparisons are ties" in difference.note
    assert strengths(make_measured([], [], []), rng, names=["A", "B"]).differences[0].value is None


def test_pairs_that_share_a_feature_belong_together() -> None:
    others = np.arange(100, 116)
    clusters = clusters_of_pairs(np.array([1, 1, 2, 5, *others]), np.array([21, 22, 23, 21, *(others + 100)]))
    assert clusters[0] == clusters[1] == clusters[3] != clusters[2]
    chain = np.arange(10)
    assert np.unique(clusters_of_pairs(chain, chain + 1)).size == 10, "one long chain: the pairs are the units"
