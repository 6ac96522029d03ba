"""Control-corrected AUC: P(rating of a real feature > rating of a control), ties half.

0.5 says that annotators rate real features no better than controls; 1 that any real one beats any control. It needs no
cut on the scale and is not moved by annotators who are generous to everything.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import incidence, n_resamples_for, ratio, resample
from analysis.statistics.figures import Counts, Figure, undefined, with_interval
from analysis.statistics.ratings import Ratings


class Histograms(NamedTuple):
    """Weighted answers per category [category, resample] of real features and of controls."""

    real: npt.NDArray[np.float64]
    control: npt.NDArray[np.float64]


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
    counts = Counts(ratings.value.size, ratings.n_features, ratings.counts().n_annotators)
    if not is_control.any() or is_control.all():
        missing = "controls" if not is_control.any() else "real features"
        return undefined(of, counts, f"undefined: no answers on {missing}")
    tables = [incidence(ratings, ratings.value == category) for category in range(1, n_categories + 1)]
    ones = np.ones((ratings.n_annotators, 1)), np.ones((ratings.n_features, 1))
    value = float(_auc(_histograms(tables, is_control, *ones))[0])
    n = n_resamples or n_resamples_for(ratings.value.size)
    resampled = np.concatenate(
        [
            _auc(_histograms(tables, is_control, weights.annotators, weights.features))
            for weights in resample(ratings, rng, n_resamples=n, stratum=is_control.astype(np.int64))
        ]
    )
    figure = with_interval(of, value, counts, resampled)
    return figure if figure.low is None else figure._replace(low=max(figure.low, 0.0))


def _histograms(
    tables: list[Any], is_control: npt.NDArray[np.bool_], annotators: npt.NDArray[Any], features: npt.NDArray[Any]
) -> Histograms:
    weighted = [(table @ annotators) * features for table in tables]
    control = np.stack([cells[is_control].sum(axis=0, dtype=np.float64) for cells in weighted])
    everything = np.stack([cells.sum(axis=0, dtype=np.float64) for cells in weighted])
    return Histograms(everything - control, control)


def _auc(histograms: Histograms) -> npt.NDArray[np.float64]:
    below = np.cumsum(histograms.control, axis=0) - histograms.control
    wins = np.sum(histograms.real * (below + histograms.control / 2), axis=0)
    return ratio(wins, histograms.real.sum(axis=0) * histograms.control.sum(axis=0))
