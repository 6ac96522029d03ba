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

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workers.dictionaries.csr import Pattern, add_product, sampled_products, transpose
from workers.dictionaries.entries import DENSE_SHARE, Entries, encode_entries, entries_of
from workers.dictionaries.losses import AuxK, FindDead, Objective
from workers.dictionaries.sparse_coder import ROWS, SparseCoder
from workers.dictionaries.sparsifiers import Selected, strongest, strongest_of_either_sign


class StepResult(NamedTuple):
    """What one step learned of its batch, beside the gradients."""

    reconstruction_loss: Float[Tensor, ""]
    auxiliary_loss: Float[Tensor, ""]
    sparsity_loss: Float[Tensor, ""]
    fired: Int[Tensor, " n_latents"]
    threshold: Float[Tensor, ""] | None = None  # the smallest value kept, where the batch as a whole selects


class Codes(NamedTuple):
    """The entries seen from the latents: a sparse matrix [n_latents, n_tokens], and how many each latent has."""

    pattern: Pattern
    latents: Int[Tensor, " n_entries"]
    values: Float[Tensor, " n_entries"]
    is_active: Bool[Tensor, " n_entries"]
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
    codes = by_latent(entries)
    residual = decode_entries(coder, entries).add_(coder.b_dec).sub_(targets)
    if coder.shape.has_skip:
        residual.addmm_(tokens, coder.W_skip.T)
    centered = tokens - coder.b_dec if coder.shape.is_bias_tied else tokens
    batch = Batch(tokens, centered, residual)
    sparsity = add_main_gradients(coder, batch, codes, objective)
    fired = codes.counts if bool(codes.is_active.all()) else count_active(codes)
    auxiliary = add_auxiliary_gradients(coder, batch, find_dead(fired), objective.aux)
    threshold = smallest(entries.values) if objective.activation == "batch_topk" else None
    return StepResult(mean_square(residual), auxiliary, sparsity, fired, threshold)


def add_main_gradients(coder: SparseCoder, batch: Batch, codes: Codes, objective: Objective) -> Float[Tensor, ""]:
    """Everything but the dead latents' term; returns the sparsity loss."""
    gradient = batch.residual * (2.0 / batch.residual.numel())
    products = sampled_products(codes.pattern, coder.W_dec, gradient)
    n_tokens = batch.tokens.shape[0]
    weight = objective.sparsity_weight / n_tokens
    sparsity = batch.residual.new_zeros(())
    if objective.activation == "jumprelu":
        sparsity = codes.is_active.sum() / n_tokens
        add_threshold_gradient(coder, codes, products, weight, objective.bandwidth)
    code_gradient = products * codes.is_active
    if objective.activation == "relu":
        sparsity = add_norm_penalty(coder, codes, code_gradient, weight) / n_tokens
    add_product(gradient_of(coder.W_dec), codes.pattern, codes.values * codes.is_active, gradient)
    gradient_of(coder.b_dec).add_(gradient.sum(0))
    if coder.shape.has_skip:
        gradient_of(coder.W_skip).addmm_(gradient.T, batch.tokens)
    add_encoder_gradients(coder, batch.centered, codes, code_gradient)
    return sparsity


def add_encoder_gradients(coder: SparseCoder, centered: Tensor, codes: Codes, code_gradient: Tensor) -> None:
    add_product(gradient_of(coder.W_enc), codes.pattern, code_gradient, centered)
    add_bias_gradients(coder, sum_by_latent(codes, code_gradient), coder.W_enc)


def add_bias_gradients(coder: SparseCoder, summed: Tensor, W_enc: Tensor, rows: Tensor | None = None) -> None:
    """What Σ ∂z over tokens means for the biases; ``rows`` are the latents it is of, if not all."""
    if coder.b_enc.requires_grad:
        if rows is None:
            gradient_of(coder.b_enc).add_(summed)
        else:
            gradient_of(coder.b_enc).index_add_(0, rows, summed)
    if coder.shape.is_bias_tied:
        gradient_of(coder.b_dec).sub_(summed @ W_enc)


def add_threshold_gradient(coder: SparseCoder, codes: Codes, products: Tensor, weight: float, bandwidth: float) -> None:
    """The straight-through estimates; entries hold all that lies in the window above zero."""
    threshold = coder.threshold[codes.latents]
    is_near = (codes.values - threshold).abs() < bandwidth / 2
    gradient_of(coder.threshold).sub_(sum_by_latent(codes, (products * threshold + weight) * is_near) / bandwidth)


def add_norm_penalty(coder: SparseCoder, codes: Codes, code_gradient: Tensor, weight: float) -> Float[Tensor, ""]:
    """weight · Σ z_f ‖W_dec,f‖: adds to both gradients, returns the sum."""
    norms: Tensor = coder.W_dec.norm(dim=1)
    code_gradient.add_(norms[codes.latents] * codes.is_active, alpha=weight)
    totals = sum_by_latent(codes, codes.values)
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
    k = min(aux.k, rows.numel())
    if k < DENSE_SHARE * rows.numel():
        return add_sparse_auxiliary(coder, batch, rows, AuxK(aux.weight, k))
    return add_dense_auxiliary(coder, batch, rows, AuxK(aux.weight, k))


def add_sparse_auxiliary(
    coder: SparseCoder, batch: Batch, rows: Int[Tensor, " n_dead"], aux: AuxK
) -> Float[Tensor, ""]:
    W_enc, offset = padded_rows(coder.W_enc, rows), padded_rows(coder.b_enc, rows)
    parts = [select_dead(coder, part, W_enc, offset, aux.k) for part in torch.split(batch.centered, ROWS)]
    indices = torch.cat([part.indices for part in parts]).clamp_(max=rows.numel() - 1)  # padding has values of 0
    entries = entries_of(Selected(rows[indices], torch.cat([part.values for part in parts])), coder.n_latents)
    codes = by_latent(entries)
    error = decode_entries(coder, entries).add_(batch.residual)
    loss = mean_square(error)
    gradient = error.mul_(2.0 * aux.weight / error.numel())
    code_gradient = sampled_products(codes.pattern, coder.W_dec, gradient) * codes.is_active
    add_product(gradient_of(coder.W_dec), codes.pattern, codes.values, gradient)
    add_encoder_gradients(coder, batch.centered, codes, code_gradient)
    return loss


def add_dense_auxiliary(coder: SparseCoder, batch: Batch, rows: Int[Tensor, " n_dead"], aux: AuxK) -> Float[Tensor, ""]:
    """Dense over the dead latents, in slices of tokens."""
    W_enc, W_dec, offset = (padded_rows(weight, rows) for weight in (coder.W_enc, coder.W_dec, coder.b_enc))
    of_W_enc, of_W_dec, of_offset = torch.zeros_like(W_enc), torch.zeros_like(W_dec), torch.zeros_like(offset)
    squares = batch.residual.new_zeros(())
    slices = (torch.split(matrix, ROWS) for matrix in (batch.centered, batch.residual))
    for centered, residual in zip(*slices, strict=True):
        selected = select_dead(coder, centered, W_enc, offset, aux.k)
        values = centered.new_zeros(centered.shape[0], W_enc.shape[0])
        values.scatter_(1, selected.indices, selected.values)
        error = torch.addmm(residual, values, W_dec)  # ê − (y − x̂)
        squares += error.flatten().dot(error.flatten())
        gradient = error.mul_(2.0 * aux.weight / batch.residual.numel())
        code_gradient = (gradient @ W_dec.T).mul_(values != 0)
        of_W_dec.addmm_(values.T, gradient)
        of_W_enc.addmm_(code_gradient.T, centered)
        of_offset += code_gradient.sum(0)
    n_dead = rows.numel()
    gradient_of(coder.W_dec).index_add_(0, rows, of_W_dec[:n_dead])
    gradient_of(coder.W_enc).index_add_(0, rows, of_W_enc[:n_dead])
    add_bias_gradients(coder, of_offset[:n_dead], W_enc[:n_dead], rows)
    return squares / batch.residual.numel()


def select_dead(coder: SparseCoder, centered: Tensor, W_enc: Tensor, offset: Tensor, k: int) -> Selected:
    pre = torch.addmm(offset, centered, W_enc.T)
    return strongest_of_either_sign(pre, k) if coder.shape.is_signed else strongest(pre, k)


def padded_rows(matrix: Tensor, rows: Int[Tensor, " n_dead"]) -> Tensor:
    """Some rows, and rows of zeros up to a multiple of 16: products of other widths take 1.4 times as long."""
    padded = matrix.new_zeros(rows.numel() + -rows.numel() % 16, *matrix.shape[1:])
    padded[: rows.numel()] = matrix[rows]
    return padded


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
        entries.pattern.columns,
        coder.W_dec,
        entries.pattern.starts,
        mode="sum",
        per_sample_weights=entries.values * entries.is_active,
        include_last_offset=True,
    )


def by_latent(entries: Entries) -> Codes:
    seen = transpose(entries.pattern)
    return Codes(
        seen.pattern,
        entries.pattern.columns[seen.order],
        entries.values[seen.order],
        entries.is_active[seen.order],
        seen.counts,
    )


def sum_by_latent(codes: Codes, values: Float[Tensor, " n_entries"]) -> Float[Tensor, " n_latents"]:
    return values.new_zeros(codes.pattern.n_rows).index_add_(0, codes.latents, values)


def count_active(codes: Codes) -> Int[Tensor, " n_latents"]:
    return torch.bincount(codes.latents[codes.is_active], minlength=codes.pattern.n_rows)


def smallest(values: Tensor) -> Float[Tensor, ""]:
    return values.min() if values.numel() else values.new_zeros(())


def mean_square(matrix: Tensor) -> Float[Tensor, ""]:
    flat = matrix.flatten()
    return flat.dot(flat) / flat.numel()
