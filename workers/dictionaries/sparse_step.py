"""Gradients of ``losses.plain_loss`` with no dense latent axis, for CPUs; equal to autograd's.

With r = x̂ − y and g = 2 r / (n_tokens · d_out), z sparse:

    ∂z     = g W_decᵀ at the active entries           (sampled_addmm)
    ∂W_dec = zᵀ g        ∂W_enc = ∂zᵀ (x − b_dec)     (one transpose of the pattern, then two sparse-dense products)
    ∂b_enc = Σ ∂z        ∂b_dec = Σ g − (Σ ∂z) W_enc  (the sum over tokens commutes with the encoder)

b_dec in the encoder's terms only where the bias is tied. The measurements that chose these kernels are in
research/clt_peers.md §3. The dead latents' term is dense over the dead alone, or sparse as well where they are many.
Gradients are written into ``.grad``, which is allocated once and used again.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workers.dictionaries.entries import DENSE_SHARE, Entries, encode_entries, entries_of, row_starts
from workers.dictionaries.losses import AuxK, FindDead, Objective
from workers.dictionaries.sparse_coder import SparseCoder
from workers.dictionaries.sparsifiers import Selected, strongest, strongest_of_either_sign


class StepResult(NamedTuple):
    """What one step learned of its batch, beside the gradients."""

    reconstruction_loss: Float[Tensor, ""]
    auxiliary_loss: Float[Tensor, ""]
    sparsity_loss: Float[Tensor, ""]
    fired: Int[Tensor, " n_latents"]
    threshold: Float[Tensor, ""] | None = None  # the smallest value kept, where the batch as a whole selects


class Transposed(NamedTuple):
    """The entries seen from the latents: a CSR pattern [n_latents, n_tokens]; ``order`` sorts values into it."""

    starts: Int[Tensor, " n_latents_plus_1"]
    tokens: Int[Tensor, " n_entries"]
    order: Int[Tensor, " n_entries"]
    counts: Int[Tensor, " n_latents"]


class Batch(NamedTuple):
    """What the parts of a step share; ``centered`` is what the encoder's rows are multiplied with."""

    tokens: Float[Tensor, "n_tokens d_model"]
    centered: Float[Tensor, "n_tokens d_model"]
    residual: Float[Tensor, "n_tokens d_out"]


@torch.no_grad()
def sparse_gradients(
    coder: SparseCoder,
    tokens: Float[Tensor, "n_tokens d_model"],
    targets: Float[Tensor, "n_tokens d_out"],
    find_dead: FindDead,
    objective: Objective,
) -> StepResult | None:
    """Write one batch's gradients into the coder's parameters; None, and nothing written, where codes are dense."""
    entries = encode_entries(coder, tokens, objective)
    if entries is None:
        return None
    clear_gradients(coder)
    pattern = transpose_pattern(entries, coder.n_latents)
    residual = decode_entries(coder, entries).add_(coder.b_dec).sub_(targets)
    if coder.shape.has_skip:
        residual.addmm_(tokens, coder.W_skip.T)
    centered = tokens - coder.b_dec if coder.shape.is_bias_tied else tokens
    batch = Batch(tokens, centered, residual)
    sparsity = add_main_gradients(coder, batch, entries, pattern, objective)
    all_active = bool(entries.is_active.all())
    fired = pattern.counts if all_active else count_active(entries, coder.n_latents)
    auxiliary = add_auxiliary_gradients(coder, batch, find_dead(fired), objective.aux)
    threshold = smallest(entries.values) if objective.activation == "batch_topk" else None
    return StepResult(residual.square().mean(), auxiliary, sparsity, fired, threshold)


def add_main_gradients(
    coder: SparseCoder, batch: Batch, entries: Entries, pattern: Transposed, objective: Objective
) -> Float[Tensor, ""]:
    """Everything but the dead latents' term; returns the sparsity loss."""
    gradient = batch.residual * (2.0 / batch.residual.numel())
    products = sampled_products(gradient, coder.W_dec, entries)
    n_tokens = batch.tokens.shape[0]
    sparsity = batch.residual.new_zeros(())
    if objective.activation == "jumprelu":
        sparsity = entries.is_active.sum() / n_tokens
        add_threshold_gradient(coder, entries, products, objective.sparsity_weight / n_tokens, objective.bandwidth)
    code_gradient = products * entries.is_active
    values = entries.values * entries.is_active
    if objective.activation == "relu":
        sparsity = add_norm_penalty(coder, entries, code_gradient, objective.sparsity_weight / n_tokens) / n_tokens
    add_decoder_gradients(coder, pattern, values, gradient)
    if coder.shape.has_skip:
        gradient_of(coder.W_skip).addmm_(gradient.T, batch.tokens)
    gradient_of(coder.b_dec).add_(gradient.sum(0))
    add_encoder_gradients(coder, batch.centered, entries, pattern, code_gradient)
    return sparsity


def add_decoder_gradients(coder: SparseCoder, pattern: Transposed, values: Tensor, gradient: Tensor) -> None:
    add_transposed_product(gradient_of(coder.W_dec), pattern, values, gradient)


def add_encoder_gradients(
    coder: SparseCoder, centered: Tensor, entries: Entries, pattern: Transposed, code_gradient: Tensor
) -> None:
    add_transposed_product(gradient_of(coder.W_enc), pattern, code_gradient, centered)
    summed = torch.zeros_like(coder.b_enc).index_add_(0, entries.latents, code_gradient)
    add_bias_gradients(coder, summed, coder.W_enc)


def add_bias_gradients(coder: SparseCoder, summed: Tensor, W_enc: Tensor, rows: Tensor | None = None) -> None:
    """What Σ ∂z over tokens means for the biases; ``rows`` are the latents it is of, if not all."""
    if coder.b_enc.requires_grad:
        if rows is None:
            gradient_of(coder.b_enc).add_(summed)
        else:
            gradient_of(coder.b_enc).index_add_(0, rows, summed)
    if coder.shape.is_bias_tied:
        gradient_of(coder.b_dec).sub_(summed @ W_enc)


def add_threshold_gradient(
    coder: SparseCoder, entries: Entries, products: Tensor, weight: float, bandwidth: float
) -> None:
    """The straight-through estimates; entries hold all that lies in the window above zero."""
    threshold = coder.threshold[entries.latents]
    is_near = (entries.values - threshold).abs() < bandwidth / 2
    share = (products * threshold + weight) * is_near / -bandwidth
    gradient_of(coder.threshold).index_add_(0, entries.latents, share)


def add_norm_penalty(coder: SparseCoder, entries: Entries, code_gradient: Tensor, weight: float) -> Float[Tensor, ""]:
    """weight · Σ z_f ‖W_dec,f‖: adds to both gradients, returns the sum."""
    norms = coder.W_dec.norm(dim=1)
    code_gradient.add_(norms[entries.latents] * entries.is_active, alpha=weight)
    totals = torch.zeros_like(norms).index_add_(0, entries.latents, entries.values)
    scale = totals * weight / norms.clamp_min(torch.finfo(norms.dtype).tiny)
    gradient_of(coder.W_dec).addcmul_(scale[:, None], coder.W_dec)
    return (totals * norms).sum()


def add_auxiliary_gradients(
    coder: SparseCoder, batch: Batch, dead: Bool[Tensor, " n_latents"], aux: AuxK
) -> Float[Tensor, ""]:
    """The dead latents' share of the gradients; returns the auxiliary loss (0 with none dead)."""
    rows = dead.nonzero().squeeze(1)
    if rows.numel() == 0 or aux.weight == 0:
        return batch.residual.new_zeros(())
    W_enc, W_dec, k = coder.W_enc[rows], coder.W_dec[rows], min(aux.k, rows.numel())
    offset = coder.b_enc[rows]
    pre = torch.addmm(offset, batch.centered, W_enc.T)
    select = strongest_of_either_sign if coder.shape.is_signed else strongest
    selected = select(pre, k)
    if k < DENSE_SHARE * rows.numel():
        return add_sparse_auxiliary(coder, batch, Selected(rows[selected.indices], selected.values), aux.weight)
    values = torch.zeros_like(pre).scatter_(1, selected.indices, selected.values)
    error = torch.addmm(batch.residual, values, W_dec)  # ê − (y − x̂)
    error_gradient = error * (2.0 * aux.weight / error.numel())
    code_gradient = (error_gradient @ W_dec.T).mul_(values != 0)
    gradient_of(coder.W_dec).index_add_(0, rows, values.T @ error_gradient)
    gradient_of(coder.W_enc).index_add_(0, rows, code_gradient.T @ batch.centered)
    add_bias_gradients(coder, code_gradient.sum(0), W_enc, rows)
    return error.square().mean()


def add_sparse_auxiliary(coder: SparseCoder, batch: Batch, selected: Selected, weight: float) -> Float[Tensor, ""]:
    entries = entries_of(selected)
    pattern = transpose_pattern(entries, coder.n_latents)
    error = decode_entries(coder, entries).add_(batch.residual)
    error_gradient = error * (2.0 * weight / error.numel())
    code_gradient = sampled_products(error_gradient, coder.W_dec, entries) * entries.is_active
    add_decoder_gradients(coder, pattern, entries.values, error_gradient)
    add_encoder_gradients(coder, batch.centered, entries, pattern, code_gradient)
    return error.square().mean()


def gradient_of(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad


def clear_gradients(coder: SparseCoder) -> None:
    for weight in coder.parameters():
        if not weight.requires_grad:
            continue
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        else:
            weight.grad.zero_()


def decode_entries(coder: SparseCoder, entries: Entries) -> Float[Tensor, "n_tokens d_out"]:
    """z W_dec, without the bias."""
    return torch.nn.functional.embedding_bag(
        entries.latents,
        coder.W_dec,
        entries.starts,
        mode="sum",
        per_sample_weights=entries.values * entries.is_active,
        include_last_offset=True,
    )


def transpose_pattern(entries: Entries, n_latents: int) -> Transposed:
    order = entries.latents.argsort(stable=True)
    counts = torch.bincount(entries.latents, minlength=n_latents)
    n_tokens = entries.starts.numel() - 1
    tokens = torch.arange(n_tokens, dtype=torch.int32).repeat_interleave(entries.starts.diff())
    return Transposed(row_starts(counts), tokens[order], order, counts)


def count_active(entries: Entries, n_latents: int) -> Int[Tensor, " n_latents"]:
    return torch.bincount(entries.latents[entries.is_active], minlength=n_latents)


def smallest(values: Tensor) -> Float[Tensor, ""]:
    return values.min() if values.numel() else values.new_zeros(())


def sampled_products(
    left: Float[Tensor, "n_tokens d_out"], right: Float[Tensor, "n_latents d_out"], entries: Entries
) -> Float[Tensor, " n_entries"]:
    """left rightᵀ at the entries."""
    size = (entries.starts.numel() - 1, right.shape[0])
    pattern = csr_matrix(entries.starts, entries.latents, torch.zeros_like(entries.values), size)
    products: Tensor = torch.sparse.sampled_addmm(pattern, left, right.T, beta=0.0)
    return products.values()


def add_transposed_product(
    out: Float[Tensor, "n_latents d"],
    pattern: Transposed,
    values: Float[Tensor, " n_entries"],
    dense: Float[Tensor, "n_tokens d"],
) -> None:
    """out += codesᵀ dense, in place: a fresh result of that size costs more in page faults than the product."""
    matrix = csr_matrix(pattern.starts, pattern.tokens, values[pattern.order], (out.shape[0], dense.shape[0]))
    torch.addmm(out, matrix, dense, out=out)


def csr_matrix(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, size=size, check_invariants=False)
