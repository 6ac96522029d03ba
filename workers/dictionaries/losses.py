"""The losses of sparse coders, written plainly for autograd: the oracle of the fast step, and the step of accelerators.

    pre  = (x − b_dec) W_encᵀ + b_enc              b_dec only where the bias is tied
    loss = MSE(x̂, y) + α · MSE(ê, sg(y − x̂)) + λ · S,   ê = topk(ReLU(pre)[dead]) W_dec[dead]

y is x for an SAE and the target for a transcoder; MSE is the mean over tokens and dimensions. S is the mean over tokens
of Σ_f z_f ‖W_dec,f‖ for ``relu`` and of the number of active latents for ``jumprelu``, whose threshold learns by the
straight-through estimates of Rajamanoharan et al. 2024 (a rectangle of the bandwidth's width, where pre > 0):

    ∂z/∂θ = −(θ/ε) K((pre − θ)/ε)        ∂[pre > θ]/∂θ = −(1/ε) K((pre − θ)/ε)

AuxK lets dead latents explain the residual (Gao et al. 2024). Its known traps (research/clt_peers.md §4): the residual
is a target and carries no gradient, ê holds no decoder bias, both terms are in the same units, and the number of dead
latents is taken as it is. A signed coder's dead latents are those farthest from zero, with their signs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workers.dictionaries.sparse_coder import SparseCoder
from workers.dictionaries.sparsifiers import strongest, strongest_of_either_sign

ACTIVATIONS = {
    "topk": "topk",
    "abs_topk": "abs_topk",
    "batch_topk": "threshold",
    "jumprelu": "threshold",
    "relu": "threshold",
}  # what a coder's codes are while it is trained -> how it selects afterwards
FindDead = Callable[[Int[Tensor, " n_latents"]], Bool[Tensor, " n_latents"]]


class AuxK(NamedTuple):
    """The auxiliary loss of dead latents."""

    weight: float
    k: int


class Objective(NamedTuple):
    """What a step minimizes. ``sparsity_weight`` is the weight of now: warm-up is the caller's."""

    activation: str = "topk"
    aux: AuxK = AuxK(1 / 32, 256)
    sparsity_weight: float = 0.0
    bandwidth: float = 0.01

    def check(self, coder: SparseCoder) -> None:
        """Raise ValueError unless the coder selects as the activation does."""
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"The activation '{self.activation}' is unknown; it can be {', '.join(ACTIVATIONS)}.")
        selection = ACTIVATIONS[self.activation]
        if coder.shape.selection != selection:
            raise ValueError(
                f"A coder trained by {self.activation} selects by {selection}, not {coder.shape.selection}."
            )


class Loss(NamedTuple):
    """The parts of the loss of one batch, and what it learned of it."""

    reconstruction: Float[Tensor, ""]
    auxiliary: Float[Tensor, ""]
    sparsity: Float[Tensor, ""]
    fired: Int[Tensor, " n_latents"]
    threshold: Float[Tensor, ""] | None  # the smallest value kept, where the batch as a whole selects

    def total(self, objective: Objective) -> Float[Tensor, ""]:
        return self.reconstruction + objective.aux.weight * self.auxiliary + objective.sparsity_weight * self.sparsity


class Forward(NamedTuple):
    """One differentiable pass; the latent axis is dense."""

    pre: Float[Tensor, "n_tokens n_latents"]
    codes: Float[Tensor, "n_tokens n_latents"]
    reconstruction: Float[Tensor, "n_tokens d_out"]
    sparsity: Float[Tensor, ""]


def plain_loss(
    coder: SparseCoder,
    tokens: Float[Tensor, "n_tokens d_model"],
    targets: Float[Tensor, "n_tokens d_out"],
    find_dead: FindDead,
    objective: Objective,
) -> Loss:
    """The loss of normalized tokens, differentiable in the coder's weights.

    ``find_dead`` is told how often each latent fired in this batch and answers which are dead now.
    """
    return loss_of(coder, run_forward(coder, tokens, objective), targets, find_dead, objective)


def loss_of(
    coder: SparseCoder,
    forward: Forward,
    targets: Float[Tensor, "n_tokens d_out"],
    find_dead: FindDead,
    objective: Objective,
) -> Loss:
    codes = forward.codes.detach()
    fired = (codes != 0).sum(0)
    residual = (targets - forward.reconstruction).detach()
    return Loss(
        (forward.reconstruction - targets).square().mean(),
        auxiliary_loss(coder, forward.pre, residual, find_dead(fired), objective.aux),
        forward.sparsity,
        fired,
        batch_threshold(codes) if objective.activation == "batch_topk" else None,
    )


def run_forward(coder: SparseCoder, tokens: Float[Tensor, "n_tokens d_model"], objective: Objective) -> Forward:
    centered = tokens - coder.b_dec if coder.shape.is_bias_tied else tokens
    pre = (centered @ coder.W_enc.T).to(tokens.dtype) + coder.b_enc  # selection and sums are in full precision
    codes = activate(coder, pre, objective)
    reconstruction = codes @ coder.W_dec + coder.b_dec
    if coder.shape.has_skip:
        reconstruction = reconstruction + tokens @ coder.W_skip.T
    return Forward(pre, codes, reconstruction, sparsity_loss(coder, pre, codes, objective))


def activate(
    coder: SparseCoder, pre: Float[Tensor, "n_tokens n_latents"], objective: Objective
) -> Float[Tensor, "n_tokens n_latents"]:
    kind, k = objective.activation, coder.k
    if kind == "relu":
        return pre.relu()
    if kind == "jumprelu":
        jumped: Tensor = JumpReLU.apply(pre, coder.threshold, objective.bandwidth)  # type: ignore[no-untyped-call]
        return jumped
    if kind == "abs_topk":
        return keep_entries(pre, strongest_of_either_sign(pre.detach(), k).indices)
    if kind == "topk":
        return keep_entries(pre.relu(), strongest(pre.detach(), k).indices)
    flat = pre.relu().reshape(1, -1)
    return keep_entries(flat, flat.detach().topk(k * pre.shape[0], dim=1).indices).view_as(pre)


def keep_entries(values: Float[Tensor, "n m"], indices: Int[Tensor, "n k"]) -> Float[Tensor, "n m"]:
    return torch.zeros_like(values).scatter(1, indices, values.gather(1, indices))


def sparsity_loss(coder: SparseCoder, pre: Tensor, codes: Tensor, objective: Objective) -> Float[Tensor, ""]:
    if objective.activation == "relu":
        norms: Tensor = coder.W_dec.norm(dim=1)
        return (codes * norms).sum(1).mean()
    if objective.activation == "jumprelu":
        active: Tensor = IsActive.apply(pre, coder.threshold, objective.bandwidth)  # type: ignore[no-untyped-call]
        return active.sum(1).mean()
    return codes.new_zeros(())


def auxiliary_loss(
    coder: SparseCoder,
    pre: Float[Tensor, "n_tokens n_latents"],
    residual: Float[Tensor, "n_tokens d_out"],
    dead: Bool[Tensor, " n_latents"],
    aux: AuxK,
) -> Float[Tensor, ""]:
    rows = dead.nonzero().squeeze(1)
    if rows.numel() == 0 or aux.weight == 0:
        return residual.new_zeros(())
    values, k = pre[:, rows], min(aux.k, rows.numel())
    if coder.shape.is_signed:
        kept = keep_entries(values, strongest_of_either_sign(values.detach(), k).indices)
    else:
        kept = keep_entries(values.relu(), strongest(values.detach(), k).indices)
    return (kept @ coder.W_dec[rows] - residual).square().mean()


def batch_threshold(codes: Tensor) -> Float[Tensor, ""]:
    """The smallest of the positive values; 0 where there is none."""
    positive = codes[codes > 0]
    return positive.min() if positive.numel() else codes.new_zeros(())


class JumpReLU(torch.autograd.Function):
    """pre where it exceeds the latent's threshold and zero, else 0; the threshold learns straight through."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return torch.where((pre > threshold) & (pre > 0), pre, 0.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        pre, threshold = ctx.saved_tensors
        near = is_near(pre, threshold, ctx.bandwidth)
        of_threshold = -(threshold / ctx.bandwidth) * (gradient * near).sum(0)
        return gradient * ((pre > threshold) & (pre > 0)), of_threshold, None


class IsActive(torch.autograd.Function):
    """1 where pre exceeds the latent's threshold and zero; only the threshold learns of it."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return ((pre > threshold) & (pre > 0)).to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        pre, threshold = ctx.saved_tensors
        near = is_near(pre, threshold, ctx.bandwidth)
        return None, -(gradient * near).sum(0) / ctx.bandwidth, None


def is_near(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """Where the rectangle of the straight-through estimates is 1."""
    return ((pre - threshold).abs() < bandwidth / 2) & (pre > 0)
