"""The fast step against autograd on the plain loss: every activation, SAEs and transcoders, dead latents included."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from workers.dictionaries.losses import ACTIVATIONS, AuxK, FindDead, Objective, plain_loss
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder, normalize_tokens
from workers.dictionaries.sparse_step import StepResult, sparse_gradients

D_MODEL, D_OUT, N_TOKENS = 24, 16, 700
AUX = AuxK(weight=1 / 32, k=12)
WEIGHTS = {"relu": 1e-3, "jumprelu": 1e-3}


class Kind(NamedTuple):
    """What is trained, and by which activation."""

    activation: str
    is_transcoder: bool = False
    has_encoder_bias: bool = False
    has_skip: bool = False


KINDS = [Kind(activation) for activation in ACTIVATIONS] + [
    Kind(activation, is_transcoder=True, has_encoder_bias=True, has_skip=has_skip)
    for activation in ACTIVATIONS
    for has_skip in (False, True)
]


def seeded_coder(kind: Kind, n_latents: int = 256, k: int = 5, sparse: bool = True) -> SparseCoder:
    """Thresholds and encoder biases are such that a few latents of a token are on; without ``sparse``, half of them."""
    generator = torch.Generator().manual_seed(3)
    shape = CoderShape(
        D_MODEL,
        n_latents,
        k,
        d_out=D_OUT if kind.is_transcoder else 0,
        selection=ACTIVATIONS[kind.activation],
        is_bias_tied=not kind.is_transcoder,
        has_encoder_bias=kind.has_encoder_bias or kind.activation == "relu",
        has_skip=kind.has_skip,
    )
    coder = SparseCoder(shape)
    initialize_coder(coder, generator)
    with torch.no_grad():
        for weight in (coder.W_enc, coder.W_dec, coder.b_dec):
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
        if kind.has_skip:
            coder.W_skip.copy_(0.1 * torch.randn(coder.W_skip.shape, generator=generator))
        if coder.shape.has_encoder_bias:
            coder.b_enc.copy_(0.2 * torch.randn(n_latents, generator=generator))
        if kind.activation == "relu" and sparse:
            coder.b_enc.sub_(3)
        if kind.activation == "jumprelu":
            coder.threshold.copy_(torch.rand(n_latents, generator=generator) * 0.5 + (2.5 if sparse else 0))
            coder.threshold.requires_grad_()
    return coder


def seeded_batch(kind: Kind, n_tokens: int = N_TOKENS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    tokens = normalize_tokens(3 * torch.randn(n_tokens, D_MODEL, generator=generator) + 1).tokens
    return tokens, torch.randn(n_tokens, D_OUT, generator=generator) if kind.is_transcoder else tokens


def objective_of(kind: Kind, aux: AuxK = AUX) -> Objective:
    return Objective(kind.activation, aux, WEIGHTS.get(kind.activation, 0.0), bandwidth=0.4)


def some_dead(n_dead: int, n_latents: int = 256) -> Tensor:
    dead = torch.zeros(n_latents, dtype=torch.bool)
    dead[torch.randperm(n_latents, generator=torch.Generator().manual_seed(1))[:n_dead]] = True
    return dead


def step(coder: SparseCoder, batch: tuple[Tensor, Tensor], find_dead: FindDead, objective: Objective) -> StepResult:
    result = sparse_gradients(coder, *batch, find_dead, objective)
    assert result is not None
    return result


def assert_same_gradients(found: SparseCoder, oracle: SparseCoder) -> None:
    expected = {name: weight.grad for name, weight in oracle.named_parameters() if weight.requires_grad}
    got = {name: weight.grad for name, weight in found.named_parameters() if weight.requires_grad}
    assert list(got) == list(expected)
    for name, gradient in expected.items():
        computed = got[name]
        assert gradient is not None
        assert computed is not None
        assert float(gradient.norm()) > 0, name
        assert float((computed - gradient).norm() / gradient.norm()) < 1e-5, name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
@pytest.mark.parametrize(("n_dead", "k_aux"), [(0, 12), (7, 12), (60, 12), (200, 3)])
def test_gradients_equal_autograd_to_1e_5(kind: Kind, n_dead: int, k_aux: int) -> None:
    batch, dead = seeded_batch(kind), some_dead(n_dead)
    objective = objective_of(kind, AuxK(1 / 32, k_aux))
    oracle, coder = seeded_coder(kind), seeded_coder(kind)

    loss = plain_loss(oracle, *batch, lambda fired: dead, objective)
    loss.total(objective).backward()  # type: ignore[no-untyped-call]
    result = step(coder, batch, lambda fired: dead, objective)

    assert_same_gradients(coder, oracle)
    assert result.fired.tolist() == loss.fired.tolist()
    torch.testing.assert_close(result.reconstruction_loss, loss.reconstruction.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(result.auxiliary_loss, loss.auxiliary.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(result.sparsity_loss, loss.sparsity.detach(), rtol=1e-5, atol=0)
    assert (float(result.auxiliary_loss) > 0) == (n_dead > 0)
    assert (float(result.sparsity_loss) > 0) == (kind.activation in WEIGHTS)
    if kind.activation == "batch_topk":
        assert result.threshold is not None
        assert loss.threshold is not None
        torch.testing.assert_close(result.threshold, loss.threshold, rtol=1e-5, atol=0)


@pytest.mark.parametrize("activation", ["topk", "abs_topk"])
@pytest.mark.parametrize(("n_latents", "k"), [(128, 60), (101, 5), (24, 24)])
@pytest.mark.parametrize("n_dead", [0, 20])
def test_padded_zeros_and_odd_widths_change_nothing(activation: str, n_latents: int, k: int, n_dead: int) -> None:
    """With k past the number of positive latents a row holds entries of value 0, which are no codes."""
    kind = Kind(activation)
    batch, dead = seeded_batch(kind), some_dead(n_dead, n_latents)
    oracle, coder = seeded_coder(kind, n_latents, k), seeded_coder(kind, n_latents, k)
    loss = plain_loss(oracle, *batch, lambda fired: dead, objective_of(kind))
    loss.total(objective_of(kind)).backward()  # type: ignore[no-untyped-call]
    result = step(coder, batch, lambda fired: dead, objective_of(kind))
    assert_same_gradients(coder, oracle)
    assert result.fired.tolist() == loss.fired.tolist()


@pytest.mark.parametrize("activation", ["relu", "jumprelu"])
def test_nearly_dense_codes_are_left_to_dense_products(activation: str) -> None:
    kind = Kind(activation)
    coder = seeded_coder(kind, sparse=False)
    asked: list[Tensor] = []

    def find_dead(fired: Tensor) -> Tensor:
        asked.append(fired)
        return some_dead(0)

    assert sparse_gradients(coder, *seeded_batch(kind), find_dead, objective_of(kind)) is None
    assert asked == []
    assert all(weight.grad is None for weight in coder.parameters())


def test_a_batch_whose_sample_misleads_still_has_its_largest_entries() -> None:
    """The tokens from which the threshold is guessed are twice the others; the first guess is then too high."""
    kind = Kind("batch_topk")
    tokens, _ = seeded_batch(kind)
    tokens = tokens.clone()
    tokens[:: N_TOKENS // 64] *= 2
    oracle, coder = seeded_coder(kind), seeded_coder(kind)
    loss = plain_loss(oracle, tokens, tokens, lambda fired: some_dead(0), objective_of(kind))
    loss.total(objective_of(kind)).backward()  # type: ignore[no-untyped-call]
    result = step(coder, (tokens, tokens), lambda fired: some_dead(0), objective_of(kind))
    assert_same_gradients(coder, oracle)
    assert int(result.fired.sum()) == 5 * N_TOKENS


@pytest.mark.parametrize("kind", KINDS[:5], ids=lambda kind: kind.activation)
def test_gradients_of_a_second_batch_do_not_hold_the_first(kind: Kind) -> None:
    coder, fresh = seeded_coder(kind), seeded_coder(kind)
    tokens, _ = seeded_batch(kind)
    for trained, parts in ((coder, (tokens[:300], tokens[300:])), (fresh, (tokens[300:],))):
        for part in parts:
            step(trained, (part, part), lambda fired: some_dead(9), objective_of(kind))
    for name, weight in coder.named_parameters():
        other = fresh.get_parameter(name).grad
        assert (weight.grad is None) == (other is None)
        if weight.grad is not None and other is not None:
            assert torch.equal(weight.grad, other), name


def test_firing_counts_leave_out_entries_of_value_zero() -> None:
    coder = SparseCoder(CoderShape(d_model=2, n_latents=3, k=3))
    with torch.no_grad():
        coder.W_enc.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]))
    tokens = torch.tensor([[2.0, 0.0], [3.0, 1.0]])
    counts: list[Tensor] = []

    def remember(fired: Tensor) -> Tensor:
        counts.append(fired)
        return torch.zeros(3, dtype=torch.bool)

    assert step(coder, (tokens, tokens), remember, Objective("topk", AUX)).fired.tolist() == [2, 0, 1]
    assert counts[0].tolist() == [2, 0, 1]


def test_the_residual_is_a_target_of_the_auxiliary_loss_without_a_gradient_of_its_own() -> None:
    """With dead decoder rows of zero the auxiliary loss still exists, and must leave the live latents alone."""
    kind = Kind("topk")
    batch, dead = seeded_batch(kind), torch.arange(256) < 4
    with_aux, without = seeded_coder(kind), seeded_coder(kind)
    for coder in (with_aux, without):
        with torch.no_grad():
            coder.W_dec[:4] = 0
    step(with_aux, batch, lambda fired: dead, objective_of(kind))
    step(without, batch, lambda fired: torch.zeros_like(dead), objective_of(kind))
    assert with_aux.W_enc.grad is not None
    assert without.W_enc.grad is not None
    assert torch.equal(with_aux.W_enc.grad[4:], without.W_enc.grad[4:])
