"""Agreement: published examples, a slow obvious version, and what cannot be computed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from analysis.statistics.agreement import Agreement, Scale, agreement
from analysis.statistics.ratings import Ratings, make_ratings

# Krippendorff's canonical data: 4 observers, 12 units, 5 categories; 0 is missing.
CANONICAL = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
]
# The three coders of Krippendorff's reliability example in common use: 15 units, 4 categories.
THREE_CODERS = [
    [0, 0, 0, 0, 0, 3, 4, 1, 2, 1, 1, 3, 3, 0, 3],
    [1, 0, 2, 1, 3, 3, 4, 3, 0, 0, 0, 0, 0, 0, 0],
    [0, 0, 2, 1, 3, 4, 4, 0, 2, 1, 1, 3, 3, 0, 4],
]


def ratings_of(table: list[list[int]]) -> Ratings:
    rows = [(unit, coder, value) for coder, line in enumerate(table) for unit, value in enumerate(line) if value]
    return make_ratings([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


def measure(table: list[list[int]], scale: Scale, n_categories: int, n_resamples: int = 50) -> Agreement:
    rng = np.random.default_rng(0)
    return agreement(ratings_of(table), rng, n_categories=n_categories, scale=scale, of="test", n_resamples=n_resamples)


def test_the_published_values_of_the_canonical_data() -> None:
    nominal, ordinal = (measure(CANONICAL, scale, 5) for scale in Scale)
    assert nominal.alpha.value == pytest.approx(0.743, abs=5e-4)
    assert ordinal.alpha.value == pytest.approx(0.815, abs=5e-4)
    assert nominal.gwet.value == pytest.approx(0.77544, abs=5e-6)
    assert nominal.raw.value == pytest.approx(0.818182, abs=5e-7)


def test_the_published_value_of_three_coders() -> None:
    assert measure(THREE_CODERS, Scale.NOMINAL, 4).alpha.value == pytest.approx(0.691, abs=5e-4)


def slow_alpha(table: list[list[int]], scale: Scale, n_categories: int) -> float:
    """By pairs, as the definition reads."""
    units = [[value for value in column if value] for column in zip(*table, strict=True)]
    units = [unit for unit in units if len(unit) > 1]
    pool = [value for unit in units for value in unit]
    size = [pool.count(category) for category in range(n_categories + 1)]

    def distance(a: int, b: int) -> float:
        if scale is Scale.NOMINAL:
            return float(a != b)
        low, high = min(a, b), max(a, b)
        return (sum(size[low : high + 1]) - (size[low] + size[high]) / 2) ** 2

    observed = sum(
        distance(a, b) / (len(unit) - 1) for unit in units for a, b in itertools.permutations(unit, 2)
    ) / len(pool)
    expected = sum(distance(a, b) for a, b in itertools.permutations(pool, 2)) / (len(pool) * (len(pool) - 1))
    return 1 - observed / expected


def slow_gwet(table: list[list[int]], scale: Scale, q: int) -> float:
    units = [[value for value in column if value] for column in zip(*table, strict=True)]
    units = [unit for unit in units if unit]

    def weight(a: int, b: int) -> float:
        return float(a == b) if scale is Scale.NOMINAL else 1 - math.comb(abs(a - b) + 1, 2) / math.comb(q, 2)

    agreements = []
    for unit in units:
        pairs = [weight(a, b) for a, b in itertools.permutations(unit, 2)]
        if pairs:
            agreements.append(sum(pairs) / len(pairs))
    agreed = sum(agreements) / len(agreements)
    shares = [sum(unit.count(k) / len(unit) for unit in units) / len(units) for k in range(1, q + 1)]
    total_weight = sum(weight(a, b) for a in range(1, q + 1) for b in range(1, q + 1))
    chance = total_weight / (q * (q - 1)) * sum(share * (1 - share) for share in shares)
    return (agreed - chance) / (1 - chance)


@pytest.mark.parametrize("scale", list(Scale))
@pytest.mark.parametrize("seed", range(4))
def test_it_equals_the_slow_version(scale: Scale, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 5, size=20)
    table = [[int(np.clip(t + rng.integers(-1, 2), 1, 4)) * int(rng.random() < 0.7) for t in truth] for _ in range(5)]
    measured = measure(table, scale, 4)
    assert measured.alpha.value == pytest.approx(slow_alpha(table, scale, 4), abs=1e-9)
    assert measured.gwet.value == pytest.approx(slow_gwet(table, scale, 4), abs=1e-9)


def test_a_common_answer_lowers_alpha_and_not_gwet() -> None:
    """The example of research/annotation.md: 95 % positive, each annotator right in 93 %."""
    rng = np.random.default_rng(3)
    truth = rng.random(4000) < 0.95
    table = [[2 if right == positive else 1 for right, positive in zip(rng.random(4000) < 0.93, truth, strict=True)]
             for _ in range(3)]  # fmt: skip
    measured = measure(table, Scale.NOMINAL, 2)
    assert measured.raw.value == pytest.approx(0.87, abs=0.015)
    assert measured.alpha.value == pytest.approx(0.36, abs=0.05)
    assert measured.gwet.value == pytest.approx(0.84, abs=0.02)
    assert measured.prevalence[1] == pytest.approx(0.95 * 0.93 + 0.05 * 0.07, abs=0.01)


def test_unanimous_answers_leave_alpha_undefined_with_a_reason() -> None:
    measured = measure([[4, 4, 4], [4, 4, 4]], Scale.ORDINAL, 4)
    assert (measured.alpha.value, measured.alpha.low) == (None, None)
    assert measured.alpha.note.startswith("undefined: all answers are the same")
    assert measured.raw.value == 1.0


def test_one_annotator_leaves_agreement_undefined_with_a_reason() -> None:
    measured = measure([[4, 1, 3]], Scale.ORDINAL, 4)
    assert [figure.value for figure in (measured.raw, measured.alpha, measured.gwet)] == [None, None, None]
    assert measured.alpha.note == "no feature has answers from two annotators"


def test_the_interval_covers_the_agreement_of_many_annotators() -> None:
    """Answers from a known process; the truth follows from the mean skill."""

    def draw(rng: np.random.Generator, n_features: int) -> Ratings:
        skill = rng.uniform(0.75, 0.95, size=12)
        truth = rng.random(n_features) < 0.6
        annotator = np.stack([rng.permutation(12)[:3] for _ in range(n_features)]).ravel()
        feature = np.repeat(np.arange(n_features), 3)
        right = rng.random(feature.size) < skill[annotator]
        return make_ratings(feature, annotator, np.where(truth[feature] == right, 2, 1))

    rng = np.random.default_rng(11)
    mean_skill = 0.85
    true_raw = mean_skill**2 + (1 - mean_skill) ** 2  # two different annotators, independent skills
    hits = 0
    for _ in range(100):
        raw = agreement(draw(rng, 60), rng, n_categories=2, scale=Scale.NOMINAL, of="", n_resamples=200).raw
        assert raw.low is not None
        assert raw.high is not None
        hits += raw.low <= true_raw <= raw.high
    assert 93 <= hits <= 100
