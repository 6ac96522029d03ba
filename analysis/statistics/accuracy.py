"""Right answers: their share, over chance and over the same question without references; calibration; verdicts.

Values are one row, 1 right and 0 wrong. A share is over answers; its interval is two-way (two_way.py). One feature is
called above chance by the exact binomial test of its own answers, at a false discovery rate over all of them (Benjamini
and Hochberg, 1995).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import Floats, ratio
from analysis.statistics.figures import Figure, bare
from analysis.statistics.measured import Measured, Values
from analysis.statistics.two_way import Statistic, one_figure
from analysis.statistics.wording import Words

DISCOVERY_RATE = 0.05


def share_statistic(minus: float = 0.0) -> Statistic:
    """Sums of (value, 1): the mean value, less a constant such as chance."""

    def columns(values: Values) -> Values:
        return np.stack([values[0].astype(np.float32), np.ones(values.shape[1], np.float32)])

    return Statistic(lambda sums: ratio(sums[0], sums[1])[None] - minus, columns)


def mean_value(
    measured: Measured,
    rng: np.random.Generator,
    *,
    of: str,
    minus: float = 0.0,
    bounds: tuple[float, float] = (0.0, 1.0),
    n_resamples: int | None = None,
) -> Figure:
    """Share right, share of an indicator, mean of a score; `bounds` are those of the value less `minus`."""
    statistic = share_statistic(minus)
    return one_figure(measured, statistic, rng, of=of, bounds=bounds, is_exact_at=bounds, n_resamples=n_resamples)


def accuracy(
    measured: Measured, rng: np.random.Generator, *, of: str, minus: float = 0.0, n_resamples: int | None = None
) -> Figure:
    """`minus`: 0 for the share right, chance for accuracy over chance."""
    bounds = (0.0 - minus, 1.0 - minus)
    return mean_value(measured, rng, of=of, minus=minus, bounds=bounds, n_resamples=n_resamples)


def difference(
    measured: Measured,
    rng: np.random.Generator,
    *,
    of: str,
    is_first: npt.NDArray[np.bool_],
    n_resamples: int | None = None,
) -> Figure:
    """Mean value of the first kind of answers less that of the others: lift is p(reference) - p(no reference).

    `is_first` [answer]. Both kinds may be of the same features and by the same annotators, and are resampled together.
    """

    def columns(values: Values) -> Values:
        value, first = values[0].astype(np.float32), values[1] != 0
        return np.stack([value * first, first, value * ~first, ~first])

    def finish(sums: Floats) -> Floats:
        return (ratio(sums[0], sums[1]) - ratio(sums[2], sums[3]))[None]

    both = measured._replace(values=np.stack([measured.values[0], is_first.astype(measured.values.dtype)]))
    return one_figure(both, Statistic(finish, columns), rng, of=of, bounds=(-1.0, 1.0), n_resamples=n_resamples)


def calibration(
    measured: Measured, rng: np.random.Generator, *, confidence: npt.NDArray[np.int8], of: Mapping[int, str]
) -> list[tuple[str, Figure]]:
    """Share right at each level of confidence [answer]; `of` names the levels."""
    return [
        (
            name,
            accuracy(
                measured.where(confidence == level),
                rng,
                of=Words("share right where the annotator said: %(name)s", name=name),
            ),
        )
        for level, name in of.items()
    ]


class Verdicts(NamedTuple):
    """Per feature [n_features]."""

    n: npt.NDArray[np.int64]
    n_right: npt.NDArray[np.int64]
    p: Floats
    is_above: npt.NDArray[np.bool_]


def verdicts(measured: Measured, *, chance: float, rate: float = DISCOVERY_RATE) -> Verdicts:
    """Which features are told above chance."""
    from scipy.stats import binom

    n = np.bincount(measured.feature, minlength=measured.n_features)
    n_right = np.bincount(measured.feature, weights=measured.values[0], minlength=measured.n_features).astype(np.int64)
    p = np.asarray(binom.sf(n_right - 1, n, chance), dtype=np.float64)
    return Verdicts(n, n_right, p, discoveries(p, rate))


def discoveries(p: Floats, rate: float) -> npt.NDArray[np.bool_]:
    """Benjamini and Hochberg: all p up to the largest that lies below its rank's share of `rate`."""
    order = np.argsort(p, kind="stable")
    passed = p[order] <= rate * np.arange(1, p.size + 1) / max(1, p.size)
    found = np.zeros(p.size, dtype=bool)
    if passed.any():
        found[order[: np.flatnonzero(passed)[-1] + 1]] = True
    return found


def share_above_chance(measured: Measured, *, chance: float, of: str) -> Figure:
    """How many features were told above chance: a count of verdicts, so without an interval."""
    found = verdicts(measured, chance=chance)
    note = Words(
        "exact binomial test per feature, false discovery rate %(discovery_rate)s", discovery_rate=f"{DISCOVERY_RATE:g}"
    )
    if measured.n_features == 0:
        return Figure(of, None, None, None, 0, 0, 0, Words("no answers yet"))
    return bare(of, float(found.is_above.mean()), measured.counts(), note)
