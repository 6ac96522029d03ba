"""Two-way (pigeonhole) bootstrap over annotators and features.

An answer belongs to an annotator and to a feature, and both are samples. A resample draws annotators and features with
replacement; an answer counts w_annotator * w_feature times (Owen, "The pigeonhole bootstrap", 2007). Intervals from
answers alone cover 69-74 % instead of 95 % (research/annotation.md §3); these cover 95-98 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.ratings import Ratings

N_RESAMPLES = 2000
MIN_RESAMPLES = 200
RESAMPLED_ANSWERS = 120_000_000
"""Above 60,000 answers fewer resamples are drawn: the intervals are narrow then, and 2,000 would take minutes."""
MANY_FEATURES = 5000
CHUNK_CELLS = 500_000
POISSON = np.searchsorted(
    np.cumsum([math.exp(-1) / math.factorial(count) for count in range(9)]), np.arange(2**16) / 2**16, side="right"
).astype(np.uint8)
"""The quantiles of a Poisson variable of mean 1: a random uint16 looks up a weight."""


class Weights(NamedTuple):
    """How often each annotator and feature was drawn, for a few resamples at a time."""

    annotators: npt.NDArray[np.float32]  # [n_annotators, resample]
    features: npt.NDArray[np.float32]  # [n_features, resample]


def n_resamples_for(n_answers: int) -> int:
    return int(min(N_RESAMPLES, max(MIN_RESAMPLES, RESAMPLED_ANSWERS // max(1, n_answers))))


def resample(
    ratings: Ratings, rng: np.random.Generator, *, n_resamples: int, stratum: npt.NDArray[np.int64] | None = None
) -> Iterator[Weights]:
    """Weights of all resamples, a few at a time so that memory is flat.

    `stratum` [n_features]: features are drawn within their stratum (blocks, conditions), as the sampler drew them.
    """
    strata = np.zeros(ratings.n_features, dtype=np.int64) if stratum is None else stratum
    step = max(1, min(n_resamples, CHUNK_CELLS // max(1, ratings.n_features)))
    same = np.zeros(ratings.n_annotators, dtype=np.int64)
    for start in range(0, n_resamples, step):
        n = min(step, n_resamples - start)
        draw = _draw if ratings.n_features <= MANY_FEATURES else _draw_many
        yield Weights(_draw(same, n, rng), draw(strata, n, rng))


def _draw(stratum: npt.NDArray[np.int64], n: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """How often each unit is drawn when each stratum is drawn with replacement at its own size."""
    order = np.argsort(stratum, kind="stable")
    _, start, inverse, size = np.unique(stratum[order], return_index=True, return_inverse=True, return_counts=True)
    drawn = (rng.random((stratum.size, n)) * size[inverse][:, None]).astype(np.int64) + start[inverse][:, None]
    cells = order[drawn] * n + np.arange(n)
    return np.bincount(cells.ravel(), minlength=stratum.size * n).reshape(stratum.size, n).astype(np.float32)


def _draw_many(stratum: npt.NDArray[np.int64], n: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Independent Poisson weights: what drawing many with replacement comes to, several times as fast.

    (Chamandy et al., "Estimating uncertainty for massive data streams", 2012.) The sizes of strata vary a little;
    every statistic here divides by them.
    """
    return POISSON[rng.integers(0, 2**16, size=(stratum.size, n), dtype=np.uint16)].astype(np.float32)


def incidence(ratings: Ratings, row_value: npt.ArrayLike = 1.0) -> Any:
    """Sparse [n_features, n_annotators]: times annotators' weights it gives weighted sums per feature."""
    from scipy.sparse import csr_array

    values = np.broadcast_to(np.asarray(row_value, dtype=np.float32), ratings.value.shape)
    return csr_array((values, (ratings.feature, ratings.annotator)), shape=(ratings.n_features, ratings.n_annotators))


def ratio(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Elementwise quotient, NaN where the denominator is zero."""
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out
