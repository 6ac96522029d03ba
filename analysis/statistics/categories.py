"""Shares of a nominal choice; Wilson's interval where one person judged everything once.

With one annotator nothing tells how annotators differ: the interval speaks of features only, and where each was judged
once, Wilson's (1927) is right also near 0 and 1.
"""

from __future__ import annotations

import math

import numpy as np

from analysis.statistics.accuracy import mean_value
from analysis.statistics.detection import Detection, detection
from analysis.statistics.figures import Figure, bare
from analysis.statistics.measured import Measured
from analysis.statistics.wording import Words

__all__ = ["Detection", "choice_shares", "origin", "share", "wilson"]
Z = 1.959963984540054


def wilson(n_positive: float, n: int) -> tuple[float, float]:
    """Bounds of the 95 % interval of a share."""
    p, square = n_positive / n, Z * Z
    middle = (p + square / (2 * n)) / (1 + square / n)
    width = Z * math.sqrt(p * (1 - p) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, middle - width), min(1.0, middle + width)


def share(measured: Measured, rng: np.random.Generator, *, of: str, n_resamples: int | None = None) -> Figure:
    """Share of answers whose value is 1."""
    counts = measured.counts()
    if counts.n_annotators == 1 and counts.n_answers == counts.n_features > 0:
        n_positive = float(measured.values[0].sum())
        low, high = wilson(n_positive, counts.n_answers)
        note = Words("one annotator: Wilson's interval over features")
        return bare(of, n_positive / counts.n_answers, counts, note)._replace(low=low, high=high)
    return mean_value(measured, rng, of=of, n_resamples=n_resamples)


def choice_shares(measured: Measured, rng: np.random.Generator, *, choices: dict[int, str], of: str) -> list[Figure]:
    """One share per choice; values are one row of codes, `choices` names them."""
    return [
        share(
            measured._replace(values=(measured.values[:1] == code)),
            rng,
            of=Words("share %(name)s: %(of)s", name=name, of=of),
        )
        for code, name in choices.items()
    ]


def origin(measured: Measured, rng: np.random.Generator, *, of: str, n_resamples: int | None = None) -> Detection:
    """Guesses of the origin as detection of features among controls. Values: (said feature, is feature) per answer."""
    said, is_feature = (row != 0 for row in measured.values)
    counts = np.stack([said & is_feature, is_feature, said & ~is_feature, ~is_feature])
    return detection(measured._replace(values=counts), rng, of=of, n_resamples=n_resamples)
