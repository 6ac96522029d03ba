"""The coder worked out by hand, and what always holds of it."""

from __future__ import annotations

import pytest
import torch

from tests.workers.dictionaries.dense import dense_codes
from workers.dictionaries.sparse_coder import (
    CoderShape,
    Codes,
    SparseCoder,
    initialize_coder,
    normalize_tokens,
)
from workers.dictionaries.sparsifiers import Selected


def test_tokens_are_normalized_with_the_unbiased_deviation() -> None:
    normalized = normalize_tokens(torch.tensor([[1.0, 2.0, 3.0, 6.0]]))
    assert normalized.scale.mean.tolist() == [[3.0]]
    torch.testing.assert_close(normalized.scale.deviation, torch.tensor([[(14 / 3) ** 0.5]]))
    torch.testing.assert_close(normalized.tokens.var(dim=1, correction=1), torch.ones(1), rtol=1e-4, atol=0)


def test_a_coder_of_two_latents_by_hand() -> None:
    coder = SparseCoder(CoderShape(d_model=2, n_latents=2, k=1))
    with torch.no_grad():
        coder.W_enc.copy_(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
        coder.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
        coder.b_dec.copy_(torch.tensor([0.5, 0.0]))
    selected = coder.encode_normalized(torch.tensor([[1.0, 0.9]]))
    assert dense_codes(selected, 2).tolist() == [[1.0, 0.0]]
    assert coder.decode_normalized(selected).tolist() == [[1.5, 0.0]]


def test_decoding_gives_back_the_scale_of_the_token() -> None:
    coder = SparseCoder(CoderShape(d_model=4, n_latents=4, k=4))
    with torch.no_grad():
        coder.W_enc.copy_(torch.eye(4))
        coder.W_dec.copy_(torch.eye(4))
    activations = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    codes = coder.encode(activations)
    decoded = coder.decode(codes)
    positive = activations > activations.mean()
    torch.testing.assert_close(decoded[positive], activations[positive], rtol=1e-4, atol=0)
    assert decoded[~positive].tolist() == [30.0, 30.0, 30.0]  # ReLU took what lay below the mean


def test_encoding_in_slices_equals_encoding_at_once() -> None:
    coder = SparseCoder(CoderShape(d_model=8, n_latents=64, k=3))
    initialize_coder(coder, torch.Generator().manual_seed(0))
    activations = torch.randn(1100, 8, generator=torch.Generator().manual_seed(1))
    whole = dense_codes(Selected(*coder.encode(activations)[:2]), 64)
    first = dense_codes(Selected(*coder.encode(activations[:100])[:2]), 64)
    torch.testing.assert_close(whole[:100], first, rtol=1e-5, atol=1e-6)
    assert int((whole > 0).sum(1).max()) == 3


def test_no_tokens_give_no_codes() -> None:
    codes = SparseCoder(CoderShape(d_model=8, n_latents=64, k=3)).encode(torch.zeros(0, 8))
    assert isinstance(codes, Codes)
    assert codes.indices.shape[0] == 0


def test_initial_decoder_rows_have_unit_norm_and_equal_the_encoder() -> None:
    coder = SparseCoder(CoderShape(d_model=8, n_latents=64, k=3))
    initialize_coder(coder, torch.Generator().manual_seed(0))
    torch.testing.assert_close(coder.W_dec.norm(dim=1), torch.ones(64))
    assert torch.equal(coder.W_enc, coder.W_dec)


def test_a_threshold_coder_pads_slices_of_different_width() -> None:
    coder = SparseCoder(CoderShape(d_model=2, n_latents=2, k=2, selection="threshold"))
    with torch.no_grad():
        coder.W_enc.copy_(torch.eye(2))
    tokens = torch.cat([torch.tensor([[1.0, -1.0]]).expand(512, 2), torch.tensor([[1.0, 1.0]])])
    selected = coder.encode_normalized(tokens)
    assert selected.values.shape == (513, 2)
    assert dense_codes(selected, 2)[[0, 512]].tolist() == [[1.0, 0.0], [1.0, 1.0]]


def test_a_wrong_k_is_refused() -> None:
    with pytest.raises(ValueError, match="k is 9"):
        SparseCoder(CoderShape(d_model=2, n_latents=8, k=9))
