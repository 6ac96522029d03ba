"""The TopK loss, written plainly for autograd: the oracle of the fast step, and the step on any device but a CPU.

    loss = MSE(x̂_n, x_n) + α · MSE(ê, sg(x_n − x̂_n)),   ê = topk(ReLU(pre)[dead]) W_dec[dead],   α = 1/32

MSE is the mean over tokens and dimensions. AuxK lets dead latents explain the residual (Gao et al. 2024). Its known
traps (research/clt_peers.md §4): the residual is a target and carries no gradient, ê holds no decoder bias, both terms
are in the same normalized units, and the number of dead latents is taken as it is, not as a share of the width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workers.dictionaries.sparse_coder import SparseCoder
from workers.dictionaries.sparsifiers import Selected


class AuxK(NamedTuple):
    """The auxiliary loss of dead latents."""

    weight: float
    k: int


class Loss(NamedTuple):
    """The parts of the loss of one batch."""

    reconstruction: Float[Tensor, ""]
    auxiliary: Float[Tensor, ""]

    def total(self, aux: AuxK) -> Float[Tensor, ""]:
        return self.reconstruction + aux.weight * self.auxiliary


def topk_loss(
    coder: SparseCoder, tokens: Float[Tensor, "n_tokens d_model"], dead: Bool[Tensor, " n_latents"], aux: AuxK
) -> Loss:
    """The loss of normalized tokens, differentiable in the coder's weights; the latent axis is dense."""
    pre = (tokens - coder.b_dec) @ coder.W_enc.T
    chosen = coder.select(pre.detach()).indices
    values = pre.gather(1, chosen).relu()
    codes = torch.zeros_like(pre).scatter(1, chosen, values)
    reconstruction = codes @ coder.W_dec + coder.b_dec
    return Loss(
        (reconstruction - tokens).square().mean(),
        auxiliary_loss(coder, pre, (tokens - reconstruction).detach(), dead, aux.k),
    )


def auxiliary_loss(
    coder: SparseCoder,
    pre: Float[Tensor, "n_tokens n_latents"],
    residual: Float[Tensor, "n_tokens d_model"],
    dead: Bool[Tensor, " n_latents"],
    k: int,
) -> Float[Tensor, ""]:
    rows = dead.nonzero().squeeze(1)
    if rows.numel() == 0:
        return residual.new_zeros(())
    values = pre[:, rows].relu()
    kept = values.detach().topk(min(k, rows.numel()), dim=1).indices
    sparse = torch.zeros_like(values).scatter(1, kept, values.gather(1, kept))
    return (sparse @ coder.W_dec[rows] - residual).square().mean()


def dense_codes(selected: Selected, n_latents: int) -> Float[Tensor, "n_tokens n_latents"]:
    """Codes with a dense latent axis; for tests and tiny data only."""
    zeros = selected.values.new_zeros(selected.values.shape[0], n_latents)
    return zeros.scatter_add(1, selected.indices, selected.values)
