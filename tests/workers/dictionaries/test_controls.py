"""Control dictionaries fire as often as what they control, whatever kind that is, and read as it does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.workers.dictionaries.dense import dense_codes
from workers.dictionaries.controls import (
    common_threshold,
    feature_densities,
    make_control,
    matched_densities,
    needs_tokens,
)
from workers.dictionaries.cross_layer import (
    CrossLayerCoder,
    CrossLayerDictionary,
    CrossLayerShape,
    initialize_cross_layer,
)
from workers.dictionaries.feed_forward import FeedForwardCoder, FeedForwardDictionary, FeedForwardShape
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder, normalize_tokens
from workers.dictionaries.sparsifiers import Selected
from workers.dictionaries.store import (
    NEGATIVE,
    POSITIVE,
    CoderDictionary,
    Dictionary,
    DictionaryDescription,
)

N_TOKENS, D_MODEL, N_LATENTS = 4000, 16, 64
PLACE = "blocks.0"
EVERY_KIND = ("topk_sae", "relu_sae", "transcoder", "abs_topk transcoder", "cross_layer_transcoder", "ff_kv")


def describe(kind: str, reads: tuple[str, ...], **more: Any) -> DictionaryDescription:
    return DictionaryDescription(kind, "target", reads, reads, vision_model="m" * 64, image_set="i" * 64, **more)


def random_coder(**shape: Any) -> SparseCoder:
    coder = SparseCoder(CoderShape(**{"d_model": D_MODEL, "n_latents": N_LATENTS, "k": 4} | shape))
    initialize_coder(coder, torch.Generator().manual_seed(0))
    with torch.no_grad():
        coder.W_enc.mul_(torch.linspace(0.2, 1.5, N_LATENTS)[:, None])
        if coder.shape.selection == "threshold":
            coder.threshold.copy_(torch.linspace(0.1, 3.0, N_LATENTS))
    return coder


def make_target(kind: str) -> Dictionary:
    """A dictionary of one place of width 16."""
    if kind == "cross_layer_transcoder":
        cross_layer = CrossLayerCoder(CrossLayerShape(D_MODEL, D_MODEL, (N_LATENTS, N_LATENTS), (4, 4)))
        initialize_cross_layer(cross_layer, torch.Generator().manual_seed(0))
        return CrossLayerDictionary(describe(kind, (PLACE, "blocks.1")), cross_layer)
    if kind == "ff_kv":
        units = FeedForwardCoder(FeedForwardShape(D_MODEL, 6))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            units.W_dec.copy_(torch.randn(D_MODEL, 6, generator=generator))
            units.b_dec.fill_(0.5)
            units.norms.copy_(units.W_dec.norm(dim=1))
        return FeedForwardDictionary(describe(kind, (PLACE,), poles=(POSITIVE, NEGATIVE)), {PLACE: units})
    shapes: dict[str, dict[str, Any]] = {
        "topk_sae": {},
        "relu_sae": {"selection": "threshold"},
        "transcoder": {"is_bias_tied": False, "d_out": 6, "normalization": "none"},
        "abs_topk transcoder": {"is_bias_tied": False, "selection": "abs_topk", "normalization": "none"},
    }
    poles = (POSITIVE, NEGATIVE) if kind.startswith("abs") else (POSITIVE,)
    coder = random_coder(**shapes[kind])
    return CoderDictionary(describe(kind.rpartition(" ")[2], (PLACE,), poles=poles), {PLACE: coder})


@pytest.fixture(scope="module")
def activations() -> Tensor:
    return torch.randn(N_TOKENS, D_MODEL, generator=torch.Generator().manual_seed(1)) * 4 + 2


def generator(seed: int = 2) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_dictionary(coder: SparseCoder) -> CoderDictionary:
    return CoderDictionary(describe("random_directions", (PLACE,)), {PLACE: coder})


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_random_directions_are_as_dense_as_the_features_of_any_kind(kind: str, activations: Tensor) -> None:
    target = make_target(kind)
    control = make_control("random_directions", target, PLACE, activations, generator())
    live = feature_densities(target, PLACE, activations)
    assert live.numel() == len(target.poles) * target.n_latents(PLACE)
    live = live[live > 0].sort().values
    found = feature_densities(as_dictionary(control), PLACE, activations).sort().values
    assert control.n_latents == target.n_latents(PLACE)
    levels = ((torch.arange(control.n_latents) + 0.5) / control.n_latents * live.numel()).long()
    wanted = live[levels].clamp_min(1 / N_TOKENS)
    attainable = wanted <= 0.4  # the better side of a direction is half of the tokens or more
    assert int(attainable.sum()) >= 1
    assert float((found - wanted)[attainable].abs().max()) < 1.5 / N_TOKENS


@pytest.mark.parametrize("kind", [kind for kind in EVERY_KIND if kind != "ff_kv"])
def test_a_control_reads_tokens_as_its_target_does(kind: str, activations: Tensor) -> None:
    target = make_target(kind)
    control = make_control("residual_basis", target, PLACE, activations, generator())
    is_normalized = kind in ("topk_sae", "relu_sae")
    assert (control.shape.selection, control.shape.normalization) == ("threshold", "token" if is_normalized else "none")
    tokens = normalize_tokens(activations[:50]).tokens if is_normalized else activations[:50]
    expected = torch.where(tokens > control.threshold, tokens, 0.0)
    found = dense_codes(Selected(*control.encode(activations[:50])[:2]), D_MODEL)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(control.W_dec, torch.eye(D_MODEL))


def test_an_untrained_dictionary_has_the_shape_and_k_of_its_target(activations: Tensor) -> None:
    target = make_target("topk_sae")
    assert not needs_tokens("untrained_dictionary", target)
    control = make_control("untrained_dictionary", target, PLACE, torch.zeros(0, D_MODEL), generator())
    assert (control.n_latents, control.d_model, control.k) == (N_LATENTS, D_MODEL, 4)
    assert not torch.equal(control.W_enc, random_coder().W_enc)
    fired = control.encode(activations).values > 0
    assert fired.sum(1).unique().tolist() == [4]  # type: ignore[no-untyped-call]


def test_an_untrained_dictionary_with_thresholds_has_the_mean_l0_of_its_target(activations: Tensor) -> None:
    target = make_target("relu_sae")
    assert needs_tokens("untrained_dictionary", target)
    control = make_control("untrained_dictionary", target, PLACE, activations, generator())
    l0 = [float(feature_densities(one, PLACE, activations).sum()) for one in (target, as_dictionary(control))]
    assert l0[1] == pytest.approx(l0[0], abs=2 / N_TOKENS)
    assert control.threshold.unique().numel() == 1  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("kind", ["transcoder", "abs_topk transcoder", "cross_layer_transcoder"])
def test_an_untrained_transcoder_writes_random_directions(kind: str, activations: Tensor) -> None:
    target = make_target(kind)
    control = make_control("untrained_dictionary", target, PLACE, activations[:10], generator())
    assert (control.shape.selection, control.k) == ("abs_topk" if kind.startswith("abs") else "topk", 4)
    norms = control.W_dec.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(N_LATENTS))
    fired = control.encode(activations[:10]).values != 0
    assert fired.sum(1).unique().tolist() == [4]  # type: ignore[no-untyped-call]


def test_a_common_threshold_is_that_of_a_plain_sort(activations: Tensor) -> None:
    coder = random_coder()
    pre = coder.pre_activations(normalize_tokens(activations).tokens).detach().flatten().sort(descending=True).values
    assert common_threshold(coder, activations, 700) == float(pre[700])
    assert common_threshold(coder, activations, pre.numel()) == 0.0


def test_a_random_direction_of_hidden_units_writes_what_the_mlp_makes_of_it(activations: Tensor) -> None:
    target = make_target("ff_kv")
    assert isinstance(target, FeedForwardDictionary)
    control = make_control("random_directions", target, PLACE, activations, generator())
    torch.testing.assert_close(control.W_enc.norm(dim=1), torch.ones(D_MODEL))
    torch.testing.assert_close(control.W_dec, control.W_enc @ target.coders[PLACE].W_dec)
    assert torch.equal(control.b_dec, target.coders[PLACE].b_dec)


@pytest.mark.parametrize("kind", ["residual_basis", "untrained_dictionary"])
def test_hidden_units_have_no_basis_and_nothing_untrained(kind: str, activations: Tensor) -> None:
    with pytest.raises(ValueError, match="take random_directions or random_transformer"):
        make_control(kind, make_target("ff_kv"), PLACE, activations, generator())


def test_controls_depend_on_the_seed_alone(activations: Tensor) -> None:
    target = make_target("topk_sae")
    made = [make_control("random_directions", target, PLACE, activations, generator(seed)) for seed in (5, 5, 6)]
    thresholds = [coder.get_parameter("threshold") for coder in made]
    assert torch.equal(thresholds[0], thresholds[1])
    assert not torch.equal(thresholds[0], thresholds[2])


def test_a_target_that_never_fires_can_not_be_matched() -> None:
    with pytest.raises(ValueError, match="nothing to match"):
        matched_densities(torch.zeros(4), 4, torch.Generator())


def test_an_unknown_control_is_refused(activations: Tensor) -> None:
    with pytest.raises(ValueError, match="'shuffled' is unknown"):
        make_control("shuffled", make_target("topk_sae"), PLACE, activations, torch.Generator())
