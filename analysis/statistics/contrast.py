"""Control-corrected AUC: P(rating of a real feature > rating of a control), ties half.

0.5 says that annotators rate real features no better than controls; 1 that any real one beats any control. It needs no
cut on the scale and is not moved by annotators who are generous to everything.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import (
    Block,
    Floats,
    Weights,
    make_blocks,
    n_resamples_for,
    ratio,
    resampled_sums,
    total_sums,
)
from analysis.statistics.figures import Figure, undefined, with_interval
from analysis.statistics.ratings import Ratings


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
        missing = "controls" if not is_control.any() else "real features"
        return undefined(of, counts, f"undefined: no answers on {missing}")

    def sums(block: Block, annotators: Weights, features: Weights) -> npt.NDArray[np.float32]:
        """Weighted answers per category, of real features, then of controls."""
        control = is_control[block.features]
        weighted = [(table @ annotators) * features for table in block.tables]
        return np.stack([cells[kind].sum(axis=0) for kind in (~control, control) for cells in weighted])

    blocks = make_blocks(ratings, [ratings.value == category for category in range(1, n_categories + 1)])
    n = n_resamples or n_resamples_for(ratings.value.size)
    resampled = resampled_sums(ratings, blocks, sums, rng, n_resamples=n, stratum=is_control.astype(np.int64))
    value = float(_auc(total_sums(ratings, blocks, sums))[0])
    figure = with_interval(of, value, counts, _auc(resampled))
    return figure if figure.low is None else figure._replace(low=max(figure.low, 0.0))


def _auc(histograms: Floats) -> Floats:
    real, control = np.split(histograms, 2)
    below = np.cumsum(control, axis=0) - control
    return ratio(np.sum(real * (below + control / 2), axis=0), real.sum(axis=0) * control.sum(axis=0))
