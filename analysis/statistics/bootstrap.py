"""Two-way (pigeonhole) bootstrap over annotators and features.

An answer belongs to an annotator and to a feature, and both are samples. A resample draws annotators and features with
replacement; an answer counts w_annotator * w_feature times (Owen, "The pigeonhole bootstrap", 2007). Intervals from
answers alone cover 69-74 % instead of 95 % (research/annotation.md §3); these cover 95-98 %.

Every statistic is a function of sums over features. The sums are taken block of features by block, many resamples at
once; a block is made when its turn comes, so that memory is flat and a block stays in the cache; the statistic is
finished from the sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from analysis.statistics.codes import Codes

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


class Judged(Protocol):
    """Answers of annotators on features, sorted by feature; codes are contiguous from 0."""

    @property
    def feature(self) -> Codes: ...
    @property
    def annotator(self) -> Codes: ...
    @property
    def n_features(self) -> int: ...
    @property
    def n_annotators(self) -> int: ...


ValuesOf = Callable[[slice], Sequence[npt.NDArray[Any]]]
"""The values of the answers in a slice of rows, a list of them for each table wanted."""


class Blocks:
    """One block for few features, which are drawn with replacement; several for many, each made when asked for."""

    def __init__(self, judged: Judged, values_of: ValuesOf) -> None:
        self._judged, self._values_of = judged, values_of
        self.is_one = judged.n_features <= MANY_FEATURES
        self.n_features = max(1, judged.n_features if self.is_one else BLOCK_FEATURES)

    def __iter__(self) -> Iterator[Block]:
        n = self._judged.n_features
        for start in range(0, n, self.n_features):
            yield _block(self._judged, self._values_of, start, min(start + self.n_features, n))


def _block(judged: Judged, values_of: ValuesOf, start: int, stop: int) -> Block:
    """Answers come sorted by feature, so that the tables of a block share one index."""
    from scipy.sparse import csr_array

    row_starts = np.searchsorted(judged.feature, np.arange(start, stop + 1, dtype=judged.feature.dtype))
    rows = slice(row_starts[0], row_starts[-1])
    ends = (row_starts - row_starts[0]).astype(np.int32)
    shape = (stop - start, judged.n_annotators)
    columns = judged.annotator[rows].astype(np.int32)
    ones, *tables = [
        csr_array((data.astype(np.float32), columns, ends), shape=shape, copy=False)
        for data in (np.ones(columns.size), *values_of(rows))
    ]
    return Block(slice(start, stop), ones, tables)


def total_sums(judged: Judged, blocks: Blocks, sums: Sums) -> Floats:
    """[k, 1]: of the answers as they are."""
    annotators = np.ones((judged.n_annotators, 1))
    total: Floats | float = 0.0
    for block in blocks:
        total = total + sums(block, annotators, np.ones((block.judged.shape[0], 1))).astype(np.float64)
    return np.asarray(total)


def resampled_sums(
    judged: Judged,
    blocks: Blocks,
    sums: Sums,
    rng: np.random.Generator,
    *,
    n_resamples: int,
    stratum: npt.NDArray[np.int64] | None = None,
) -> Floats:
    """[k, n_resamples]. Few features are drawn within their `stratum` [n_features], as the sampler drew them."""
    strata = np.zeros(judged.n_features, dtype=np.int64) if stratum is None else stratum
    annotators = draw_weights(np.zeros(judged.n_annotators, dtype=np.int64), n_resamples, rng)
    step = max(1, BLOCK_CELLS // blocks.n_features)
    starts = range(0, n_resamples, step)
    totals: list[Floats | float] = [0.0 for _ in starts]
    for block in blocks:
        for index, start in enumerate(starts):
            drawn = annotators[:, start : start + step]
            n = drawn.shape[1]
            rows = block.judged.shape[0]
            features = draw_weights(strata, n, rng) if blocks.is_one else draw_poisson_weights(rows, n, rng)
            totals[index] = totals[index] + sums(block, drawn, features).astype(np.float64)
    return np.concatenate([np.asarray(total) for total in totals], axis=1)


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
