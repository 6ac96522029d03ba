"""Detection: hits and false alarms, balanced accuracy, d' and the AUC of graded confidence.

Values of an answer are four counts: signals called signal, signals, noises called signal, noises. Rates are pooled over
answers. d' = z(H) - z(FA) with the log-linear correction H = (hits + .5) / (signals + 1) (Hautus, 1995), which keeps it
finite at 0 and 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import Floats, ratio
from analysis.statistics.contrast import auc_statistic
from analysis.statistics.figures import Figure, undefined
from analysis.statistics.measured import Measured, Values
from analysis.statistics.two_way import Statistic, estimate, figures_from, one_figure
from analysis.statistics.wording import Words

MOST = 20.0  # no d' lies beyond


class Detection(NamedTuple):
    hit: Figure
    false_alarm: Figure
    balanced_accuracy: Figure
    d_prime: Figure


def rates(sums: Floats) -> Floats:
    """[4, r] -> hit, false alarm, balanced accuracy, d' [4, r]."""
    from scipy.special import ndtri

    hit, false_alarm = ratio(sums[0], sums[1]), ratio(sums[2], sums[3])
    corrected = (np.maximum(sums[::2], 0) + 0.5) / (np.maximum(sums[1::2], 0) + 1)
    d_prime = ndtri(np.clip(corrected[0], 1e-9, 1 - 1e-9)) - ndtri(np.clip(corrected[1], 1e-9, 1 - 1e-9))
    d_prime = np.where(np.isfinite(hit) & np.isfinite(false_alarm), d_prime, np.nan)
    return np.stack([hit, false_alarm, (hit + 1 - false_alarm) / 2, d_prime])


def detection(measured: Measured, rng: np.random.Generator, *, of: str, n_resamples: int | None = None) -> Detection:
    names = [
        Words("%(what)s: %(of)s", what=name, of=of)
        for name in (Words("hit rate"), Words("false alarm rate"), Words("balanced accuracy"), Words("d′"))
    ]
    counts = measured.counts()
    if counts.n_answers == 0:
        return Detection(*(undefined(name, counts, Words("no answers yet")) for name in names))
    estimates = estimate(measured, Statistic(rates), rng, n_resamples=n_resamples)
    shares = figures_from(estimates, names, counts, is_exact_at=(0.0, 1.0))
    d_prime = figures_from(estimates, names, counts, bounds=(-MOST, MOST))[3]
    return Detection(shares[0], shares[1], shares[2], d_prime)


def information(
    measured: Measured,
    rng: np.random.Generator,
    *,
    of: str,
    is_shuffled: npt.NDArray[np.bool_],
    n_resamples: int | None = None,
) -> Figure:
    """Balanced accuracy under the feature's own explanation less that under another's; `is_shuffled` [answer]."""

    def columns(values: Values) -> Values:
        own = values[4] == 0
        return np.concatenate([values[:4] * own, values[:4] * ~own])

    def finish(sums: Floats) -> Floats:
        return np.asarray((rates(sums[:4])[2] - rates(sums[4:])[2])[None])

    both = measured._replace(values=np.concatenate([measured.values, is_shuffled[None].astype(measured.values.dtype)]))
    return one_figure(both, Statistic(finish, columns), rng, of=of, bounds=(-1.0, 1.0), n_resamples=n_resamples)


def graded_auc(
    measured: Measured, rng: np.random.Generator, *, n_categories: int, of: str, n_resamples: int | None = None
) -> Figure:
    """P(a signal is graded above a noise), ties half. Values: category from 0, plus `n_categories` on noise."""
    return one_figure(measured, auc_statistic(n_categories), rng, of=of, n_resamples=n_resamples)
