"""Nearest decoder directions by a naive search, the null by what is known of random directions, pairs by bins."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from workers.dictionaries.alignment import (
    Nearest,
    bins_of,
    draw_from_bins,
    merge_columns,
    nearest_both_ways,
    null_cosines,
    percentiles,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def nearest_by_hand(rows: Tensor, columns: Tensor) -> list[tuple[float, int]]:
    """One pair at a time."""
    found = []
    for row in rows.double():
        cosines = [float(row @ column) / float(row.norm() * column.norm()) for column in columns.double()]
        found.append((max(cosines), cosines.index(max(cosines))))
    return found


def test_the_nearest_are_those_of_a_naive_search() -> None:
    a, b = torch.randn(13, 6, generator=generator(1)), 3 * torch.randn(9, 6, generator=generator(2))
    found = nearest_both_ways(a, b)
    for nearest, expected in ((found.rows, nearest_by_hand(a, b)), (found.columns, nearest_by_hand(b, a))):
        assert nearest.latent.tolist() == [latent for _, latent in expected]
        assert nearest.cosine.tolist() == pytest.approx([cosine for cosine, _ in expected], abs=1e-6)


def test_a_dictionary_is_aligned_with_itself_turned_round() -> None:
    a = torch.randn(20, 8, generator=generator())
    order = torch.randperm(20, generator=generator(1))
    found = nearest_both_ways(a, a[order])
    assert torch.equal(order[found.rows.latent], torch.arange(20))
    assert found.rows.cosine.tolist() == pytest.approx([1.0] * 20, abs=1e-6)


def test_parts_of_a_merge_to_the_whole() -> None:
    a, b = torch.randn(30, 5, generator=generator(1)), torch.randn(11, 5, generator=generator(2))
    whole = nearest_both_ways(a, b).columns
    parts = []
    for start in (0, 7, 20):
        part = nearest_both_ways(a[start : {0: 7, 7: 20, 20: 30}[start]], b).columns
        parts.append(Nearest(part.cosine, part.latent + start))
    merged = merge_columns(parts)
    assert torch.equal(merged.latent, whole.latent)
    assert merged.cosine.tolist() == pytest.approx(whole.cosine.tolist(), abs=1e-6)


def test_of_equal_cosines_the_lower_latent_counts() -> None:
    direction = torch.tensor([[1.0, 0.0]])
    assert nearest_both_ways(direction, torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 0.0]])).rows.latent.tolist() == [1]


def test_a_dead_latent_without_a_direction_is_near_to_nothing() -> None:
    assert nearest_both_ways(torch.zeros(1, 4), torch.eye(4)).rows.cosine.tolist() == [0.0]


def test_the_null_of_a_small_vit_reaches_what_was_simulated() -> None:
    """ViT-Ti, 16 times its width: mean .253, 99th percentile .318 (research/ffkv_saebench.md, 1.5)."""
    null = null_cosines(16 * 192, 192, generator(), n_directions=1500)
    assert float(null.mean()) == pytest.approx(0.253, abs=0.004)
    assert float(null.quantile(0.99)) == pytest.approx(0.318, abs=0.01)
    assert float(null.mean()) < math.sqrt(2 * math.log(16 * 192) / 192)


def test_a_percentile_is_the_share_of_the_null_at_or_below() -> None:
    null = torch.tensor([0.1, 0.2, 0.2, 0.4])
    assert percentiles(torch.tensor([0.05, 0.1, 0.2, 0.3, 0.9]), null).tolist() == [0, 25, 75, 75, 100]


def test_random_dictionaries_lie_evenly_over_the_percentiles_of_their_null() -> None:
    null = null_cosines(64, 16, generator(1))
    shares = percentiles(null_cosines(64, 16, generator(2)), null)
    assert float(shares.mean()) == pytest.approx(50, abs=6)


def test_bins_are_equal_parts_from_0_to_1() -> None:
    values = torch.tensor([-0.2, 0.0, 0.099, 0.1, 0.95, 1.0, 1.0000001])
    assert bins_of(values, 10).tolist() == [0, 0, 0, 1, 9, 9, 9]


def test_every_bin_gives_as_many_pairs_or_all_it_has() -> None:
    bins = torch.tensor([0] * 40 + [1] * 3 + [4] * 12)
    chosen = draw_from_bins(bins, 5, 5, generator())
    assert Counter(bins[chosen].tolist()) == {0: 5, 1: 3, 4: 5}
    assert len(set(chosen)) == 13
    assert chosen == draw_from_bins(bins, 5, 5, generator())
    assert chosen != draw_from_bins(bins, 5, 5, generator(1))
