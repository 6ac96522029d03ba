"""The sparse step of a cross-layer transcoder against autograd on the plain loss, for every selection."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workers.dictionaries.cross_layer import CrossLayerCoder, CrossLayerShape, initialize_cross_layer
from workers.dictionaries.cross_layer_loss import CrossLayerObjective
from workers.dictionaries.cross_layer_step import (
    compute_cross_layer_gradients,
    dense_gradients,
    encode_sources,
    is_dense,
    sparse_gradients,
)

N_LATENTS, K = (64, 48, 80), (4, 3, 6)
D_MODEL, D_OUT, N_TOKENS = 24, 20, 600
SELECTIONS = ("topk", "abs_topk", "threshold")


def seeded_coder(selection: str) -> CrossLayerCoder:
    coder = CrossLayerCoder(CrossLayerShape(D_MODEL, D_OUT, N_LATENTS, K, selection))
    generator = torch.Generator().manual_seed(3)
    initialize_cross_layer(coder, generator)
    with torch.no_grad():
        for weights in (coder.b_enc, coder.W_dec, coder.b_dec):
            for weight in weights:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
        if selection == "threshold":
            for log_threshold in coder.log_threshold:
                log_threshold.copy_(0.55 + 0.1 * torch.randn(log_threshold.shape, generator=generator))
    return coder


def seeded_batch(n_tokens: int = N_TOKENS) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(5)
    tokens = [torch.randn(n_tokens, D_MODEL, generator=generator) for _ in K]
    return tokens, [torch.randn(n_tokens, D_OUT, generator=generator) for _ in K]


def some_dead(n_dead: int) -> Tensor:
    dead = torch.zeros(sum(N_LATENTS), dtype=torch.bool)
    dead[torch.randperm(sum(N_LATENTS) - 64, generator=torch.Generator().manual_seed(1))[:n_dead] + 64] = True
    return dead


def gradients(coder: CrossLayerCoder) -> dict[str, Tensor]:
    return {name: weight.grad.clone() for name, weight in coder.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("sparsity_weight", [0.0, 0.3])
@pytest.mark.parametrize("n_dead", [0, 2, 90])
def test_gradients_equal_autograd_to_1e_5(selection: str, sparsity_weight: float, n_dead: int) -> None:
    objective = CrossLayerObjective(aux_weight=0.1, sparsity_weight=sparsity_weight, tanh_scale=0.7, bandwidth=0.4)
    tokens, targets = seeded_batch()
    oracle, coder = seeded_coder(selection), seeded_coder(selection)
    dead = some_dead(n_dead)
    expected = dense_gradients(oracle, tokens, targets, lambda fired: dead, objective)
    selected = encode_sources(coder, tokens, objective)
    assert selected is not None
    found = sparse_gradients(coder, tokens, targets, selected, lambda fired: dead, objective)

    by_oracle, by_step = gradients(oracle), gradients(coder)
    assert by_step.keys() == by_oracle.keys() == dict(coder.named_parameters()).keys()
    for name, gradient in by_oracle.items():
        assert float((by_step[name] - gradient).norm() / gradient.norm()) < 1e-5, name
    for part in ("reconstruction", "auxiliary", "sparsity"):
        torch.testing.assert_close(getattr(found, part), getattr(expected, part), rtol=1e-5, atol=0)
    assert torch.equal(found.fired, expected.fired)
    assert (float(found.auxiliary) > 0) == (n_dead > 0)
    assert (float(found.sparsity) > 0) == (sparsity_weight > 0)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_gradients_of_a_second_batch_do_not_hold_the_first(selection: str) -> None:
    objective, no_dead = CrossLayerObjective(sparsity_weight=0.1), some_dead(0)
    coder, fresh = seeded_coder(selection), seeded_coder(selection)
    tokens, targets = seeded_batch()
    later = [x[300:] for x in tokens], [y[300:] for y in targets]
    dead = some_dead(20)
    compute_cross_layer_gradients(
        coder, [x[:300] for x in tokens], [y[:300] for y in targets], lambda f: dead, objective
    )
    compute_cross_layer_gradients(coder, *later, lambda fired: no_dead, objective)
    compute_cross_layer_gradients(fresh, *later, lambda fired: no_dead, objective)
    for name, gradient in gradients(fresh).items():
        assert torch.equal(gradients(coder)[name], gradient), name


def test_where_most_latents_are_on_the_step_goes_the_dense_way() -> None:
    coder, objective = seeded_coder("threshold"), CrossLayerObjective(bandwidth=0.1)
    tokens, targets = seeded_batch(100)
    assert not is_dense(coder, 0, tokens[0], objective.bandwidth / 2)
    with torch.no_grad():
        coder.log_threshold[1].fill_(-5)
    assert encode_sources(coder, tokens, objective) is None
    oracle = seeded_coder("threshold")
    oracle.load_state_dict(coder.state_dict())
    dead = some_dead(0)
    compute_cross_layer_gradients(coder, tokens, targets, lambda fired: dead, objective)
    dense_gradients(oracle, tokens, targets, lambda fired: dead, objective)
    assert all(torch.equal(gradients(coder)[name], gradient) for name, gradient in gradients(oracle).items())


def test_a_step_needs_no_decoder_that_writes_yet() -> None:
    """Decoders start at zero, where the norm has no derivative; no gradient may be NaN for it."""
    coder = CrossLayerCoder(CrossLayerShape(D_MODEL, D_OUT, N_LATENTS, K))
    initialize_cross_layer(coder, torch.Generator().manual_seed(0))
    tokens, targets = seeded_batch(64)
    dead = some_dead(5)
    for step in (compute_cross_layer_gradients, dense_gradients):
        step(coder, tokens, targets, lambda fired: dead, CrossLayerObjective(sparsity_weight=1.0))
        assert all(bool(gradient.isfinite().all()) for gradient in gradients(coder).values())
        assert float(gradients(coder)["W_dec.2"].norm()) > 0


@pytest.mark.parametrize("selection", SELECTIONS)
def test_gradients_in_half_precision_point_the_same_way(selection: str) -> None:
    objective, dead = CrossLayerObjective(sparsity_weight=0.1), some_dead(0)
    tokens, targets = seeded_batch(200)
    coder, oracle = seeded_coder(selection), seeded_coder(selection)
    dense_gradients(coder, tokens, targets, lambda fired: dead, objective, is_bf16=True)
    dense_gradients(oracle, tokens, targets, lambda fired: dead, objective)
    for name, gradient in gradients(oracle).items():
        found = gradients(coder)[name]
        assert found.dtype == torch.float32
        assert float(torch.cosine_similarity(found.flatten(), gradient.flatten(), dim=0)) > 0.97, name
        assert not torch.equal(found, gradient)
