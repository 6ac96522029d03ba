"""Control dictionaries: what a feature must beat before it says anything of training.

    residual_basis        one latent per dimension of the normalized token: reads and writes the unit vector e_j
    random_directions     one latent per random direction on the unit sphere, as many as the dictionary it controls
    untrained_dictionary  the same coder, freshly initialized, with the same k: every token has the same L0

The first two have a threshold per latent, set so that their densities have the distribution of the densities of the
target's live latents at the same hookpoint; both are measured on the same calibration tokens. The third matches the
mean density by its k. A control and its target read tokens normalized in the same way, and one pole only: the
direction −e_j is another feature and may be had from another draw.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from workers.dictionaries.sparse_coder import (
    CoderShape,
    SparseCoder,
    initialize_coder,
    normalize_tokens,
    unit_rows,
)

LATENTS_AT_ONCE = 256
UNCALIBRATED = ("untrained_dictionary",)  # its k is its density; no activations are needed


def make_control(
    kind: str, target: SparseCoder, activations: Float[Tensor, "n_tokens d_model"], generator: torch.Generator
) -> SparseCoder:
    """A control of ``target``, calibrated on these tokens; raises ValueError for an unknown kind."""
    if kind == "untrained_dictionary":
        return untrained_coder(target, generator)
    if kind == "residual_basis":
        directions = torch.eye(target.d_model)
    elif kind == "random_directions":
        directions = unit_rows(torch.randn(target.n_latents, target.d_model, generator=generator))
    else:
        raise ValueError(f"The control kind '{kind}' is unknown.")
    densities = matched_densities(latent_densities(target, activations), directions.shape[0], generator)
    return threshold_coder(directions, densities, normalize_tokens(activations).tokens)


def untrained_coder(target: SparseCoder, generator: torch.Generator) -> SparseCoder:
    coder = SparseCoder(target.shape)
    initialize_coder(coder, generator)
    return coder.requires_grad_(False)


@torch.no_grad()
def threshold_coder(
    directions: Float[Tensor, "n_latents d_model"],
    densities: Float[Tensor, " n_latents"],
    tokens: Float[Tensor, "n_tokens d_model"],
) -> SparseCoder:
    """A coder that reads and writes these directions, each latent active on its share of these normalized tokens."""
    n_latents, d_model = directions.shape
    coder = SparseCoder(CoderShape(d_model=d_model, n_latents=n_latents, k=n_latents, selection="threshold"))
    coder.W_enc.copy_(directions)
    coder.W_dec.copy_(directions)
    n_tokens = tokens.shape[0]
    n_active = (densities * n_tokens).round().long().clamp(1, n_tokens - 1)
    for start in range(0, directions.shape[0], LATENTS_AT_ONCE):
        columns = (directions[start : start + LATENTS_AT_ONCE] @ tokens.T).contiguous()
        for offset, values in enumerate(columns):
            rank = n_tokens - int(n_active[start + offset])
            coder.threshold[start + offset] = values.kthvalue(rank).values
    coder.threshold.clamp_min_(0)
    return coder.requires_grad_(False)


@torch.no_grad()
def latent_densities(coder: SparseCoder, activations: Float[Tensor, "n_tokens d_model"]) -> Float[Tensor, " n_latents"]:
    """The share of tokens at which each latent fires."""
    codes = coder.encode(activations)
    fired = torch.bincount(codes.indices[codes.values != 0], minlength=coder.n_latents)
    return fired.double() / activations.shape[0]


def matched_densities(
    target: Float[Tensor, " n_target"], n_latents: int, generator: torch.Generator
) -> Float[Tensor, " n_latents"]:
    """Densities with the distribution of the target's live latents, in random order."""
    live = target[target > 0]
    if live.numel() == 0:
        raise ValueError("No latent of the dictionary fires on the calibration tokens; there is nothing to match.")
    levels = (torch.arange(n_latents, dtype=torch.float64) + 0.5) / n_latents
    quantiles = live.sort().values[(levels * live.numel()).long()]
    return quantiles[torch.randperm(n_latents, generator=generator)]
