"""Repeats: how often an annotator who is shown an item again answers as before."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.categories import share
from analysis.statistics.figures import Figure
from analysis.statistics.measured import make_measured


class Pairs(NamedTuple):
    """First and repeated answer of one annotator on one item, as codes."""

    feature: npt.NDArray[np.int64]
    annotator: npt.NDArray[np.int32]
    first: npt.NDArray[np.float32]
    again: npt.NDArray[np.float32]


def self_agreement(pairs: Pairs, rng: np.random.Generator, *, of: str, tolerance: float = 0.0) -> Figure:
    """Share of repeats answered as before, or at most `tolerance` apart."""
    same = np.abs(pairs.first - pairs.again) <= tolerance
    return share(make_measured(pairs.feature, pairs.annotator, same), rng, of=of)


def expected_by_chance(pairs: Pairs) -> float | None:
    """Share of repeats that would agree if each annotator's answers were dealt out anew; None without a pair."""
    total, n = 0.0, 0
    for annotator in np.unique(pairs.annotator):
        rows = pairs.annotator == annotator
        codes = np.concatenate([pairs.first[rows], pairs.again[rows]])
        _, counts = np.unique(codes, return_counts=True)
        total += float(np.sum((counts / codes.size) ** 2)) * int(rows.sum())
        n += int(rows.sum())
    return total / n if n else None
