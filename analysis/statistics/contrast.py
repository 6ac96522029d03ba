"""Control-corrected AUC: P(rating of a real feature > rating of a control), ties half.

0.5 says that annotators rate real features no better than controls; 1 that any real one beats any control. It needs no
cut on the scale and is not moved by annotators who are generous to everything.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import Floats, ratio
from analysis.statistics.figures import Figure, undefined
from analysis.statistics.measured import Measured, Values
from analysis.statistics.ratings import Ratings
from analysis.statistics.two_way import Statistic, estimate, figures_from
from analysis.statistics.wording import Words


def auc_over_controls(
    ratings: Ratings,
    rng: np.random.Generator,
    *,
    is_control: npt.NDArray[np.bool_],
    n_categories: int,
    of: str,
    n_resamples: int | None = None,
) -> Figure:
    """`is_control` [n_features]. Real features and controls are resampled apart, annotators together."""
    counts = ratings.counts()
    if not is_control.any() or is_control.all():
        missing = Words("controls") if not is_control.any() else Words("real features")
        return undefined(of, counts, Words("undefined: no answers on %(missing)s", missing=missing))
    of_kind = (n_categories * is_control - 1).astype(np.int8)  # small types: a million answers take a megabyte
    cells = ratings.value + of_kind[ratings.feature]
    measured = Measured(ratings.feature, ratings.annotator, cells[None], ratings.n_features, ratings.n_annotators)
    stratum = is_control.astype(np.int64)
    estimates = estimate(measured, auc_statistic(n_categories), rng, n_resamples=n_resamples, stratum=stratum)
    return figures_from(estimates, [of], counts)[0]


def auc_statistic(n_categories: int) -> Statistic:
    """Of values [1, answer]: category from 0, plus `n_categories` where the answer is on a control (on noise)."""
    cells = np.arange(2 * n_categories)[:, None]

    def columns(values: Values) -> Values:
        return np.asarray(values[0] == cells)

    return Statistic(lambda sums: auc_of_histograms(sums)[None], columns)


def auc_of_histograms(histograms: Floats) -> Floats:
    """[2 * category, r], of real features, then of controls -> [r]."""
    real, control = np.split(histograms, 2)
    below = np.cumsum(control, axis=0) - control
    return ratio(np.sum(real * (below + control / 2), axis=0), real.sum(axis=0) * control.sum(axis=0))
