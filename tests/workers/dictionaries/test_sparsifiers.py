"""Selection of latents: worked by hand, and against the plain top-k."""

from __future__ import annotations

import pytest
import torch

from tests.workers.dictionaries.dense import dense_codes
from workers.dictionaries.sparsifiers import above_threshold, grouped_top_k, strongest


@pytest.mark.parametrize("group", [4, 8, 16])
def test_grouped_top_k_finds_the_plain_top_k(group: int) -> None:
    pre = torch.randn(300, 256, generator=torch.Generator().manual_seed(0))
    found = grouped_top_k(pre, 7, group)
    expected = pre.topk(7, dim=1)
    order = found.values.argsort(dim=1, descending=True)
    assert torch.equal(found.values.gather(1, order), expected.values)
    assert torch.equal(found.indices.gather(1, order), expected.indices)


def test_strongest_keeps_nothing_negative() -> None:
    selected = strongest(torch.tensor([[-1.0, 3.0, -2.0, 0.5]]), 3)
    assert dense_codes(selected, 4).tolist() == [[0.0, 3.0, 0.0, 0.5]]
    assert selected.values.shape == (1, 3)


def test_above_threshold_gives_each_latent_its_own_threshold_and_pads_the_rows() -> None:
    pre = torch.tensor([[1.0, 1.0, 1.0], [3.0, 1.0, 5.0]])
    selected = above_threshold(pre, torch.tensor([2.0, 2.0, 0.5]))
    assert dense_codes(selected, 3).tolist() == [[0.0, 0.0, 1.0], [3.0, 0.0, 5.0]]
    assert selected.values.shape == (2, 2)


def test_above_threshold_never_keeps_a_negative_value() -> None:
    selected = above_threshold(torch.tensor([[-1.0, -3.0]]), torch.tensor([-2.0, -2.0]))
    assert selected.values.tolist() == [[0.0]]
