"""Two-way (pigeonhole) bootstrap over annotators and features.

An answer belongs to an annotator and to a feature, and both are samples. A resample draws annotators and features with
replacement; an answer counts w_annotator * w_feature times (Owen, "The pigeonhole bootstrap", 2007). Intervals from
answers alone cover 69-74 % instead of 95 % (research/annotation.md §3); these cover 95-98 %.

Every statistic is a function of sums over features. The sums are taken block of features by block, many resamples at
once, so that memory is flat and a block stays in the cache; the statistic is finished from the sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.ratings import Ratings

N_RESAMPLES = 2000
MIN_RESAMPLES = 200
RESAMPLED_ANSWERS = 120_000_000
"""Above 60,000 answers fewer resamples are drawn: the intervals are narrow then, and 2,000 would take minutes."""
MANY_FEATURES = 5000
BLOCK_FEATURES = 2048
BLOCK_CELLS = 130_000
POISSON = np.searchsorted(
    np.cumsum([math.exp(-1) / math.factorial(count) for count in range(9)]), np.arange(2**16) / 2**16, side="right"
).astype(np.uint8)
"""The quantiles of a Poisson variable of mean 1: a random uint16 looks up a weight."""

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[Any]


class Block(NamedTuple):
    """Some features: `judged` and `tables` are sparse [feature, annotator], so that `@` annotators' weights sums."""

    features: slice
    judged: Any  # 1 where there is an answer
    tables: list[Any]  # a value per answer, for each list of values that the statistic asked for


Sums = Callable[[Block, Weights, Weights], npt.NDArray[Any]]
"""(block, weights of annotators [annotator, resample], weights of its features [feature, resample]) -> [k, resample]"""


def n_resamples_for(n_answers: int) -> int:
    return int(min(N_RESAMPLES, max(MIN_RESAMPLES, RESAMPLED_ANSWERS // max(1, n_answers))))


def make_blocks(ratings: Ratings, values: Sequence[npt.NDArray[Any]]) -> list[Block]:
    """One block for few features, which are drawn with replacement; several for many."""
    step = max(1, ratings.n_features if ratings.n_features <= MANY_FEATURES else BLOCK_FEATURES)
    return [
        _block(ratings, values, start, min(start + step, ratings.n_features))
        for start in range(0, ratings.n_features, step)
    ]


def _block(ratings: Ratings, values: Sequence[npt.NDArray[Any]], start: int, stop: int) -> Block:
    """Ratings come sorted by feature, so that the tables of a block share one index."""
    from scipy.sparse import csr_array

    row_starts = np.searchsorted(ratings.feature, np.arange(start, stop + 1))
    rows = slice(row_starts[0], row_starts[-1])
    ends = (row_starts - row_starts[0]).astype(np.int32)
    shape = (stop - start, ratings.n_annotators)
    columns = ratings.annotator[rows]
    judged, *tables = [
        csr_array((data.astype(np.float32), columns, ends), shape=shape, copy=False)
        for data in (np.ones(columns.size), *(value[rows] for value in values))
    ]
    return Block(slice(start, stop), judged, tables)


def total_sums(ratings: Ratings, blocks: list[Block], sums: Sums) -> Floats:
    """[k, 1]: of the answers as they are."""
    annotators = np.ones((ratings.n_annotators, 1))
    totals = [sums(block, annotators, np.ones((block.judged.shape[0], 1))) for block in blocks]
    summed: Floats = np.sum(totals, axis=0, dtype=np.float64)
    return summed


def resampled_sums(
    ratings: Ratings,
    blocks: list[Block],
    sums: Sums,
    rng: np.random.Generator,
    *,
    n_resamples: int,
    stratum: npt.NDArray[np.int64] | None = None,
) -> Floats:
    """[k, n_resamples]. Few features are drawn within their `stratum` [n_features], as the sampler drew them."""
    strata = np.zeros(ratings.n_features, dtype=np.int64) if stratum is None else stratum
    same = np.zeros(ratings.n_annotators, dtype=np.int64)
    step = max(1, BLOCK_CELLS // max(1, blocks[0].judged.shape[0]))
    chunks = []
    for start in range(0, n_resamples, step):
        n = min(step, n_resamples - start)
        annotators = draw_weights(same, n, rng)
        total: Floats | float = 0.0
        for block in blocks:
            few = len(blocks) == 1
            features = draw_weights(strata, n, rng) if few else draw_poisson_weights(block.judged.shape[0], n, rng)
            total = total + sums(block, annotators, features).astype(np.float64)
        chunks.append(np.asarray(total))
    return np.concatenate(chunks, axis=1)


def draw_weights(stratum: npt.NDArray[np.int64], n: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """How often each unit is drawn when each stratum is drawn with replacement at its own size; [unit, n]."""
    order = np.argsort(stratum, kind="stable")
    _, start, inverse, size = np.unique(stratum[order], return_index=True, return_inverse=True, return_counts=True)
    drawn = (rng.random((stratum.size, n)) * size[inverse][:, None]).astype(np.int64) + start[inverse][:, None]
    cells = order[drawn] * n + np.arange(n)
    return np.bincount(cells.ravel(), minlength=stratum.size * n).reshape(stratum.size, n).astype(np.float32)


def draw_poisson_weights(n_units: int, n: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Independent Poisson weights: what drawing many with replacement comes to, several times as fast.

    (Chamandy et al., "Estimating uncertainty for massive data streams", 2012.) The sizes of strata vary a little;
    every statistic here divides by them.
    """
    return POISSON[rng.integers(0, 2**16, size=(n_units, n), dtype=np.uint16)].astype(np.float32)


def ratio(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any]) -> Floats:
    """Elementwise quotient, NaN where the denominator is zero."""
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out
