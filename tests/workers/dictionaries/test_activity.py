"""Counts of latents by hand, dense codes as sparse ones, and the histogram of densities."""

from __future__ import annotations

import torch

from workers.dictionaries.activity import ActivityCounts, density_histogram
from workers.dictionaries.sparse_coder import Codes


def test_firing_being_positive_and_contributing_are_counted_apart() -> None:
    counts = ActivityCounts(4, torch.tensor([1.0, 2.0, 0.001, 1.0]))
    # contributions: 1, 1 (of -0.5 times 2), .0005 (below 1 % of 1), none; then a prefix token with one latent
    codes = Codes(torch.tensor([[0, 1, 2, 3], [3, 0, 0, 0]]), torch.tensor([[1, -0.5, 0.5, 0], [2.0, 0, 0, 0]]), None)
    counts.update(codes, torch.tensor([True, False]))
    assert counts.total("n_fired").tolist() == [1, 1, 1, 1]
    assert counts.total("n_positive").tolist() == [1, 0, 1, 1]
    assert counts.total("n_contributing").tolist() == [1, 1, 0, 1]
    n_tokens = {"cls": 1.0, "patches": 1.0, "all": 2.0}
    assert counts.l0("n_contributing", n_tokens) == {"cls": 1.0, "patches": 2.0, "all": 1.5}
    assert counts.l0("n_fired", n_tokens | {"cls": 0.0}) == {"patches": 3.0, "all": 2.0}


def test_dense_codes_count_as_the_same_codes_written_out() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(20, 6, generator=generator) * (torch.rand(20, 6, generator=generator) < 0.5)
    norms = torch.rand(6, generator=generator)
    one_row = torch.arange(6).expand(20, 6)
    is_patch = torch.arange(20) % 4 > 0
    dense, written_out = ActivityCounts(6, norms), ActivityCounts(6, norms)
    dense.update(Codes(one_row, values, None), is_patch)
    written_out.update(Codes(one_row.contiguous(), values, None), is_patch)
    assert {name: one.tolist() for name, one in dense.tensors().items()} == {
        name: one.tolist() for name, one in written_out.tensors().items()
    }


def test_the_histogram_holds_every_latent_once() -> None:
    density = torch.tensor([0.0, 1e-9, 2e-6, 0.02, 0.5, 1.0, 0.0])
    found = density_histogram(density)
    assert found["n_silent"] == 2
    assert sum(found["counts"]) == 5
    # half powers of ten from -6: the rarest falls into the first bin, 0.02 into the ninth, 0.5 and 1 share the last
    assert found["counts"] == [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 2]
