"""The fast step against autograd on the plain loss, dead latents included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workers.dictionaries.losses import AuxK, topk_loss
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder, normalize_tokens
from workers.dictionaries.sparse_step import sparse_gradients

AUX = AuxK(weight=1 / 32, k=12)


def seeded_coder(n_latents: int = 128, d_model: int = 24, k: int = 5) -> SparseCoder:
    generator = torch.Generator().manual_seed(3)
    coder = SparseCoder(CoderShape(d_model=d_model, n_latents=n_latents, k=k))
    initialize_coder(coder, generator)
    with torch.no_grad():
        coder.b_dec.copy_(0.3 * torch.randn(d_model, generator=generator))
        coder.W_enc.add_(0.1 * torch.randn(n_latents, d_model, generator=generator))
    return coder


def seeded_tokens(n_tokens: int = 700, d_model: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return normalize_tokens(3 * torch.randn(n_tokens, d_model, generator=generator) + 1).tokens


def relative_error(found: Tensor | None, expected: Tensor | None) -> float:
    assert found is not None
    assert expected is not None
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("n_latents", "k"), [(128, 5), (128, 60), (101, 5), (24, 24)])
@pytest.mark.parametrize("n_dead", [0, 7, 20])
def test_gradients_equal_autograd_to_1e_5(n_latents: int, k: int, n_dead: int) -> None:
    tokens = seeded_tokens()
    dead = torch.zeros(n_latents, dtype=torch.bool)
    dead[torch.randperm(n_latents, generator=torch.Generator().manual_seed(1))[:n_dead]] = True
    oracle, coder = seeded_coder(n_latents, k=k), seeded_coder(n_latents, k=k)

    loss = topk_loss(oracle, tokens, dead, AUX)
    loss.total(AUX).backward()  # type: ignore[no-untyped-call]
    result = sparse_gradients(coder, tokens, lambda fired: dead, AUX)

    assert relative_error(coder.W_enc.grad, oracle.W_enc.grad) < 1e-5
    assert relative_error(coder.W_dec.grad, oracle.W_dec.grad) < 1e-5
    assert relative_error(coder.b_dec.grad, oracle.b_dec.grad) < 1e-5
    torch.testing.assert_close(result.reconstruction_loss, loss.reconstruction.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(result.auxiliary_loss, loss.auxiliary.detach(), rtol=1e-5, atol=0)
    assert (float(result.auxiliary_loss) > 0) == (n_dead > 0)


def test_gradients_of_a_second_batch_do_not_hold_the_first() -> None:
    coder, fresh = seeded_coder(), seeded_coder()
    tokens = seeded_tokens()
    no_dead = torch.zeros(128, dtype=torch.bool)

    sparse_gradients(coder, tokens[:300], lambda fired: no_dead, AUX)
    sparse_gradients(coder, tokens[300:], lambda fired: no_dead, AUX)
    sparse_gradients(fresh, tokens[300:], lambda fired: no_dead, AUX)

    assert coder.W_enc.grad is not None
    assert fresh.W_enc.grad is not None
    assert torch.equal(coder.W_enc.grad, fresh.W_enc.grad)


def test_firing_counts_leave_out_entries_of_value_zero() -> None:
    coder = SparseCoder(CoderShape(d_model=2, n_latents=3, k=3))
    with torch.no_grad():
        coder.W_enc.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]))
    tokens = torch.tensor([[2.0, 0.0], [3.0, 1.0]])
    counts: list[Tensor] = []

    def remember(fired: Tensor) -> Tensor:
        counts.append(fired)
        return torch.zeros(3, dtype=torch.bool)

    assert sparse_gradients(coder, tokens, remember, AUX).fired.tolist() == [2, 0, 1]
    assert counts[0].tolist() == [2, 0, 1]


def test_the_residual_is_a_target_of_the_auxiliary_loss_without_a_gradient_of_its_own() -> None:
    """With dead decoder rows of zero the auxiliary loss still exists, and must leave the live latents alone."""
    tokens, dead = seeded_tokens(), torch.zeros(128, dtype=torch.bool)
    dead[:4] = True
    with_aux, without = seeded_coder(), seeded_coder()
    for coder in (with_aux, without):
        with torch.no_grad():
            coder.W_dec[:4] = 0
    sparse_gradients(with_aux, tokens, lambda fired: dead, AUX)
    sparse_gradients(without, tokens, lambda fired: torch.zeros_like(dead), AUX)
    assert with_aux.W_enc.grad is not None
    assert without.W_enc.grad is not None
    assert torch.equal(with_aux.W_enc.grad[4:], without.W_enc.grad[4:])
    assert torch.equal(with_aux.W_enc.grad[:4], without.W_enc.grad[:4])
