"""The two-way width: against leaving out spelled out, against known variances, and what it does without a spread."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.statistics import two_way
from analysis.statistics.accuracy import accuracy, share_statistic
from analysis.statistics.codes import contiguous
from analysis.statistics.measured import Measured, make_measured
from analysis.statistics.two_way import two_way_error


def uneven(rng: np.random.Generator, n: int = 60) -> Measured:
    """Features and annotators with different numbers of answers."""
    cells = rng.permutation(12 * 9)[:n]
    return make_measured(cells // 9, cells % 9, rng.random(n) < 0.6)


def slow_variance(measured: Measured, unit: np.ndarray) -> float:
    means = np.array([measured.values[0][unit != one].mean() for one in np.unique(unit)])
    n = means.size
    return float((n - 1) / n * np.sum((means - means.mean()) ** 2))


def error_of(measured: Measured) -> tuple[float, float]:
    total = np.array([[measured.values[0].sum()], [measured.feature.size]], dtype=np.float64)
    error, freedom = two_way_error(measured, share_statistic(), total)
    return float(error[0]), float(freedom[0])


@pytest.mark.parametrize("chunk", [7, 65_536])
def test_it_equals_leaving_out_one_by_one(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_way, "CHUNK", chunk)
    measured = uneven(np.random.default_rng(3))
    of_features = slow_variance(measured, measured.feature)
    of_annotators = slow_variance(measured, measured.annotator)
    of_answers = slow_variance(measured, np.arange(measured.feature.size))
    variance = max(of_features + of_annotators - of_answers, of_features, of_annotators)
    error, freedom = error_of(measured)
    assert error == pytest.approx(np.sqrt(variance), rel=1e-6)
    spread = of_features**2 / (measured.n_features - 1) + of_annotators**2 / (measured.n_annotators - 1)
    assert freedom == pytest.approx(variance**2 / spread, rel=1e-6)


def test_on_average_it_is_the_standard_error_of_the_mean() -> None:
    """Normal effects of 30 features (sd .4), 10 annotators (sd .3) and a residual (sd 1), every cell filled."""
    rng = np.random.default_rng(0)
    feature, annotator = np.divmod(np.arange(300), 10)
    variances = []
    for _ in range(300):
        y = rng.normal(0, 0.4, 30)[feature] + rng.normal(0, 0.3, 10)[annotator] + rng.normal(0, 1, 300)
        variances.append(error_of(make_measured(feature, annotator, y))[0] ** 2)
    assert np.mean(variances) == pytest.approx(0.16 / 30 + 0.09 / 10 + 1 / 300, rel=0.1)


def test_all_right_gets_an_exact_bound_and_no_answers_a_reason() -> None:
    rng = np.random.default_rng(0)
    figure = accuracy(make_measured(np.arange(10), np.arange(10) % 3, np.ones(10)), rng, of="right", minus=0.5)
    assert (figure.value, figure.high) == (0.5, 0.5)
    assert figure.low == pytest.approx(0.025**0.1 - 0.5)
    nothing = accuracy(make_measured([], [], []), rng, of="right")
    assert (nothing.value, nothing.note) == (None, "no answers yet")


def test_one_annotator_leaves_the_spread_of_features() -> None:
    measured = make_measured(np.arange(20), np.zeros(20), np.arange(20) % 4 == 0)
    error, freedom = error_of(measured)
    assert error == pytest.approx(np.sqrt(slow_variance(measured, measured.feature)))
    assert freedom == 19


def test_codes_are_numbered_in_their_order_sorted_or_not() -> None:
    in_order, mixed, sparse = ([3, 3, 7, 9], [0, 0, 1, 2]), ([9, 3, 7, 3], [2, 0, 1, 0]), ([900, -3, 900], [1, 0, 1])
    for codes, expected in (in_order, mixed, sparse, ([], [])):
        numbered, n = contiguous(np.array(codes, dtype=np.int64))
        assert (numbered.tolist(), n) == (expected, len(set(codes)))
