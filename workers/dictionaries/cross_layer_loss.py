"""The loss of a cross-layer transcoder, written plainly for autograd: the sparse step's oracle, and the step on a GPU.

    loss = Σ_j MSE(ŷ_j, y_j) + α · A + λ · S
    S = mean over tokens of Σ_{i,f} tanh(c · ‖W_dec,f‖ · |z_f|)     ‖W_dec,f‖ over the rows of f for all targets, joined

MSE is the mean over tokens and dimensions. S follows Ameisen et al. 2025; public trainers sum it over the batch or take
its mean (research/clt_peers.md §1.2), so that their λ and c do not carry over from one to the other. Here it is the
mean over tokens and the sum over latents. A gives dead latents something to do:

    topk, abs_topk   Σ_j MSE(Σ_{i ≤ j} ê_i W_dec_{i→j}, sg(y_j − ŷ_j)), ê_i the k_i strongest of source i's dead (AuxK)
    threshold        mean over tokens of Σ over the dead of ReLU(θ_f − pre_f), free of the decoder, which may be zero

A threshold learns by the straight-through estimate of ``losses.JumpReLU``; it is trained as a logarithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workers.dictionaries.cross_layer import CrossLayerCoder
from workers.dictionaries.losses import FindDead, JumpReLU, keep_entries
from workers.dictionaries.sparsifiers import largest

BySource = Sequence[Float[Tensor, "n_tokens d_model"]]
ByTarget = Sequence[Float[Tensor, "n_tokens d_out"]]


@dataclass(frozen=True)
class CrossLayerObjective:
    """What a step minimizes. ``sparsity_weight`` (λ) is the weight of now: warm-up is the caller's."""

    aux_weight: float = 1 / 32  # α
    sparsity_weight: float = 0.0
    tanh_scale: float = 1.0  # c
    bandwidth: float = 0.5  # of the straight-through estimate


class CrossLayerLoss(NamedTuple):
    """The parts of the loss of one batch."""

    reconstruction: Float[Tensor, " n_targets"]
    auxiliary: Float[Tensor, ""]
    sparsity: Float[Tensor, ""]
    fired: Int[Tensor, " n_all_latents"]

    def total(self, objective: CrossLayerObjective) -> Float[Tensor, ""]:
        weighted = objective.aux_weight * self.auxiliary + objective.sparsity_weight * self.sparsity
        return self.reconstruction.sum() + weighted


def cross_layer_loss(
    coder: CrossLayerCoder, tokens: BySource, targets: ByTarget, find_dead: FindDead, objective: CrossLayerObjective
) -> CrossLayerLoss:
    """The loss of standardized tokens and targets, differentiable in the weights; the latent axes are dense.

    ``find_dead`` is told how often each latent fired in this batch, all sources side by side, and answers which are
    dead now.
    """
    pre = [torch.addmm(coder.b_enc[i], x, coder.W_enc[i].T) for i, x in enumerate(tokens)]
    codes = [activate(coder, i, values, objective) for i, values in enumerate(pre)]
    fired = torch.cat([(z.detach() != 0).sum(0) for z in codes])
    written = decode_densely(coder, codes)
    errors = [y_hat + bias - y for y_hat, bias, y in zip(written, coder.b_dec, targets, strict=True)]
    reconstruction = torch.stack([error.square().mean() for error in errors])
    dead = coder.shape.by_source(find_dead(fired))
    residuals = [-error.detach() for error in errors]
    auxiliary = auxiliary_loss(coder, pre, residuals, dead) if objective.aux_weight else reconstruction.new_zeros(())
    sparsity = tanh_penalty(coder, codes, objective) if objective.sparsity_weight else reconstruction.new_zeros(())
    return CrossLayerLoss(reconstruction, auxiliary, sparsity, fired)


def activate(
    coder: CrossLayerCoder, source: int, pre: Float[Tensor, "n_tokens n_latents"], objective: CrossLayerObjective
) -> Float[Tensor, "n_tokens n_latents"]:
    if coder.shape.selection == "threshold":
        jumped: Tensor = JumpReLU.apply(pre, coder.thresholds(source), objective.bandwidth)  # type: ignore[no-untyped-call]
        return jumped
    kept = coder.select(source, pre.detach()).indices
    return keep_entries(pre if coder.shape.is_signed else pre.relu(), kept)


def decode_densely(
    coder: CrossLayerCoder, codes: Sequence[Float[Tensor, "n_tokens n_latents"]]
) -> list[Float[Tensor, "n_tokens d_out"]]:
    """Σ_{i ≤ j} z_i W_dec_{i→j} for every target j, biases left out."""
    written = []
    for target, W_dec in enumerate(coder.W_dec):
        parts = torch.split(W_dec, list(coder.shape.n_latents[: target + 1]))
        total = codes[0] @ parts[0]
        for z, part in zip(codes[1 : target + 1], parts[1:], strict=True):
            total = torch.addmm(total, z, part)
        written.append(total)
    return written


def auxiliary_loss(
    coder: CrossLayerCoder,
    pre: Sequence[Float[Tensor, "n_tokens n_latents"]],
    residuals: ByTarget,
    dead: Sequence[Bool[Tensor, " n_latents"]],
) -> Float[Tensor, ""]:
    if not any(bool(one.any()) for one in dead):
        return residuals[0].new_zeros(())
    if coder.shape.selection == "threshold":
        short = [
            (coder.thresholds(i) - p)[:, rows].relu().sum() for i, (p, rows) in enumerate(zip(pre, dead, strict=True))
        ]
        return torch.stack(short).sum() / residuals[0].shape[0]
    codes = [dead_codes(coder, i, p, rows) for i, (p, rows) in enumerate(zip(pre, dead, strict=True))]
    explained = decode_densely(coder, codes)
    return torch.stack([(e - r).square().mean() for e, r in zip(explained, residuals, strict=True)]).sum()


def dead_codes(
    coder: CrossLayerCoder, source: int, pre: Float[Tensor, "n_tokens n_latents"], dead: Bool[Tensor, " n_latents"]
) -> Float[Tensor, "n_tokens n_latents"]:
    """The strongest of the dead latents, as many as are live at a token, all others zero."""
    values = torch.where(dead, pre, 0.0)
    values = values if coder.shape.is_signed else values.relu()
    k = min(coder.shape.k[source], int(dead.sum()))
    return keep_entries(values, largest(values.detach().abs(), k).indices) if k else torch.zeros_like(values)


def tanh_penalty(
    coder: CrossLayerCoder, codes: Sequence[Float[Tensor, "n_tokens n_latents"]], objective: CrossLayerObjective
) -> Float[Tensor, ""]:
    norms = coder.shape.by_source(joined_norms(coder))
    parts = [torch.tanh(objective.tanh_scale * norm * z.abs()).sum() for norm, z in zip(norms, codes, strict=True)]
    return torch.stack(parts).sum() / codes[0].shape[0]


def joined_norms(coder: CrossLayerCoder) -> Float[Tensor, " n_all_latents"]:
    """The norm of each latent's decoder rows for all targets, taken as one vector."""
    columns = []
    for source in range(coder.shape.n_sources):
        start, stop = coder.shape.offsets[source : source + 2]
        rows = torch.stack([W_dec[start:stop].norm(dim=1) for W_dec in list(coder.W_dec)[source:]])
        columns.append(rows.norm(dim=0))
    return torch.cat(columns)
