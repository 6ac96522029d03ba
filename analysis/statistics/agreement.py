"""Agreement between annotators: raw, Krippendorff's alpha (nominal, ordinal), Gwet's AC1 and AC2.

alpha = 1 - D_observed / D_expected (Krippendorff, Content Analysis, 2004); AC = (p_a - p_e) / (1 - p_e), with p_e from
the prevalence of the categories (Gwet, Handbook of Inter-Rater Reliability, 2014). Where 95 % of answers are alike,
alpha falls to .36 at a raw agreement of .87: all of them are shown, with the prevalence (research/annotation.md §3).

In a resample an annotator may be drawn twice; pairs of an annotator with themselves are left out of every agreement.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import (
    Block,
    Blocks,
    Floats,
    Weights,
    n_resamples_for,
    ratio,
    resampled_sums,
    total_sums,
)
from analysis.statistics.figures import Counts, Figure, undefined, with_interval
from analysis.statistics.ratings import Ratings
from analysis.statistics.wording import Words


class Scale(StrEnum):
    NOMINAL = "nominal"
    ORDINAL = "ordinal"


class Agreement(NamedTuple):
    raw: Figure
    alpha: Figure
    gwet: Figure  # AC1 on a nominal scale, AC2 with ordinal weights
    prevalence: list[float]  # share of each category among all answers, from category 1 up


class Sums(NamedTuple):
    """What every coefficient is finished from, per resample; features of one annotator have no pair, hence "paired"."""

    judged: Floats  # [resample], features with an answer
    paired: Floats  # [resample], features with answers of two annotators
    prevalence: Floats  # [category, resample], share of each feature's answers, summed over features
    marginals: Floats  # [category, resample], answers on paired features
    pairs: Floats  # [category, category, resample], share of a feature's pairs that are of these two, summed
    coincidences: Floats  # the same, each feature counted as often as it has answers (Krippendorff)


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
    prevalence = [int(np.sum(values == category)) for category in range(1, n_categories + 1)]
    counts = ratings.counts()
    shares = [float(n) / max(1, values.size) for n in prevalence]
    named = [
        Words("%(what)s: %(of)s", what=name, of=of)
        for name in (Words("raw agreement"), Words("Krippendorff's alpha, %(scale)s", scale=scale), _gwet_name(scale))
    ]
    if not np.any(ratings.feature[1:] == ratings.feature[:-1]):
        reason = Words("no feature has answers from two annotators")
        raw, alpha, gwet = (undefined(name, counts, reason) for name in named)
        return Agreement(raw, alpha, gwet, shares)
    blocks = Blocks(ratings, lambda rows: [values[rows] == category for category in range(1, n_categories + 1)])
    n = n_resamples or n_resamples_for(values.size)
    point = _coefficients(total_sums(ratings, blocks, _sums), n_categories, scale)
    resampled = _coefficients(resampled_sums(ratings, blocks, _sums, rng, n_resamples=n), n_categories, scale)
    raw, alpha, gwet = (
        _figure(name, float(value), counts, row) for name, value, row in zip(named, point[:, 0], resampled, strict=True)
    )
    return Agreement(raw, alpha, gwet, shares)


def _gwet_name(scale: Scale) -> str:
    return Words("Gwet's AC1") if scale is Scale.NOMINAL else Words("Gwet's AC2, ordinal weights")


def _figure(of: str, value: float, counts: Counts, resampled: Floats) -> Figure:
    if not np.isfinite(value):
        reason = Words(
            "undefined: all answers are the same, so that chance alone would agree always; see the raw agreement"
        )
        return undefined(of, counts, reason)
    return with_interval(of, value, counts, resampled)


def _sums(block: Block, annotators: Weights, features: Weights) -> npt.NDArray[np.floating]:
    """The fields of `Sums`, one below the other."""
    counts = [table @ annotators for table in block.tables]
    total = np.add.reduce(counts)
    pairs = total * total - block.judged @ (annotators * annotators)
    weight = features * (pairs > 0)
    per_pair = weight / np.where(pairs > 0, pairs, 1)
    per_pair_of_answers = per_pair * total
    per_answer = features / np.maximum(total, 1)
    rows = [(features * (total > 0)).sum(axis=0), weight.sum(axis=0)]
    rows += [_sum(count, per_answer) for count in counts]
    rows += [_sum(count, weight) for count in counts]
    products = {(a, b): counts[a] * counts[b] for a in range(len(counts)) for b in range(a)}
    for weights in (per_pair, per_pair_of_answers):
        summed = {key: _sum(product, weights) for key, product in products.items()}
        nothing = np.zeros_like(rows[0])
        rows += [summed.get((max(a, b), min(a, b)), nothing) for a in range(len(counts)) for b in range(len(counts))]
    return np.stack(rows)


def _sum(cells: Weights, weights: Weights) -> Weights:
    summed: Weights = np.einsum("fr,fr->r", cells, weights)
    return summed


def _coefficients(stacked: Floats, q: int, scale: Scale) -> Floats:
    """[3, resample]: raw agreement, alpha, AC. NaN where undefined. Pairs of equal answers are not in the sums."""
    ends = np.cumsum([1, 1, q, q, q * q])
    judged, paired, prevalence, marginals, pairs, coincidences = np.split(stacked, ends)
    shape = (q, q, stacked.shape[1])
    sums = Sums(judged[0], paired[0], prevalence, marginals, pairs.reshape(shape), coincidences.reshape(shape))
    raw = 1 - ratio(sums.pairs.sum(axis=(0, 1)), sums.paired)
    return np.stack([raw, _alpha(sums, scale), _gwet(sums, scale)])


def _alpha(sums: Sums, scale: Scale) -> Floats:
    n = sums.marginals.sum(axis=0)
    distance = _distances(sums.marginals, scale)
    observed = ratio(np.sum(distance * sums.coincidences, axis=(0, 1)), n)
    expected = ratio(np.einsum("cr,ckr,kr->r", sums.marginals, distance, sums.marginals), n * (n - 1))
    return 1 - ratio(observed, expected)


def _distances(marginals: Floats, scale: Scale) -> Floats:
    """Squared distances [category, category, resample]; the ordinal one counts the answers lying between."""
    if scale is Scale.NOMINAL:
        return np.broadcast_to((1 - np.eye(len(marginals)))[:, :, None], (len(marginals), *marginals.shape))
    middle = np.cumsum(marginals, axis=0) - marginals / 2
    squared: Floats = (middle[:, None] - middle[None, :]) ** 2
    return squared


def _gwet(sums: Sums, scale: Scale) -> Floats:
    weights = _gwet_weights(len(sums.marginals), scale)
    agreed = 1 - ratio(np.einsum("ck,ckr->r", 1 - weights, sums.pairs), sums.paired)
    prevalence = ratio(sums.prevalence, sums.judged)
    q = len(weights)
    chance = weights.sum() / (q * (q - 1)) * np.sum(prevalence * (1 - prevalence), axis=0)
    return ratio(agreed - chance, 1 - chance)


def _gwet_weights(n_categories: int, scale: Scale) -> Floats:
    """Gwet's ordinal weights: 1 - C(d + 1, 2) / C(q, 2) at a distance of d categories."""
    if scale is Scale.NOMINAL:
        return np.eye(n_categories)
    steps = np.abs(np.subtract.outer(np.arange(n_categories), np.arange(n_categories)))
    weights: Floats = 1 - (steps * (steps + 1) / 2) / (n_categories * (n_categories - 1) / 2)
    return weights
