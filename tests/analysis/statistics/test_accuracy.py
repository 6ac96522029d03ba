"""Right answers: by hand, differences, calibration, and verdicts against the slow procedure."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from analysis.statistics.accuracy import (
    accuracy,
    calibration,
    difference,
    discoveries,
    mean_value,
    share_above_chance,
    verdicts,
)
from analysis.statistics.measured import make_measured


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_accuracy_and_accuracy_over_chance_by_hand() -> None:
    measured = make_measured([0, 0, 1, 1, 2], [0, 1, 0, 1, 0], [1, 0, 1, 1, 0])
    assert accuracy(measured, rng(), of="right").value == pytest.approx(0.6)
    over = accuracy(measured, rng(), of="right", minus=0.2)
    assert over.value == pytest.approx(0.4)
    assert over.low is not None
    assert over.low >= -0.2
    assert (over.n_answers, over.n_features, over.n_annotators) == (5, 3, 2)


def test_a_mean_may_be_negative() -> None:
    measured = make_measured(np.arange(40) // 2, np.arange(40) % 2, np.linspace(-0.5, 0.3, 40))
    figure = mean_value(measured, rng(), of="area", bounds=(-0.5, 0.5))
    assert figure.value == pytest.approx(-0.1)
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < -0.1 < figure.high


def test_lift_is_the_difference_of_the_two_shares() -> None:
    right = np.array([1, 1, 1, 0, 0, 1, 0, 0])
    shown = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=bool)
    figure = difference(make_measured(np.arange(8) % 4, np.arange(8) // 4, right), rng(), of="lift", is_first=shown)
    # make_measured sorts by feature, so that the mask goes with the sorted rows
    order = np.argsort(np.arange(8) % 4, kind="stable")
    assert figure.value == pytest.approx(right[order][shown].mean() - right[order][~shown].mean())
    alone = make_measured(np.arange(4), np.arange(4), np.ones(4))
    assert difference(alone, rng(), of="lift", is_first=np.ones(4, bool)).value is None


def test_calibration_by_level() -> None:
    confidence = np.array([1, 1, 3, 3, 3], dtype=np.int8)
    measured = make_measured(np.arange(5), np.arange(5), [1, 0, 1, 1, 1])
    figures = calibration(measured, rng(), confidence=confidence, of={1: "a guess", 2: "fairly sure", 3: "sure"})
    assert [(name, figure.value) for name, figure in figures] == [
        ("a guess", 0.5),
        ("fairly sure", None),
        ("sure", 1.0),
    ]


def test_verdicts_are_exact_binomial_tests() -> None:
    feature = np.repeat([0, 1], [8, 4])
    found = verdicts(make_measured(feature, np.arange(12), [1] * 7 + [0] + [1, 1, 0, 0]), chance=0.5)
    assert found.n_right.tolist() == [7, 2]
    assert found.p[0] == pytest.approx((comb(8, 7) + 1) / 2**8)
    assert found.p[1] == pytest.approx((6 + 4 + 1) / 2**4)
    assert found.is_above.tolist() == [False, False]  # .035 is above .05 / 2


def test_discoveries_equal_the_slow_procedure() -> None:
    p = np.concatenate([np.random.default_rng(1).random(40), [1e-4, 2e-3, 3e-3, 1e-9]])
    cut = max([one for one in p if one <= 0.05 * np.sum(p <= one) / p.size], default=-1.0)
    assert discoveries(p, 0.05).tolist() == (p <= cut).tolist()
    assert discoveries(p, 0.05).sum() >= 3
    assert not discoveries(np.array([0.5, 0.9]), 0.05).any()


def test_the_share_above_chance_counts_verdicts() -> None:
    feature = np.repeat(np.arange(10), 10)
    right = np.where(feature < 4, 1, np.arange(100) % 2)
    figure = share_above_chance(make_measured(feature, np.arange(100) % 10, right), chance=0.5, of="above")
    assert (figure.value, figure.low) == (0.4, None)
    assert "false discovery rate 0.05" in figure.note
