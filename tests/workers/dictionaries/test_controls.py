"""Control dictionaries fire as often as what they control."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workers.dictionaries.controls import latent_densities, make_control, matched_densities
from workers.dictionaries.losses import dense_codes
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder, normalize_tokens
from workers.dictionaries.sparsifiers import Selected

N_TOKENS, D_MODEL = 4000, 16


@pytest.fixture(scope="module")
def target() -> SparseCoder:
    coder = SparseCoder(CoderShape(d_model=D_MODEL, n_latents=64, k=4))
    initialize_coder(coder, torch.Generator().manual_seed(0))
    with torch.no_grad():
        coder.W_enc.mul_(torch.linspace(0.2, 1.5, 64)[:, None])
    return coder


@pytest.fixture(scope="module")
def activations() -> Tensor:
    return torch.randn(N_TOKENS, D_MODEL, generator=torch.Generator().manual_seed(1)) * 4 + 2


@pytest.mark.parametrize(("kind", "n_latents"), [("random_directions", 64), ("residual_basis", D_MODEL)])
def test_densities_are_those_of_the_target(target: SparseCoder, activations: Tensor, kind: str, n_latents: int) -> None:
    control = make_control(kind, target, activations, torch.Generator().manual_seed(2))
    live = latent_densities(target, activations)
    live = live[live > 0].sort().values
    found = latent_densities(control, activations).sort().values
    assert control.n_latents == n_latents
    levels = ((torch.arange(n_latents) + 0.5) / n_latents * live.numel()).long()
    assert float((found - live[levels].clamp_min(1 / N_TOKENS)).abs().max()) < 1.5 / N_TOKENS


def test_the_residual_basis_reads_the_dimensions_of_the_normalized_token(
    target: SparseCoder, activations: Tensor
) -> None:
    control = make_control("residual_basis", target, activations, torch.Generator().manual_seed(2))
    assert control.shape.selection == "threshold"
    tokens = normalize_tokens(activations[:50]).tokens
    expected = torch.where(tokens > control.threshold, tokens, 0.0)
    found = dense_codes(Selected(*control.encode(activations[:50])[:2]), D_MODEL)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(control.W_dec, torch.eye(D_MODEL))


def test_an_untrained_dictionary_has_the_shape_and_k_of_its_target(target: SparseCoder, activations: Tensor) -> None:
    control = make_control("untrained_dictionary", target, activations, torch.Generator().manual_seed(2))
    assert (control.n_latents, control.d_model, control.k) == (64, D_MODEL, 4)
    assert not torch.equal(control.W_enc, target.W_enc)
    fired = control.encode(activations).values > 0
    assert fired.sum(1).unique().tolist() == [4]  # type: ignore[no-untyped-call]


def test_controls_depend_on_the_seed_alone(target: SparseCoder, activations: Tensor) -> None:
    made = [
        make_control("random_directions", target, activations, torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    ]
    thresholds = [coder.get_parameter("threshold") for coder in made]
    assert torch.equal(thresholds[0], thresholds[1])
    assert not torch.equal(thresholds[0], thresholds[2])


def test_a_target_that_never_fires_can_not_be_matched() -> None:
    with pytest.raises(ValueError, match="nothing to match"):
        matched_densities(torch.zeros(4), 4, torch.Generator())


def test_an_unknown_control_is_refused(target: SparseCoder, activations: Tensor) -> None:
    with pytest.raises(ValueError, match="'shuffled' is unknown"):
        make_control("shuffled", target, activations, torch.Generator())
