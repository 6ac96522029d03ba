"""A figure: one number of a report with everything a reader needs to believe or doubt it.

A figure that cannot be computed is not NaN: its value is None and its note says why.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.wording import Several, Words

FEW_ANNOTATORS = 8
"""Below this the differences between annotators dominate and more items do not help (research/annotation.md §3)."""

TOLD_FROM = 0.01
"""A share of undefined resamples below this moves no interval that one could see."""


class Figure(NamedTuple):
    """`low` and `high` bound the 95 % interval; None where it cannot be computed."""

    of: str
    value: float | None
    low: float | None
    high: float | None
    n_answers: int
    n_features: int
    n_annotators: int
    note: str = ""


class Counts(NamedTuple):
    """What a figure was computed from."""

    n_answers: int
    n_features: int
    n_annotators: int


def undefined(of: str, counts: Counts, reason: str) -> Figure:
    return Figure(of, None, None, None, *counts, note=reason)


def with_interval(
    of: str,
    value: float,
    counts: Counts,
    resampled: npt.NDArray[np.float64],
    note: str = "",
    *,
    half_width: float | None = None,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> Figure:
    """The percentile interval of `resampled`, moved so that its mean lies at `value`, widened to twice `half_width`.

    Statistics that are not linear (a majority, a chance-corrected agreement) shift when annotators are drawn with
    replacement, because the same annotator then votes twice; the spread stays right, so the shift is taken out.
    """
    defined = resampled[np.isfinite(resampled)]
    notes = [note] if note else []
    if resampled.size - defined.size > TOLD_FROM * resampled.size:
        notes.append(
            Words(
                "undefined in %(n_undefined)s of %(n)s resamples, left out of the interval",
                n_undefined=resampled.size - defined.size,
                n=resampled.size,
            )
        )
    notes.extend(_annotator_notes(counts.n_annotators))
    if defined.size < max(20, resampled.size // 2) or counts.n_features < 2:
        notes.append(Words("too little data for an interval"))
        return Figure(of, value, None, None, *counts, note=Several(notes))
    low, high = np.quantile(defined, [0.025, 0.975]) - defined.mean()
    if half_width is None:
        low, high = (end * _of_small_samples(counts) for end in (low, high))
    elif np.isfinite(half_width) and high > low:
        low, high = (end * 2 * half_width / (high - low) for end in (low, high))
    bounded_low, bounded_high = max(float(value + low), bounds[0]), min(float(value + high), bounds[1])
    return Figure(of, value, bounded_low, bounded_high, *counts, note=Several(notes))


def _of_small_samples(counts: Counts) -> float:
    """Drawing n with replacement gives (n - 1) / n of the variance that n new ones would have."""
    smallest = min(counts.n_features, counts.n_annotators if counts.n_annotators > 1 else counts.n_features)
    return math.sqrt(smallest / (smallest - 1))


def exact_bound(of: str, value: float, counts: Counts, bounds: tuple[float, float], note: str = "") -> Figure:
    """Where all features are alike, resampling sees no doubt: Clopper and Pearson's bound, features as the units."""
    bound = 0.025 ** (1.0 / max(1, counts.n_features))
    inside = (bounds[1] - bounds[0]) * (1.0 - bound)
    low, high = (bounds[1] - inside, bounds[1]) if value == bounds[1] else (bounds[0], bounds[0] + inside)
    notes = [note, *_annotator_notes(counts.n_annotators), Words("all alike: exact bound over features")]
    return Figure(of, value, low, high, *counts, note=Several(notes))


def bare(of: str, value: float, counts: Counts, note: str = "") -> Figure:
    """A figure that is a count of what happened, not an estimate of more: no interval."""
    return Figure(of, value, None, None, *counts, note=note)


def _annotator_notes(n_annotators: int) -> list[str]:
    if n_annotators == 1:
        return [Words("one annotator: the interval speaks of features only")]
    if n_annotators < FEW_ANNOTATORS:
        return [
            Words(
                "%(n_annotators)s annotators: with fewer than %(few)s the interval is rough",
                n_annotators=n_annotators,
                few=FEW_ANNOTATORS,
            )
        ]
    return []
