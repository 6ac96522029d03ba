"""Marks against maps: by all pairs, by the definition of average precision, and chance by shifting one by one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from analysis.statistics.patch_marks import area, chance_of_precision, mean_of, precision


def case(seed: int, shape: tuple[int, int] = (5, 6)) -> tuple[np.ndarray, np.ndarray]:
    """A map with ties and some marks."""
    rng = np.random.default_rng(seed)
    marked = np.zeros(shape, dtype=bool)
    marked.ravel()[rng.permutation(marked.size)[: rng.integers(1, 9)]] = True
    return rng.integers(0, 8, shape).astype(float), marked


@pytest.mark.parametrize("seed", range(6))
def test_area_and_precision_by_their_definitions(seed: int) -> None:
    patch_map, marked = case(seed)
    inside, outside = patch_map[marked], patch_map[~marked]
    assert area(patch_map, marked) == pytest.approx(
        np.mean([(a > b) + 0.5 * (a == b) for a in inside for b in outside])
    )
    assert precision(patch_map, marked) == pytest.approx(average_precision_score(marked.ravel(), patch_map.ravel()))


@pytest.mark.parametrize("seed", range(3))
def test_chance_is_the_mean_over_all_shifts(seed: int) -> None:
    patch_map, marked = case(seed)
    shifted = [np.roll(patch_map, (down, right), (0, 1)) for down in range(5) for right in range(6)]
    assert chance_of_precision(patch_map, marked) == pytest.approx(np.mean([precision(one, marked) for one in shifted]))
    assert np.mean([area(one, marked) for one in shifted]) == pytest.approx(0.5)


def test_what_cannot_be_told_is_left_out_of_a_mean() -> None:
    assert (mean_of([None, 0.5, 1.0]), mean_of([None])) == (0.75, None)
