"""Marked patches against a feature's map: the area under the ROC curve and the average precision, less chance.

Chance is what the same marks reach on the same map shifted around the grid (all shifts, both ways round the edges),
which keeps how blotchy map and marks are. Over all shifts every patch bears every value once, so that the chance of the
area is one half exactly; that of the average precision is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]


def area(patch_map: npt.NDArray[np.float64], marked: Flags) -> float:
    """P(the map is higher at a marked patch than at another), ties half: from ranks."""
    from scipy.stats import rankdata

    ranks = rankdata(patch_map.ravel())
    n, n_other = int(marked.sum()), int((~marked).sum())
    return float((ranks[marked.ravel()].sum() - n * (n + 1) / 2) / (n * n_other))


def precision(patch_map: npt.NDArray[np.float64], marked: Flags) -> float:
    """Mean over the marked patches of the share marked among all patches as high; patches alike count together."""
    return float(_precisions(patch_map.ravel(), np.flatnonzero(marked.ravel())[None])[0])


def chance_of_precision(patch_map: npt.NDArray[np.float64], marked: Flags) -> float:
    """Mean over all shifts; shifting the marks is shifting the map the other way."""
    rows, columns = patch_map.shape
    row, column = np.nonzero(marked)
    steps = np.indices(patch_map.shape).reshape(2, -1, 1)
    shifted = (row + steps[0]) % rows * columns + (column + steps[1]) % columns
    return float(_precisions(patch_map.ravel(), shifted).mean())


def _precisions(values: npt.NDArray[np.float64], marked: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """`marked` [case, mark] are places in `values`; the average precision of each case."""
    at = np.sort(values[marked], axis=1)[:, ::-1]
    ordered = np.sort(values)
    n_as_high = values.size - np.searchsorted(ordered, at, side="left")
    # How many marks are as high: the place of the last of those that are alike.
    place = np.broadcast_to(np.arange(1, at.shape[1] + 1), at.shape)
    is_last = np.ones(at.shape, dtype=bool)
    is_last[:, :-1] = at[:, :-1] != at[:, 1:]
    n_marked = np.minimum.accumulate(np.where(is_last, place, at.shape[1])[:, ::-1], axis=1)[:, ::-1]
    means: npt.NDArray[np.float64] = np.mean(n_marked / n_as_high, axis=1)
    return means


def mean_of(scores: Sequence[float | None]) -> float | None:
    told = [score for score in scores if score is not None]
    return sum(told) / len(told) if told else None
