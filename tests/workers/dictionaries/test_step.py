"""The step as a whole: which way it takes, what follows the gradients, and the accelerators' options."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from workers.dictionaries.losses import ACTIVATIONS, AuxK, Objective
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder, normalize_tokens
from workers.dictionaries.step import (
    Execution,
    clip_gradients,
    compute_gradients,
    normalize_rows,
    plain_gradients,
    remove_parallel_gradient,
)

D_MODEL, N_LATENTS, K = 64, 8192, 8


def seeded_coder(activation: str, threshold: float = 2.5) -> SparseCoder:
    """Wide enough for the screen in bfloat16, where the CPU has it."""
    generator = torch.Generator().manual_seed(0)
    coder = SparseCoder(CoderShape(D_MODEL, N_LATENTS, K, selection=ACTIVATIONS[activation], has_encoder_bias=True))
    initialize_coder(coder, generator)
    with torch.no_grad():
        coder.b_dec.copy_(0.1 * torch.randn(D_MODEL, generator=generator))
        coder.b_enc.copy_(0.1 * torch.randn(N_LATENTS, generator=generator))
        if activation == "relu":
            coder.b_enc.sub_(threshold)
        if activation == "jumprelu":
            coder.threshold.fill_(threshold).requires_grad_()
    return coder


def seeded_tokens(n_tokens: int = 300) -> Tensor:
    return normalize_tokens(torch.randn(n_tokens, D_MODEL, generator=torch.Generator().manual_seed(1))).tokens


def objective_of(activation: str) -> Objective:
    return Objective(activation, AuxK(1 / 32, 16), 1e-3 if activation in ("relu", "jumprelu") else 0.0, bandwidth=0.2)


def few_dead(fired: Tensor) -> Tensor:
    return torch.arange(fired.numel()) % 100 == 0


def gradients(coder: SparseCoder) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in coder.named_parameters() if weight.grad is not None}


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_a_wide_coders_gradients_equal_autograd_to_1e_5(activation: str) -> None:
    coder, oracle, tokens = seeded_coder(activation), seeded_coder(activation), seeded_tokens()
    result = compute_gradients(coder, tokens, tokens, few_dead, objective_of(activation))
    expected = plain_gradients(oracle, tokens, tokens, few_dead, objective_of(activation))
    assert 0 < int(result.fired.sum()) < 300 * N_LATENTS / 16
    assert result.fired.tolist() == expected.fired.tolist()
    assert list(gradients(coder)) == list(gradients(oracle))
    for name, gradient in gradients(oracle).items():
        assert relative_error(gradients(coder)[name], gradient) < 1e-5, name


@pytest.mark.parametrize("activation", ["relu", "jumprelu"])
def test_nearly_dense_codes_are_trained_all_the_same(activation: str) -> None:
    coder, oracle, tokens = seeded_coder(activation, 0.0), seeded_coder(activation, 0.0), seeded_tokens(64)
    result = compute_gradients(coder, tokens, tokens, few_dead, objective_of(activation))
    plain_gradients(oracle, tokens, tokens, few_dead, objective_of(activation))
    assert int(result.fired.sum()) > 64 * N_LATENTS / 4
    for name, gradient in gradients(oracle).items():
        assert torch.equal(gradients(coder)[name], gradient), name


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler's own doing
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_bfloat16_comes_near_and_a_compiler_changes_nothing(activation: str) -> None:
    tokens, exact, objective = seeded_tokens(), seeded_coder(activation), objective_of(activation)
    compiled, rough = seeded_coder(activation), seeded_coder(activation)
    loss = plain_gradients(exact, tokens, tokens, few_dead, objective).reconstruction_loss
    plain_gradients(compiled, tokens, tokens, few_dead, objective, Execution(compiler="aot_eager"))
    roughly = plain_gradients(rough, tokens, tokens, few_dead, objective, Execution(is_bf16=True))
    for name, gradient in gradients(exact).items():
        assert relative_error(gradients(compiled)[name], gradient) < 1e-6, name
        assert gradients(rough)[name].dtype == torch.float32
    assert relative_error(gradients(rough)["W_dec"], gradients(exact)["W_dec"]) < 0.3  # some codes change hands
    assert 0 < abs(float(roughly.reconstruction_loss / loss) - 1) < 0.01


def test_a_coder_that_selects_otherwise_is_refused() -> None:
    coder = SparseCoder(CoderShape(8, 16, 2))
    with pytest.raises(ValueError, match="trained by relu selects by threshold, not topk"):
        compute_gradients(coder, seeded_tokens(), seeded_tokens(), few_dead, Objective("relu"))
    with pytest.raises(ValueError, match="'gelu' is unknown; it can be topk, abs_topk, batch_topk, jumprelu, relu"):
        compute_gradients(coder, seeded_tokens(), seeded_tokens(), few_dead, Objective("gelu"))


def stepped_coder() -> SparseCoder:
    coder, tokens = seeded_coder("topk"), seeded_tokens()
    with torch.no_grad():
        coder.W_dec.mul_(torch.linspace(0.5, 2, N_LATENTS)[:, None])
    compute_gradients(coder, tokens, tokens, few_dead, objective_of("topk"))
    return coder


def test_rows_get_norm_1_and_rows_of_zeros_and_directions_stay() -> None:
    coder = stepped_coder()
    with torch.no_grad():
        coder.W_dec[3] = 0
    before = coder.W_dec.detach().clone()
    normalize_rows(coder)
    norms = coder.W_dec.detach().norm(dim=1)
    assert float(norms[3]) == 0
    torch.testing.assert_close(norms[4:], torch.ones(N_LATENTS - 4), rtol=1e-6, atol=0)
    torch.testing.assert_close((coder.W_dec * before).sum(1), before.norm(dim=1))


def test_a_step_along_a_gradient_without_its_parallel_part_keeps_norms_to_first_order() -> None:
    coder = stepped_coder()
    normalize_rows(coder)
    before = copy.deepcopy(gradients(coder)["W_dec"])
    remove_parallel_gradient(coder)
    after = gradients(coder)["W_dec"]
    torch.testing.assert_close((after * coder.W_dec).sum(1), torch.zeros(N_LATENTS), rtol=0, atol=1e-7)
    removed = before - after
    torch.testing.assert_close(removed, (before * coder.W_dec).sum(1, keepdim=True) * coder.W_dec)


def test_gradients_are_clipped_to_their_common_norm_and_only_if_they_exceed_it() -> None:
    coder = stepped_coder()
    whole = torch.cat([gradient.flatten() for gradient in gradients(coder).values()])
    before = copy.deepcopy(gradients(coder))
    torch.testing.assert_close(clip_gradients(coder, 1e6), whole.norm())
    assert all(torch.equal(gradients(coder)[name], gradient) for name, gradient in before.items())
    torch.testing.assert_close(clip_gradients(coder, 1e-3), whole.norm())
    for name, gradient in before.items():
        torch.testing.assert_close(gradients(coder)[name], gradient * (1e-3 / whole.norm()))


def test_thresholds_that_are_trained_stay_above_zero() -> None:
    coder = seeded_coder("jumprelu")
    with torch.no_grad():
        coder.threshold[:2] = torch.tensor([-0.5, 0.25])
    normalize_rows(coder)
    assert coder.threshold[:2].tolist() == [0.0, 0.25]
