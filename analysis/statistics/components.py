"""Variance components of answers: between features, between annotators, and the rest.

y = mean + feature + annotator + residual, by the method of moments for unbalanced tables (Henderson's first method,
1953): four sums of squares, each linear in the components. The residual holds the noise of one answer and what an
annotator makes of one feature; with one answer per cell they cannot be told apart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from analysis.statistics.measured import Measured
from analysis.statistics.wording import Words


class Components(NamedTuple):
    """Variances."""

    feature: float
    annotator: float
    residual: float


def components(measured: Measured) -> Components:
    """Of the first row of values; negative estimates become 0. Needs two features, two annotators and some overlap."""
    y = measured.values[0].astype(np.float64)
    n = y.size
    n_f, n_a = (_count(unit, size) for unit, size in _units(measured))
    sum_f = np.bincount(measured.feature, weights=y, minlength=measured.n_features)
    sum_a = np.bincount(measured.annotator, weights=y, minlength=measured.n_annotators)
    cells = measured.feature.astype(np.int64) * measured.n_annotators + measured.annotator
    cell, n_cell = np.unique(cells, return_counts=True)
    cell_f, cell_a = np.divmod(cell, measured.n_annotators)
    squares = np.array([np.sum(y**2), np.sum(sum_f**2 / n_f), np.sum(sum_a**2 / n_a), y.sum() ** 2 / n])
    # Expectations: n * mean^2 in each, and these multiples of (feature, annotator, residual).
    multiples = np.array(
        [
            [n, n, n],
            [n, np.sum(n_cell**2 / n_f[cell_f]), measured.n_features],
            [np.sum(n_cell**2 / n_a[cell_a]), n, measured.n_annotators],
            [np.sum(n_f**2) / n, np.sum(n_a**2) / n, 1],
        ]
    )
    system = multiples[:3] - multiples[3]
    if n < 4 or min(measured.n_features, measured.n_annotators) < 2 or np.linalg.cond(system) > 1e10:
        raise ValueError(
            Words("Variance components need answers of two annotators on common features, and two features.")
        )
    feature, annotator, residual = np.maximum(0, np.linalg.solve(system, squares[:3] - squares[3]))
    return Components(float(feature), float(annotator), float(residual))


def _units(measured: Measured) -> tuple[tuple[np.ndarray, int], tuple[np.ndarray, int]]:
    return (measured.feature, measured.n_features), (measured.annotator, measured.n_annotators)


def _count(unit: np.ndarray, size: int) -> np.ndarray:
    return np.bincount(unit, minlength=size)
