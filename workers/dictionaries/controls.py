"""Control dictionaries: what a feature must beat before it says anything of training.

    residual_basis        one latent per dimension of the token that is read: reads and writes the unit vector e_j
    random_directions     one latent per random direction on the unit sphere, as many as the dictionary it controls
    untrained_dictionary  the same coder, freshly initialized, as sparse as its target
    random_transformer    the same kind of dictionary on an untrained copy of the vision model (workers/stages)

The first two have a threshold per latent, set so that their densities have the distribution of the densities of the
target's live features at the same hookpoint; both are measured on the same calibration tokens. The third has its
target's k, or where thresholds select, one threshold that gives it its target's mean L0. A control reads tokens
normalized as its target does. The first two have one pole only: the direction −e_j is another feature and may be had
from another draw; a random one is turned about where only its other side is as dense as it should be. They write where
they read, but a random direction of an MLP's hidden units writes what the MLP makes of it. Of hidden units there is
neither a basis, which they are themselves, nor an untrained dictionary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from workers.dictionaries.cross_layer import CrossLayerDictionary
from workers.dictionaries.feed_forward import FeedForwardDictionary
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder, unit_rows
from workers.dictionaries.store import CoderDictionary, Dictionary, pole_codes

LATENTS_AT_ONCE = 256
TOKENS_AT_ONCE = 4096
CALIBRATED = ("residual_basis", "random_directions", "untrained_dictionary")


class Reading(NamedTuple):
    """A coder's shape at one hookpoint; ``values`` where a control writes what the MLP makes of its directions."""

    shape: CoderShape
    values: Float[Tensor, "d_model d_out"] | None = None
    bias: Float[Tensor, " d_out"] | None = None


def reading_of(target: Dictionary, hookpoint: str, d_model: int) -> Reading:
    """How ``target`` reads a hookpoint of this width; raises ValueError for a dictionary that nothing controls."""
    if isinstance(target, CoderDictionary):
        return Reading(target.coders[hookpoint].shape)
    if isinstance(target, CrossLayerDictionary):
        shape, source = target.coder.shape, target.reads.index(hookpoint)
        n_latents, k = shape.n_latents[source], shape.k[source]
        selection = shape.selection
        return Reading(CoderShape(d_model, n_latents, k, 0, selection, normalization="none", is_bias_tied=False))
    if isinstance(target, FeedForwardDictionary):
        coder = target.coders[hookpoint]
        n_latents, d_out = coder.shape.n_latents, coder.shape.d_out
        values = coder.W_dec * coder.norms[:, None] if coder.shape.is_normalized else coder.W_dec
        reading = CoderShape(d_model, n_latents, n_latents, d_out, "threshold", "none", is_bias_tied=False)
        return Reading(reading, values.cpu(), coder.b_dec.cpu())
    raise ValueError(f"A dictionary of kind '{target.kind}' has no controls.")


def needs_tokens(kind: str, target: Dictionary) -> bool:
    """Whether the control is calibrated on tokens: all but an untrained dictionary whose k is its density."""
    is_by_k = isinstance(target, CoderDictionary | CrossLayerDictionary) and selection_of(target) != "threshold"
    return not (kind == "untrained_dictionary" and is_by_k)


def selection_of(target: CoderDictionary | CrossLayerDictionary) -> str:
    if isinstance(target, CrossLayerDictionary):
        return target.coder.shape.selection
    return next(iter(target.coders.values())).shape.selection


def require_control(kind: str, target: Dictionary) -> None:
    """Raises ValueError with a sentence where this target has no control of this kind."""
    if kind not in CALIBRATED:
        raise ValueError(f"The control kind '{kind}' is unknown.")
    if isinstance(target, FeedForwardDictionary) and kind != "random_directions":
        raise ValueError(
            f"The latents of '{target.description.name}' are the hidden units of the model, so that a basis of them is "
            "no control and there is no dictionary to leave untrained; take random_directions or random_transformer."
        )


def make_control(
    kind: str,
    target: Dictionary,
    hookpoint: str,
    activations: Float[Tensor, "n_tokens d_model"],
    generator: torch.Generator,
) -> SparseCoder:
    """A control of ``target`` at one hookpoint, calibrated on these tokens; raises ValueError for an unknown kind."""
    require_control(kind, target)
    reading = reading_of(target, hookpoint, activations.shape[1])
    if kind == "untrained_dictionary":
        return untrained_coder(target, hookpoint, reading.shape, activations, generator)
    d_model = activations.shape[1]
    directions = torch.eye(d_model)
    if kind == "random_directions":
        directions = unit_rows(torch.randn(target.n_latents(hookpoint), d_model, generator=generator))
    live = feature_densities(target, hookpoint, activations)
    densities = matched_densities(live, directions.shape[0], generator)
    coder = threshold_coder(directions, densities, reading, activations)
    if kind == "random_directions":
        turn_to_the_denser_side(coder, activations)
    with torch.no_grad():
        coder.threshold.clamp_min_(0)
    return coder


@torch.no_grad()
def untrained_coder(
    target: Dictionary, hookpoint: str, shape: CoderShape, activations: Tensor, generator: torch.Generator
) -> SparseCoder:
    """Random rows; what writes elsewhere than it reads gets random directions for the zeros it would start with."""
    coder = SparseCoder(shape)
    initialize_coder(coder, generator)
    if not shape.is_bias_tied:
        coder.W_dec.copy_(unit_rows(torch.randn(coder.W_dec.shape, generator=generator)))
    if shape.selection == "threshold":
        live = feature_densities(target, hookpoint, activations)
        n_active = round(float(live.sum()) * activations.shape[0])
        coder.threshold.fill_(common_threshold(coder, activations, n_active))
    return coder.requires_grad_(False)


@torch.no_grad()
def common_threshold(coder: SparseCoder, activations: Float[Tensor, "n_tokens d_model"], n_active: int) -> float:
    """The one threshold above which so many entries of all these tokens lie; zero where fewer are positive."""
    largest = torch.zeros(0)
    for tokens in torch.split(activations, TOKENS_AT_ONCE):
        pre = coder.pre_activations(coder.normalize(tokens).tokens).flatten()
        candidates = torch.cat([largest, pre[pre > 0]])
        largest = candidates.topk(min(n_active + 1, candidates.numel()), sorted=True).values
    return float(largest[n_active]) if largest.numel() > n_active else 0.0


@torch.no_grad()
def threshold_coder(
    directions: Float[Tensor, "n_latents d_model"],
    densities: Float[Tensor, " n_latents"],
    reading: Reading,
    activations: Float[Tensor, "n_tokens d_model"],
) -> SparseCoder:
    """A coder that reads these directions, each latent above its threshold on its share of these tokens."""
    n_latents, d_model = directions.shape
    d_out = 0 if reading.values is None else reading.values.shape[1]
    normalization, is_tied = reading.shape.normalization, reading.values is None
    shape = CoderShape(d_model, n_latents, n_latents, d_out, "threshold", normalization, is_bias_tied=is_tied)
    coder = SparseCoder(shape)
    coder.W_enc.copy_(directions)
    coder.W_dec.copy_(directions if reading.values is None else directions @ reading.values)
    if reading.bias is not None:
        coder.b_dec.copy_(reading.bias)
    tokens = coder.normalize(activations).tokens
    n_tokens = tokens.shape[0]
    n_active = (densities * n_tokens).round().long().clamp(1, n_tokens - 1)
    for start in range(0, n_latents, LATENTS_AT_ONCE):
        columns = (directions[start : start + LATENTS_AT_ONCE] @ tokens.T).contiguous()
        for offset, values in enumerate(columns):
            rank = n_tokens - int(n_active[start + offset])
            coder.threshold[start + offset] = values.kthvalue(rank).values
    return coder.requires_grad_(False)


@torch.no_grad()
def turn_to_the_denser_side(coder: SparseCoder, activations: Float[Tensor, "n_tokens d_model"]) -> None:
    """Turn about each direction that is not positive on as many tokens as it should be active on, if that helps."""
    tokens = coder.normalize(activations).tokens
    for latent in (coder.threshold < 0).nonzero().squeeze(1).tolist():
        values = tokens @ coder.W_enc[latent]
        if int((values < 0).sum()) <= int((values > 0).sum()):
            continue
        n_active = int((values > coder.threshold[latent]).sum())
        coder.W_enc[latent].neg_()
        coder.W_dec[latent].neg_()
        coder.threshold[latent] = (-values).kthvalue(values.numel() - n_active).values


@torch.no_grad()
def feature_densities(
    target: Dictionary, hookpoint: str, activations: Float[Tensor, "n_tokens d_model"]
) -> Float[Tensor, " n_features"]:
    """The share of tokens at which each feature fires: latent by latent, pole after pole."""
    n_latents = target.n_latents(hookpoint)
    fired = torch.zeros(len(target.poles), n_latents, dtype=torch.long)
    for tokens in torch.split(activations, TOKENS_AT_ONCE):
        codes = target.encode(hookpoint, tokens)
        for row, pole in enumerate(target.poles):
            seen = pole_codes(codes, pole)
            fired[row] += torch.bincount(seen.indices[seen.values > 0], minlength=n_latents)
    return fired.flatten().double() / activations.shape[0]


def matched_densities(
    target: Float[Tensor, " n_target"], n_latents: int, generator: torch.Generator
) -> Float[Tensor, " n_latents"]:
    """Densities with the distribution of the target's live features, in random order."""
    live = target[target > 0]
    if live.numel() == 0:
        raise ValueError("No latent of the dictionary fires on the calibration tokens; there is nothing to match.")
    levels = (torch.arange(n_latents, dtype=torch.float64) + 0.5) / n_latents
    quantiles = live.sort().values[(levels * live.numel()).long()]
    return quantiles[torch.randperm(n_latents, generator=generator)]
