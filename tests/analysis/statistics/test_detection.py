"""Detection: rates by hand, d' against the normal model, graded answers, and what a sentence tells."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from analysis.statistics.detection import detection, graded_auc, information, rates
from analysis.statistics.measured import Measured, make_measured


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def panels(rows: list[tuple[int, int, int, int]]) -> Measured:
    return make_measured(np.arange(len(rows)), np.arange(len(rows)) % 3, np.array(rows).T)


def test_rates_by_hand() -> None:
    found = detection(panels([(3, 4, 1, 4), (2, 4, 0, 4), (4, 4, 1, 4)]), rng(), of="test")
    assert found.hit.value == pytest.approx(9 / 12)
    assert found.false_alarm.value == pytest.approx(2 / 12)
    assert found.balanced_accuracy.value == pytest.approx((9 / 12 + 10 / 12) / 2)
    assert found.d_prime.value == pytest.approx(norm.ppf(9.5 / 13) - norm.ppf(2.5 / 13))


def test_perfect_detection_has_a_finite_d_prime() -> None:
    [d_prime] = rates(np.array([[40.0], [40.0], [0.0], [40.0]]))[3]
    assert d_prime == pytest.approx(2 * norm.ppf(40.5 / 41))


def test_many_answers_find_the_d_prime_of_the_model() -> None:
    random = np.random.default_rng(2)
    evidence = random.normal(0, 1, (4000, 8)) + 1.3 * (np.arange(8) < 4)
    called = evidence > 0.5
    n = np.full(4000, 4)
    counts = np.stack([called[:, :4].sum(axis=1), n, called[:, 4:].sum(axis=1), n])
    found = detection(
        make_measured(np.arange(4000) // 2, np.arange(4000) % 20, counts), rng(), of="test", n_resamples=50
    )
    assert found.d_prime.value == pytest.approx(1.3, abs=0.06)


def test_without_noise_there_is_no_false_alarm() -> None:
    found = detection(panels([(3, 4, 0, 0), (2, 4, 0, 0)]), rng(), of="test")
    assert found.hit.value == pytest.approx(5 / 8)
    assert (found.false_alarm.value, found.d_prime.value) == (None, None)


def test_graded_answers_against_all_pairs() -> None:
    random = np.random.default_rng(4)
    grade, is_noise = random.integers(0, 4, 60), np.arange(60) % 3 == 0
    pairs = [(s > n) + 0.5 * (s == n) for s in grade[~is_noise] for n in grade[is_noise]]
    measured = make_measured(np.arange(60) // 2, np.arange(60) % 2, grade + 4 * is_noise)
    assert graded_auc(measured, rng(), n_categories=4, of="test").value == pytest.approx(np.mean(pairs))


def test_what_the_sentence_tells_is_the_difference_to_a_shuffled_one() -> None:
    measured = panels([(4, 4, 0, 4), (4, 4, 0, 4), (2, 4, 2, 4), (1, 4, 1, 4)])
    shuffled = np.array([False, False, True, True])
    assert information(measured, rng(), of="test", is_shuffled=shuffled).value == pytest.approx(1.0 - 0.5)
