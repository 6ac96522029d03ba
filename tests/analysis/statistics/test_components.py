"""Variance components and what they forecast, against simulation and against published numbers of answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.statistics.accuracy import accuracy
from analysis.statistics.components import Components, components
from analysis.statistics.half_widths import expected_half_width, share_components
from analysis.statistics.measured import Measured, make_measured


def draw(rng: np.random.Generator, truth: Components, n_features: int, n_annotators: int, overlap: int) -> Measured:
    feature = np.repeat(np.arange(n_features), overlap)
    annotator = rng.random((n_features, n_annotators)).argsort(axis=1)[:, :overlap].ravel()
    features = rng.normal(0, math.sqrt(truth.feature), n_features)
    annotators = rng.normal(0, math.sqrt(truth.annotator), n_annotators)
    y = 0.7 + features[feature] + annotators[annotator] + rng.normal(0, math.sqrt(truth.residual), feature.size)
    return make_measured(feature, annotator, y)


def test_components_are_unbiased_on_uneven_tables() -> None:
    rng = np.random.default_rng(0)
    truth = Components(0.5, 0.2, 1.0)
    found = []
    for _ in range(200):
        whole = draw(rng, truth, 60, 8, 4)
        found.append(components(whole.where(rng.random(whole.feature.size) < 0.7 + 0.3 * (whole.feature % 2))))
    assert np.mean(found, axis=0) == pytest.approx(truth, rel=0.1)


def test_a_balanced_table_by_mean_squares() -> None:
    y = np.random.default_rng(1).normal(size=(6, 4)) + np.arange(6)[:, None]
    feature, annotator = np.divmod(np.arange(24), 4)
    rows = 4 * np.sum((y.mean(axis=1) - y.mean()) ** 2) / 5
    columns = 6 * np.sum((y.mean(axis=0) - y.mean()) ** 2) / 3
    rest = (np.sum((y - y.mean()) ** 2) - 5 * rows - 3 * columns) / 15
    found = components(make_measured(feature, annotator, y.ravel()))
    assert found.residual == pytest.approx(rest)
    assert found.feature == pytest.approx((rows - rest) / 4)
    assert found.annotator == pytest.approx(max(0, (columns - rest) / 6))


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(ValueError, match="two annotators on common features"):
        components(make_measured(np.arange(10), np.arange(10), np.arange(10)))
    with pytest.raises(ValueError, match="two annotators"):
        components(make_measured(np.arange(10), np.zeros(10), np.arange(10)))


@pytest.mark.parametrize(("n_features", "n_annotators", "overlap"), [(60, 6, 3), (84, 20, 4)])
def test_the_forecast_is_the_width_that_comes_out(n_features: int, n_annotators: int, overlap: int) -> None:
    rng = np.random.default_rng(2)
    truth = Components(0.03, 0.01, 0.12)
    widths = []
    for _ in range(60):
        measured = draw(rng, truth, n_features, n_annotators, overlap)
        figure = accuracy(measured, rng, of="test", minus=-10.0, n_resamples=200)
        wide = figure._replace(low=figure.low, high=figure.high)
        assert wide.low is not None
        assert wide.high is not None
        widths.append((wide.high - wide.low) / 2)
    assert np.mean(widths) == pytest.approx(expected_half_width(truth, n_features, n_annotators, overlap), rel=0.12)


def test_more_of_anything_narrows_the_forecast() -> None:
    shares = share_components(0.8)
    assert sum(shares) == pytest.approx(0.16)
    base = expected_half_width(shares, 100, 8, 3)
    assert expected_half_width(shares, 200, 8, 3) < base
    assert expected_half_width(shares, 100, 16, 3) < base
    assert expected_half_width(shares, 100, 8, 6) < base
    assert expected_half_width(shares, 1, 8, 3) == math.inf
    assert expected_half_width(shares, 100, 1, 1) > 0
