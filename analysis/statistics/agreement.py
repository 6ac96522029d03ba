"""Agreement between annotators: raw, Krippendorff's alpha (nominal, ordinal), Gwet's AC1 and AC2.

alpha = 1 - D_observed / D_expected (Krippendorff, Content Analysis, 2004); AC = (p_a - p_e) / (1 - p_e), with p_e from
the prevalence of the categories (Gwet, Handbook of Inter-Rater Reliability, 2014). Where 95 % of answers are alike,
alpha falls to .36 at a raw agreement of .87: all of them are shown, with the prevalence (research/annotation.md §3).

In a resample an annotator may be drawn twice; pairs of an annotator with themselves are left out of every agreement.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import incidence, n_resamples_for, ratio, resample
from analysis.statistics.figures import Counts, Figure, undefined, with_interval
from analysis.statistics.ratings import Ratings

Floats = npt.NDArray[np.float64]


class Scale(StrEnum):
    NOMINAL = "nominal"
    ORDINAL = "ordinal"


class Agreement(NamedTuple):
    raw: Figure
    alpha: Figure
    gwet: Figure  # AC1 on a nominal scale, AC2 with ordinal weights
    prevalence: list[float]  # share of each category among all answers, from category 1 up


class Table(NamedTuple):
    """What every coefficient is computed from, for several resamples at once."""

    counts: Floats  # [category, feature, resample], weighted answers
    squares: Floats  # [feature, resample], sum of squared annotators' weights: the pairs with oneself
    weight: Floats  # [feature, resample], how often the feature was drawn


def agreement(
    ratings: Ratings,
    rng: np.random.Generator,
    *,
    n_categories: int,
    scale: Scale,
    of: str,
    n_resamples: int | None = None,
) -> Agreement:
    """Of answers 1..n_categories; drop "cannot tell" first (`Ratings.told`)."""
    values = ratings.value
    prevalence = np.bincount(values, minlength=n_categories + 1)[1 : n_categories + 1]
    counts = ratings.counts()
    shares = [float(n) / max(1, values.size) for n in prevalence]
    named = [f"{name}: {of}" for name in ("raw agreement", f"Krippendorff's alpha, {scale}", _gwet_name(scale))]
    if not np.any(np.bincount(ratings.feature) > 1):
        reason = "no feature has answers from two annotators"
        raw, alpha, gwet = (undefined(name, counts, reason) for name in named)
        return Agreement(raw, alpha, gwet, shares)
    weighted = [incidence(ratings, values == category) for category in range(1, n_categories + 1)]
    point = _coefficients(
        _table(weighted, incidence(ratings), _ones(ratings.n_annotators), _ones(ratings.n_features)), scale
    )
    n = n_resamples or n_resamples_for(values.size)
    resampled = np.concatenate(
        [
            _coefficients(_table(weighted, incidence(ratings), w.annotators, w.features), scale)
            for w in resample(ratings, rng, n_resamples=n)
        ],
        axis=1,
    )
    raw, alpha, gwet = (
        _figure(name, float(value), counts, row) for name, value, row in zip(named, point[:, 0], resampled, strict=True)
    )
    return Agreement(raw, alpha, gwet, shares)


def _gwet_name(scale: Scale) -> str:
    return "Gwet's AC1" if scale is Scale.NOMINAL else "Gwet's AC2, ordinal weights"


def _ones(n: int) -> npt.NDArray[np.float32]:
    return np.ones((n, 1), dtype=np.float32)


def _figure(of: str, value: float, counts: Counts, resampled: Floats) -> Figure:
    if not np.isfinite(value):
        reason = "undefined: all answers are the same, so that chance alone would agree always; see the raw agreement"
        return undefined(of, counts, reason)
    return with_interval(of, value, counts, resampled)


def _table(weighted: list[Any], judged: Any, annotators: npt.NDArray[Any], features: npt.NDArray[Any]) -> Table:
    stacked = np.stack([matrix @ annotators for matrix in weighted]).astype(np.float64)
    return Table(stacked, (judged @ annotators**2).astype(np.float64), features.astype(np.float64))


def _coefficients(table: Table, scale: Scale) -> Floats:
    """[3, resample]: raw agreement, alpha, AC. NaN where undefined."""
    total = table.counts.sum(axis=0)
    pairs = total**2 - table.squares
    # Features of one annotator have no pair: they are left out, but for the prevalence that AC uses.
    units = Units(total, np.where(pairs > 0, pairs, 1.0), table.weight * (pairs > 0))
    same = np.einsum("cfr,cfr->fr", table.counts, table.counts)
    raw = _mean_agreement(units, total**2 - same)
    return np.stack([raw, _alpha(table, units, same, scale), _gwet(table, units, raw, scale)])


class Units(NamedTuple):
    """Per feature and resample: the answers, the pairs of different annotators, the weight among the paired."""

    total: Floats
    pairs: Floats
    weight: Floats


def _mean_agreement(units: Units, disagreeing: Floats) -> Floats:
    """Mean over features of the share of pairs that agree."""
    return 1 - ratio(np.einsum("fr,fr->r", units.weight, disagreeing / units.pairs), units.weight.sum(axis=0))


def _alpha(table: Table, units: Units, same: Floats, scale: Scale) -> Floats:
    marginals = np.einsum("cfr,fr->cr", table.counts, units.weight)
    n = marginals.sum(axis=0)
    if scale is Scale.NOMINAL:
        differing = units.total**2 - same
        expected = n**2 - np.sum(marginals**2, axis=0)
    else:
        # Ordinal distance of two categories: the answers lying between them, half of their own included, squared.
        # sum over pairs of (m_c - m_k)^2 = 2 (total * sum of m^2 - (sum of m)^2)
        middle = np.cumsum(marginals, axis=0) - marginals / 2
        first = np.einsum("cfr,cr->fr", table.counts, middle)
        differing = 2 * (units.total * np.einsum("cfr,cr->fr", table.counts, middle**2) - first**2)
        expected = 2 * (n * np.sum(marginals * middle**2, axis=0) - np.sum(marginals * middle, axis=0) ** 2)
    observed = np.einsum("fr,fr->r", units.weight, units.total * differing / units.pairs)
    return 1 - ratio(ratio(observed, n), ratio(expected, n * (n - 1)))


def _gwet(table: Table, units: Units, raw: Floats, scale: Scale) -> Floats:
    weights = _gwet_weights(table.counts.shape[0], scale)
    agreed = raw
    if scale is Scale.ORDINAL:
        against = np.tensordot(1 - weights, table.counts, axes=1)
        agreed = _mean_agreement(units, np.einsum("cfr,cfr->fr", table.counts, against))
    judged = table.weight * (units.total > 0)
    share = judged / np.maximum(units.total, 1.0)
    prevalence = ratio(np.einsum("cfr,fr->cr", table.counts, share), judged.sum(axis=0))
    q = weights.shape[0]
    chance = weights.sum() / (q * (q - 1)) * np.sum(prevalence * (1 - prevalence), axis=0)
    return ratio(agreed - chance, 1 - chance)


def _gwet_weights(n_categories: int, scale: Scale) -> Floats:
    """Gwet's ordinal weights: 1 - C(d + 1, 2) / C(q, 2) at a distance of d categories."""
    if scale is Scale.NOMINAL:
        return np.eye(n_categories)
    steps = np.abs(np.subtract.outer(np.arange(n_categories), np.arange(n_categories)))
    weights: Floats = 1 - (steps * (steps + 1) / 2) / (n_categories * (n_categories - 1) / 2)
    return weights
