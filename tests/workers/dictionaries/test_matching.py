"""Matches by activations and top images against numpy over everything, and what shuffling leaves of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from workers.dictionaries import matching
from workers.dictionaries.matching import (
    TokenCodes,
    TopImages,
    best_of,
    correlations,
    jaccards,
    join_codes,
    memberships,
    merge_top,
    moments,
    token_codes,
    top_images,
)
from workers.dictionaries.sparse_coder import Codes


def sparse_codes(dense: Tensor, k: int) -> TokenCodes:
    """The same values, k columns wide; a token has at most k latents on."""
    found = dense.abs().topk(k, dim=1)
    return TokenCodes(found.indices.int(), dense.gather(1, found.indices), dense.shape[1])


def dense_values(n_tokens: int, n_latents: int, share: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n_tokens, n_latents, generator=generator)
    return values * (torch.rand(n_tokens, n_latents, generator=generator) < share)


@pytest.mark.parametrize("share", [0.03, 0.6])
def test_correlations_equal_numpys(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "TOKENS_AT_ONCE", 37)
    a, b = dense_values(200, 12, share, 0), dense_values(200, 30, share, 1)
    a[:, 5] = 0
    b[:, 7] = 3.0
    rows = torch.tensor([5, 0, 11])
    codes = sparse_codes(a, 12), sparse_codes(b, 30)
    found = correlations(*codes, rows, moments(codes[0]), moments(codes[1]))
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = np.corrcoef(a.double().numpy().T, b.double().numpy().T)[:12, 12:]
    expected = np.nan_to_num(whole[rows.numpy()], nan=-1.0)
    assert found.numpy() == pytest.approx(expected, abs=1e-5)
    assert found[0].tolist() == [-1.0] * 30  # a silent latent matches nothing
    assert set(found[:, 7].tolist()) == {-1.0}  # nor does one that is everywhere alike


def test_codes_with_every_latent_on_correlate_as_those_written_out() -> None:
    values = dense_values(50, 9, 1.0, 3)
    one_row = token_codes(Codes(torch.arange(9).expand(50, 9), values, None), torch.arange(50), 9)
    assert one_row.indices.shape == (1, 9)
    halves = [TokenCodes(one_row.indices, values[:20], 9), TokenCodes(one_row.indices, values[20:], 9)]
    for codes in (one_row, join_codes(halves)):
        assert torch.equal(codes.dense(0, 50), values)
        assert torch.equal(codes.reordered(torch.arange(49, -1, -1)).dense(10, 30), values.flip(0)[10:30])


def test_joined_codes_of_different_widths_hold_what_each_did() -> None:
    first, second = dense_values(10, 8, 0.3, 0), dense_values(6, 8, 0.9, 1)
    joined = join_codes([sparse_codes(first, 6), sparse_codes(second, 8)])
    assert torch.equal(joined.dense(0, 16), torch.cat([first, second]))


def test_sampled_tokens_are_those_asked_for() -> None:
    values = dense_values(20, 6, 0.5, 2)
    chosen = torch.tensor([3, 17])
    whole = sparse_codes(values, 6)
    found = token_codes(Codes(whole.indices.long(), whole.values, None), chosen, 6)
    assert torch.equal(found.dense(0, 2), values[chosen])


def test_top_images_merge_to_those_of_all_images() -> None:
    generator = torch.Generator().manual_seed(0)
    maxima = (torch.randn(60, 7, generator=generator) * 4).round().relu()  # many equal values
    maxima[:, 2] = 0
    merged = TopImages(torch.zeros(7, 0), torch.zeros(7, 0, dtype=torch.int32))
    for start, stop in ((0, 13), (13, 14), (14, 60)):
        merged = merge_top(merged, top_images(maxima[start:stop], start))
    for latent in range(7):
        ranked = sorted((-float(value), image) for image, value in enumerate(maxima[:, latent]) if value > 0)[:10]
        expected = [image for _, image in ranked]
        assert merged.images[latent].tolist() == expected + [-1] * (10 - len(expected))


def test_the_jaccard_of_sets_of_images() -> None:
    top = TopImages(torch.ones(4, 3), torch.tensor([[0, 1, 2], [2, 1, 5], [3, -1, -1], [-1, -1, -1]]))
    found = jaccards(memberships(top, 6), memberships(top, 6))
    assert found[0].tolist() == [1.0, 0.5, 0.0, -1.0]
    assert found[3].tolist() == [-1.0] * 4


def test_the_best_is_the_first_of_equals() -> None:
    both = best_of(torch.tensor([[0.5, 0.9, 0.9], [0.5, -1.0, 0.2]]))
    assert (both.rows.latent.tolist(), both.columns.latent.tolist()) == ([1, 0], [0, 0, 0])


def test_shuffled_tokens_leave_no_match_of_a_copy() -> None:
    values = dense_values(800, 20, 0.3, 5)
    codes = sparse_codes(values, 20)
    known = moments(codes)
    own = correlations(codes, codes, torch.arange(20), known, known)
    assert own.diagonal().tolist() == pytest.approx([1.0] * 20, abs=1e-4)
    mixed = codes.reordered(torch.randperm(800, generator=torch.Generator().manual_seed(1)))
    assert float(correlations(mixed, codes, torch.arange(20), known, known).max()) < 0.3
