"""Statistics of sums over answers, with an interval over annotators and features: shape, then width.

The shape is that of the two-way bootstrap (bootstrap.py). Its width counts the noise of a single answer three times
(Owen, "The pigeonhole bootstrap", 2007), which is far too wide where that noise dominates, and takes no account of few
annotators. So the width is set by the two-way variance V = V_features + V_annotators - V_answers (Cameron, Gelbach and
Miller, "Robust inference with multiway clustering", 2011), each term by leaving one out, and by the quantile of
Student's t with Satterthwaite's degrees of freedom. V is never taken below V_features or V_annotators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import (
    Block,
    Blocks,
    Floats,
    Weights,
    n_resamples_for,
    resampled_sums,
)
from analysis.statistics.codes import Codes
from analysis.statistics.figures import Counts, Figure, exact_bound, undefined, with_interval
from analysis.statistics.measured import Measured, Values
from analysis.statistics.wording import Words

Finish = Callable[[Floats], Floats]
"""Sums [column, r] -> statistics [m, r], NaN where undefined."""
Columns = Callable[[Values], Values]
"""Values of some answers [value, answer] -> what is summed [column, answer]."""
CHUNK = 65_536
UNDEFINED = Words("undefined: no answers of a kind that it needs")


class Statistic(NamedTuple):
    """A function of sums over answers."""

    finish: Finish
    columns: Columns = lambda values: values


class Estimates(NamedTuple):
    """Of m statistics."""

    value: Floats  # [m]
    resampled: Floats  # [m, resample]
    error: Floats  # [m], standard error
    freedom: Floats  # [m], degrees of freedom


def estimate(
    measured: Measured,
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    n_resamples: int | None = None,
    stratum: npt.NDArray[np.int64] | None = None,
) -> Estimates:
    """`stratum` [n_features]: groups of features that are resampled apart."""
    total = _total(measured, statistic)
    error, freedom = two_way_error(measured, statistic, total)
    n = n_resamples or n_resamples_for(measured.feature.size)
    blocks = Blocks(measured, lambda rows: list(statistic.columns(measured.values[:, rows])))
    resampled = statistic.finish(resampled_sums(measured, blocks, _sums, rng, n_resamples=n, stratum=stratum))
    return Estimates(statistic.finish(total)[:, 0], resampled, error, freedom)


def _sums(block: Block, annotators: Weights, features: Weights) -> Weights:
    return np.stack([((table @ annotators) * features).sum(axis=0) for table in block.tables])


def _chunks(measured: Measured, statistic: Statistic) -> Iterator[tuple[slice, Floats]]:
    for start in range(0, measured.feature.size, CHUNK):
        rows = slice(start, start + CHUNK)
        yield rows, statistic.columns(measured.values[:, rows]).astype(np.float64)


def _total(measured: Measured, statistic: Statistic) -> Floats:
    sums = [columns.sum(axis=1) for _, columns in _chunks(measured, statistic)]
    return np.asarray(np.sum(np.stack(sums), axis=0)[:, None])


def two_way_error(measured: Measured, statistic: Statistic, total: Floats) -> tuple[Floats, Floats]:
    """Standard error and degrees of freedom [m]."""
    whole = statistic.finish(total)
    features, annotators, answers = (Jackknife(whole) for _ in range(3))
    by_annotator = np.zeros((total.size, measured.n_annotators))
    pending = np.zeros((total.size, 0))  # the last feature of a chunk may go on in the next
    first = 0
    for rows, columns in _chunks(measured, statistic):
        by_annotator += _per_unit(columns, measured.annotator[rows], measured.n_annotators)
        unit = measured.feature[rows].astype(np.int64) - first
        by_feature = _per_unit(columns, unit, int(unit[-1]) + 1)
        by_feature[:, : pending.shape[1]] += pending
        first, pending = first + by_feature.shape[1] - 1, by_feature[:, -1:]
        features.leave_out(by_feature[:, :-1], total, statistic)
        distinct, n = _distinct(columns)
        answers.leave_out(distinct, total, statistic, n)
    features.leave_out(pending, total, statistic)
    annotators.leave_out(by_annotator, total, statistic)
    return _combined(features, annotators, answers, measured.n_annotators)


def _combined(
    features: Jackknife, annotators: Jackknife, answers: Jackknife, n_annotators: int
) -> tuple[Floats, Floats]:
    of_features, of_annotators = features.variance(), annotators.variance()
    if n_annotators < 2:
        return np.sqrt(of_features), features.n - 1
    variance = np.maximum(of_features + of_annotators - answers.variance(), np.maximum(of_features, of_annotators))
    spread = of_features**2 / np.maximum(1, features.n - 1) + of_annotators**2 / np.maximum(1, annotators.n - 1)
    freedom = np.divide(variance**2, spread, out=np.full_like(variance, np.inf), where=spread > 0)
    return np.sqrt(variance), freedom


class Jackknife:
    """The variance of m statistics by leaving out one unit at a time, the units coming in any number of parts."""

    def __init__(self, whole: Floats) -> None:
        self.whole = whole
        self.n = np.zeros(whole.shape[0])  # units that the statistic hangs on
        self._sum, self._squares = np.zeros(whole.shape[0]), np.zeros(whole.shape[0])

    def leave_out(
        self, units: Floats, total: Floats, statistic: Statistic, n: npt.NDArray[np.int64] | None = None
    ) -> None:
        """`units` [column, unit]: their sums; `n` [unit]: how many there are of each kind."""
        if units.shape[1] == 0:
            return
        moved = statistic.finish(total - units) - self.whole
        counted = np.isfinite(moved) & np.any(units != 0, axis=0)
        times = counted * (1 if n is None else n)
        moved = np.where(counted, moved, 0)
        self.n += times.sum(axis=1)
        self._sum += (times * moved).sum(axis=1)
        self._squares += (times * moved**2).sum(axis=1)

    def variance(self) -> Floats:
        n = np.maximum(1, self.n)
        squares: Floats = np.maximum(0, self._squares - self._sum**2 / n) * (n - 1) / n
        return squares


def _per_unit(columns: Floats, unit: Codes, n_units: int) -> Floats:
    return np.stack([np.bincount(unit, weights=column, minlength=n_units) for column in columns])


def _distinct(columns: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The distinct columns and how often each occurs; a random projection tells them apart."""
    projection = np.random.default_rng(0).normal(size=columns.shape[0])
    _, first, n = np.unique(projection @ columns, return_index=True, return_counts=True)
    return columns[:, first], n


def figures_from(
    estimates: Estimates,
    names: Sequence[str],
    counts: Counts,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    is_exact_at: tuple[float, ...] = (),
    note: str = "",
) -> list[Figure]:
    """One figure per statistic. `is_exact_at`: values at which all answers are alike: resampling sees no doubt."""
    figures = []
    for index, of in enumerate(names):
        value = float(estimates.value[index])
        if not np.isfinite(value):
            figures.append(undefined(of, counts, UNDEFINED))
        elif value in is_exact_at:
            figures.append(exact_bound(of, value, counts, bounds, note))
        else:
            width = half_width(float(estimates.error[index]), float(estimates.freedom[index]))
            figures.append(
                with_interval(of, value, counts, estimates.resampled[index], note, half_width=width, bounds=bounds)
            )
    return figures


def half_width(error: float, freedom: float) -> float:
    """Of the 95 % interval."""
    from scipy.special import stdtrit

    return float(error * stdtrit(max(1.0, min(freedom, 1e6)), 0.975))


def one_figure(
    measured: Measured,
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    of: str,
    bounds: tuple[float, float] = (0.0, 1.0),
    is_exact_at: tuple[float, ...] = (),
    n_resamples: int | None = None,
) -> Figure:
    if measured.feature.size == 0:
        return undefined(of, measured.counts(), Words("no answers yet"))
    estimates = estimate(measured, statistic, rng, n_resamples=n_resamples)
    return figures_from(estimates, [of], measured.counts(), bounds=bounds, is_exact_at=is_exact_at)[0]
