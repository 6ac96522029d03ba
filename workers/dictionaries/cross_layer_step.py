"""Gradients of ``cross_layer_loss`` with no dense latent axis, for CPUs; equal to autograd's.

With g_j = 2 (ŷ_j − y_j) / (n_tokens · d_out) and z the codes of all sources side by side, sparse:

    ŷ_j       = z W_dec_j + b_dec_j           one embedding_bag per target over the sources at or before it
    ∂z       += g_j W_dec_jᵀ at the entries   one sampled product per target
    ∂W_dec_j  = zᵀ g_j                        one sparse-dense product per target
    ∂W_enc_i  = ∂z_iᵀ x_i                     one per source

The entries are sorted by latent once. As a target's rows are the first rows of all latents, its pattern is the
beginning of that one, and nothing is sorted or copied per target; the sampled product then reads each decoder row once
and gathers from g_j, the smaller of the two. Results go into ``.grad``, allocated once and written over
(research/clt_peers.md §1.4 has the measurements this began with).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workers.dictionaries.cross_layer import CrossLayerCoder, gather_rows
from workers.dictionaries.cross_layer_loss import (
    BySource,
    ByTarget,
    CrossLayerLoss,
    CrossLayerObjective,
    cross_layer_loss,
    joined_norms,
)
from workers.dictionaries.csr import csr_matrix
from workers.dictionaries.losses import FindDead, is_near
from workers.dictionaries.sparse_step import gradient_of
from workers.dictionaries.sparsifiers import Selected, strongest, strongest_of_either_sign

DENSE_SHARE = 0.125  # of the latents on at a token; measured at d = 192, dense products win from about .18 on


class Entries(NamedTuple):
    """Codes of all sources side by side, and the same seen from the latents.

    ``ends[i]`` is how many columns the sources up to i have. ``order`` sorts the flattened columns by latent;
    ``starts`` and ``tokens`` are the CSR pattern [n_all_latents, n_tokens] that results.
    """

    latents: Int[Tensor, "n_tokens width"]
    values: Float[Tensor, "n_tokens width"]
    ends: tuple[int, ...]
    order: Int[Tensor, " n_entries"]
    starts: Int[Tensor, " n_all_latents_plus_1"]
    tokens: Int[Tensor, " n_entries"]

    def by_latent(self, values: Float[Tensor, "n_tokens width"]) -> Float[Tensor, " n_entries"]:
        return values.reshape(-1)[self.order]

    def n_of(self, target: int) -> int:
        """How many entries, by latent, the sources at or before a target have."""
        return self.latents.shape[0] * self.ends[target]


def compute_cross_layer_gradients(
    coder: CrossLayerCoder,
    tokens: BySource,
    targets: ByTarget,
    find_dead: FindDead,
    objective: CrossLayerObjective,
    *,
    is_bf16: bool = False,
) -> CrossLayerLoss:
    """Write one batch's gradients into ``.grad``: the sparse way on a CPU where codes are sparse, else by autograd.

    Tokens and targets are standardized. ``find_dead`` is called once, with how often each latent fired, all sources
    side by side. ``is_bf16`` is for an accelerator; the sparse way is always in single precision.
    """
    if tokens[0].device.type == "cpu":
        selected = encode_sources(coder, tokens, objective)
        if selected is not None:
            return sparse_gradients(coder, tokens, targets, selected, find_dead, objective)
    return dense_gradients(coder, tokens, targets, find_dead, objective, is_bf16=is_bf16)


def dense_gradients(
    coder: CrossLayerCoder,
    tokens: BySource,
    targets: ByTarget,
    find_dead: FindDead,
    objective: CrossLayerObjective,
    *,
    is_bf16: bool = False,
) -> CrossLayerLoss:
    """By autograd, with dense latent axes."""
    coder.zero_grad()
    with torch.autocast(tokens[0].device.type, torch.bfloat16, enabled=is_bf16):
        loss = cross_layer_loss(coder, tokens, targets, find_dead, objective)
    loss.total(objective).backward()  # type: ignore[no-untyped-call]
    return CrossLayerLoss(loss.reconstruction.detach(), loss.auxiliary.detach(), loss.sparsity.detach(), loss.fired)


def encode_sources(coder: CrossLayerCoder, tokens: BySource, objective: CrossLayerObjective) -> list[Selected] | None:
    """Each source's entries, for thresholds with what lies in the window of the estimate; None where there are many."""
    margin = objective.bandwidth / 2
    selected = []
    for source, x in enumerate(tokens):
        if coder.shape.selection == "threshold" and is_dense(coder, source, x, margin):
            return None
        selected.append(coder.encode(source, x, margin))
    return selected


@torch.no_grad()
def is_dense(coder: CrossLayerCoder, source: int, tokens: Float[Tensor, "n d_model"], margin: float) -> bool:
    """Whether a few tokens have more entries than sparse products are worth."""
    few = tokens[:: max(1, len(tokens) // 64)]
    pre = torch.addmm(coder.b_enc[source], few, coder.W_enc[source].T)
    near = (pre > coder.thresholds(source) - margin) & (pre > 0)
    return float(near.float().mean()) > DENSE_SHARE


@torch.no_grad()
def sparse_gradients(
    coder: CrossLayerCoder,
    tokens: BySource,
    targets: ByTarget,
    selected: list[Selected],
    find_dead: FindDead,
    objective: CrossLayerObjective,
) -> CrossLayerLoss:
    """The gradients of a batch whose codes are given."""
    prepare_gradients(coder)
    entries = sort_entries(selected, coder.shape.offsets)
    pre = entries.values
    thresholds = all_thresholds(coder, entries) if coder.shape.selection == "threshold" else None
    if thresholds is not None:
        entries = entries._replace(values=torch.where(pre > thresholds, pre, 0.0))
    sorted_values = entries.by_latent(entries.values)
    products = torch.zeros_like(sorted_values)  # ∂z, by latent
    residuals, losses = [], []
    for target, y in enumerate(targets):
        residual = decode_entries(coder, entries, target).add_(coder.b_dec[target]).sub_(y)
        losses.append(residual.square().mean())
        gradient = residual * (2.0 / residual.numel())
        torch.sum(gradient, 0, out=gradient_of(coder.b_dec[target]))
        add_target_gradients(coder, entries, target, gradient, sorted_values, products, beta=0.0)
        residuals.append(residual)
    sparsity = add_tanh_penalty(coder, entries, sorted_values, products, objective)
    if thresholds is not None:
        add_threshold_gradients(coder, entries, pre, thresholds, products, objective.bandwidth)
    products.mul_(sorted_values != 0)
    write_encoder_gradients(coder, entries, tokens, products)
    fired = count_fired(entries, sorted_values)
    dead = find_dead(fired)
    auxiliary = add_dead_gradients(coder, tokens, residuals, dead, objective)
    return CrossLayerLoss(torch.stack(losses), auxiliary, sparsity, fired)


def prepare_gradients(coder: CrossLayerCoder) -> None:
    """Gradients exist; those that are added to, not written over, are zero."""
    for weight in coder.parameters():
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    for threshold in getattr(coder, "log_threshold", ()):
        gradient_of(threshold).zero_()


def sort_entries(selected: list[Selected], offsets: tuple[int, ...]) -> Entries:
    ends, n_columns = [], 0
    for one in selected:
        n_columns += one.indices.shape[1]
        ends.append(n_columns)
    latents = torch.cat([(one.indices + start).int() for one, start in zip(selected, offsets, strict=False)], dim=1)
    values = torch.cat([one.values for one in selected], dim=1)
    flat = latents.reshape(-1)
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat, minlength=offsets[-1])
    starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()
    return Entries(latents, values, tuple(ends), order, starts, (order // n_columns).int())


def decode_entries(coder: CrossLayerCoder, entries: Entries, target: int) -> Float[Tensor, "n_tokens d_out"]:
    """z W_dec of one target, without the bias."""
    end = entries.ends[target]
    return gather_rows(
        entries.latents[:, :end].contiguous(), entries.values[:, :end].contiguous(), coder.W_dec[target].detach()
    )


def add_target_gradients(
    coder: CrossLayerCoder,
    entries: Entries,
    target: int,
    gradient: Float[Tensor, "n_tokens d_out"],
    values: Float[Tensor, " n_entries"],
    products: Float[Tensor, " n_entries"],
    beta: float,
) -> None:
    """∂W_dec of the target := β · itself + zᵀ g, and products += g W_decᵀ at the entries; both by latent."""
    W_dec, n_entries = coder.W_dec[target], entries.n_of(target)
    n_rows, n_tokens = W_dec.shape[0], gradient.shape[0]
    starts, columns = entries.starts[: n_rows + 1], entries.tokens[:n_entries]
    grad = gradient_of(W_dec)
    codes = csr_matrix(starts, columns, values[:n_entries], (n_rows, n_tokens))
    torch.addmm(grad, codes, gradient, beta=beta, out=grad)
    sums = csr_matrix(starts, columns, products[:n_entries], (n_rows, n_tokens))
    torch.sparse.sampled_addmm(sums, W_dec.detach(), gradient.T, beta=1.0, out=sums)


def add_tanh_penalty(
    coder: CrossLayerCoder,
    entries: Entries,
    values: Float[Tensor, " n_entries"],
    products: Float[Tensor, " n_entries"],
    objective: CrossLayerObjective,
) -> Float[Tensor, ""]:
    """Adds to ∂z and to every ∂W_dec; returns S, 0 without a weight."""
    if not objective.sparsity_weight:
        return values.new_zeros(())
    norms = joined_norms(coder)
    latents = entries.latents.reshape(-1)[entries.order]
    of_entry = norms[latents]
    reached = torch.tanh(objective.tanh_scale * of_entry * values.abs())
    n_tokens = entries.latents.shape[0]
    slope = (1 - reached.square()) * (objective.tanh_scale * objective.sparsity_weight / n_tokens)
    products.addcmul_(slope * of_entry, values.sign())
    of_norm = torch.zeros_like(norms).index_add_(0, latents, slope * values.abs())
    shares = (of_norm / norms.clamp_min(torch.finfo(norms.dtype).tiny))[:, None]
    for W_dec in coder.W_dec:
        gradient_of(W_dec).addcmul_(shares[: W_dec.shape[0]], W_dec)
    return reached.sum() / n_tokens


def all_thresholds(coder: CrossLayerCoder, entries: Entries) -> Float[Tensor, "n_tokens width"]:
    """The threshold of each entry's latent."""
    joined = torch.cat([coder.thresholds(source) for source in range(coder.shape.n_sources)])
    return joined[entries.latents]


def add_threshold_gradients(
    coder: CrossLayerCoder,
    entries: Entries,
    pre: Float[Tensor, "n_tokens width"],
    thresholds: Float[Tensor, "n_tokens width"],
    products: Float[Tensor, " n_entries"],
    bandwidth: float,
) -> None:
    """∂ log θ = θ · Σ −(θ/ε) ∂z over the entries in the window; they hold all that lies in it above zero."""
    share = entries.by_latent(thresholds.square() * is_near(pre, thresholds, bandwidth)) * products / -bandwidth
    latents = entries.latents.reshape(-1)[entries.order]
    summed = torch.zeros(coder.shape.offsets[-1]).index_add_(0, latents, share)
    for threshold, part in zip(coder.log_threshold, coder.shape.by_source(summed), strict=True):
        gradient_of(threshold).add_(part)


def write_encoder_gradients(
    coder: CrossLayerCoder, entries: Entries, tokens: BySource, products: Float[Tensor, " n_entries"], beta: float = 0.0
) -> None:
    """∂W_enc and ∂b_enc of every source := β · themselves + what these entries give."""
    n_tokens, first = entries.latents.shape[0], 0
    ones = torch.ones(n_tokens, 1)
    for source, x in enumerate(tokens):
        start, stop = coder.shape.offsets[source : source + 2]
        last = entries.n_of(source)
        starts = entries.starts[start : stop + 1] - first
        matrix = csr_matrix(starts, entries.tokens[first:last], products[first:last], (stop - start, n_tokens))
        grad, bias = gradient_of(coder.W_enc[source]), gradient_of(coder.b_enc[source])
        torch.addmm(grad, matrix, x, beta=beta, out=grad)
        bias.mul_(beta).add_((matrix @ ones).squeeze(1))
        first = last


def count_fired(entries: Entries, values: Float[Tensor, " n_entries"]) -> Int[Tensor, " n_all_latents"]:
    active = values != 0
    if bool(active.all()):
        return entries.starts.diff().long()
    latents = entries.latents.reshape(-1)[entries.order]
    return torch.bincount(latents[active], minlength=entries.starts.numel() - 1)


def add_dead_gradients(
    coder: CrossLayerCoder,
    tokens: BySource,
    residuals: list[Float[Tensor, "n_tokens d_out"]],
    dead: Bool[Tensor, " n_all_latents"],
    objective: CrossLayerObjective,
) -> Float[Tensor, ""]:
    """The dead latents' term; returns A, 0 with none dead. Residuals are ŷ − y."""
    if not objective.aux_weight or not bool(dead.any()):
        return residuals[0].new_zeros(())
    rows = [one.nonzero().squeeze(1) for one in coder.shape.by_source(dead)]
    if coder.shape.selection == "threshold":
        return add_shortfall_gradients(coder, tokens, rows, objective.aux_weight)
    entries = sort_entries([select_dead(coder, i, x, rows[i]) for i, x in enumerate(tokens)], coder.shape.offsets)
    values = entries.by_latent(entries.values)
    products = torch.zeros_like(values)
    losses = []
    for target, residual in enumerate(residuals):
        error = decode_entries(coder, entries, target).add_(residual)
        losses.append(error.square().mean())
        gradient = error.mul_(2.0 * objective.aux_weight / error.numel())
        add_target_gradients(coder, entries, target, gradient, values, products, beta=1.0)
    products.mul_(values != 0)
    write_encoder_gradients(coder, entries, tokens, products, beta=1.0)
    return torch.stack(losses).sum()


def select_dead(
    coder: CrossLayerCoder, source: int, tokens: Float[Tensor, "n_tokens d_model"], rows: Int[Tensor, " n_dead"]
) -> Selected:
    """The strongest of a source's dead latents; one column of zeros where it has none."""
    if rows.numel() == 0:
        nothing = tokens.new_zeros(tokens.shape[0], 1)
        return Selected(nothing.long(), nothing)
    pre = torch.addmm(coder.b_enc[source][rows], tokens, coder.W_enc[source][rows].T)
    select: Callable[[Tensor, int], Selected] = strongest_of_either_sign if coder.shape.is_signed else strongest
    found = select(pre, min(coder.shape.k[source], rows.numel()))
    return Selected(rows[found.indices], found.values)


def add_shortfall_gradients(
    coder: CrossLayerCoder, tokens: BySource, rows: list[Int[Tensor, " n_dead"]], weight: float
) -> Float[Tensor, ""]:
    """Of Σ ReLU(θ − pre) over dead latents, mean over tokens; dense over the dead alone."""
    n_tokens, total = tokens[0].shape[0], tokens[0].new_zeros(())
    for source, (x, dead) in enumerate(zip(tokens, rows, strict=True)):
        threshold = coder.thresholds(source)[dead]
        pre = torch.addmm(coder.b_enc[source][dead], x, coder.W_enc[source][dead].T)
        short = (threshold - pre).relu_()
        total += short.sum() / n_tokens
        slope = short.sign_().mul_(weight / n_tokens)
        summed = slope.sum(0)
        gradient_of(coder.W_enc[source]).index_add_(0, dead, slope.T @ x, alpha=-1)
        gradient_of(coder.b_enc[source]).index_add_(0, dead, summed, alpha=-1)
        gradient_of(coder.log_threshold[source]).index_add_(0, dead, summed * threshold)
    return total
