"""Gradients of the TopK loss with no dense latent axis, for CPUs; equal to autograd's of ``losses.topk_loss``.

With r = x̂_n − x_n and g = 2 r / (n_tokens · d_model), z sparse with k entries per token:

    ∂z     = g W_decᵀ at the active entries        (sampled_addmm)
    ∂W_dec = zᵀ g        ∂W_enc = ∂zᵀ (x_n − b_dec)   (one transpose of the pattern, then two sparse-dense products)
    ∂b_dec = Σ g − (Σ ∂z) W_enc                      (the sum over tokens commutes with the encoder)

The measurements that chose these kernels are in research/clt_peers.md §3. The dead latents' term is dense over the
dead alone. Gradients are added into ``.grad``, which is allocated once and used again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workers.dictionaries.losses import AuxK
from workers.dictionaries.sparse_coder import SparseCoder
from workers.dictionaries.sparsifiers import Selected


class StepResult(NamedTuple):
    """What one step learned of its batch, beside the gradients."""

    reconstruction_loss: Float[Tensor, ""]
    auxiliary_loss: Float[Tensor, ""]
    fired: Int[Tensor, " n_latents"]


class Transposed(NamedTuple):
    """The sparsity pattern of the codes seen from the latents: a CSR matrix [n_latents, n_tokens] without values."""

    row_starts: Int[Tensor, " n_latents_plus_1"]
    tokens: Int[Tensor, " n_entries"]
    order: Int[Tensor, " n_entries"]
    counts: Int[Tensor, " n_latents"]


@torch.no_grad()
def sparse_gradients(
    coder: SparseCoder,
    tokens: Float[Tensor, "n_tokens d_model"],
    find_dead: Callable[[Int[Tensor, " n_latents"]], Bool[Tensor, " n_latents"]],
    aux: AuxK,
) -> StepResult:
    """Write the gradients of one batch of normalized tokens into the coder's parameters.

    ``find_dead`` is told how often each latent fired in this batch and answers which are dead now.
    """
    clear_gradients(coder)
    codes = sort_indices(coder.encode_normalized(tokens))
    pattern = transpose_pattern(codes, coder.n_latents)
    residual = coder.decode_normalized(codes) - tokens
    residual_gradient = residual * (2.0 / residual.numel())
    add_main_gradients(coder, tokens, codes, pattern, residual_gradient)
    active = codes.values.reshape(-1)[pattern.order] > 0
    fired = pattern.counts if bool(active.all()) else count_active(codes, coder.n_latents)
    auxiliary = add_auxiliary_gradients(coder, tokens, residual, find_dead(fired), aux)
    return StepResult(residual.square().mean(), auxiliary, fired)


def add_main_gradients(
    coder: SparseCoder, tokens: Tensor, codes: Selected, pattern: Transposed, residual_gradient: Tensor
) -> None:
    assert coder.W_enc.grad is not None
    assert coder.W_dec.grad is not None
    assert coder.b_dec.grad is not None
    code_gradient = sampled_products(residual_gradient, coder.W_dec, codes)
    add_transposed_product(coder.W_dec.grad, pattern, codes.values, residual_gradient)
    add_transposed_product(coder.W_enc.grad, pattern, code_gradient, tokens - coder.b_dec)
    summed = torch.zeros_like(coder.b_enc).index_add_(0, codes.indices.reshape(-1), code_gradient.reshape(-1))
    coder.b_dec.grad += residual_gradient.sum(0) - summed @ coder.W_enc


def add_auxiliary_gradients(
    coder: SparseCoder, tokens: Tensor, residual: Tensor, dead: Bool[Tensor, " n_latents"], aux: AuxK
) -> Float[Tensor, ""]:
    """The dead latents' share of the gradients; returns the auxiliary loss (0 with none dead)."""
    rows = dead.nonzero().squeeze(1)
    if rows.numel() == 0:
        return residual.new_zeros(())
    assert coder.W_enc.grad is not None
    assert coder.W_dec.grad is not None
    assert coder.b_dec.grad is not None
    W_enc, W_dec, centered = coder.W_enc[rows], coder.W_dec[rows], tokens - coder.b_dec
    values = keep_strongest((centered @ W_enc.T).relu_(), aux.k)
    error = torch.addmm(residual, values, W_dec)  # ê − (x_n − x̂_n)
    error_gradient = error * (2.0 * aux.weight / error.numel())
    code_gradient = (error_gradient @ W_dec.T).mul_(values > 0)
    coder.W_dec.grad.index_add_(0, rows, values.T @ error_gradient)
    coder.W_enc.grad.index_add_(0, rows, code_gradient.T @ centered)
    coder.b_dec.grad -= code_gradient.sum(0) @ W_enc
    return error.square().mean()


def keep_strongest(values: Float[Tensor, "n_tokens n"], k: int) -> Float[Tensor, "n_tokens n"]:
    if values.shape[1] <= k:
        return values
    found = values.topk(k, dim=1, sorted=False)
    return torch.zeros_like(values).scatter_(1, found.indices, found.values)


def clear_gradients(coder: SparseCoder) -> None:
    for weight in (coder.W_enc, coder.W_dec, coder.b_dec):
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        else:
            weight.grad.zero_()


def sort_indices(codes: Selected) -> Selected:
    """Each token's entries by latent: the order CSR kernels ask for."""
    found = codes.indices.sort(dim=1)
    return Selected(found.values, codes.values.gather(1, found.indices))


def transpose_pattern(codes: Selected, n_latents: int) -> Transposed:
    k = codes.indices.shape[1]
    latents = codes.indices.reshape(-1).int()
    order = latents.argsort(stable=True)
    counts = torch.bincount(latents, minlength=n_latents)
    row_starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()
    return Transposed(row_starts, (order // k).int(), order, counts)


def count_active(codes: Selected, n_latents: int) -> Int[Tensor, " n_latents"]:
    return torch.bincount(codes.indices[codes.values > 0], minlength=n_latents)


def sampled_products(
    left: Float[Tensor, "n_tokens d_model"], right: Float[Tensor, "n_latents d_model"], codes: Selected
) -> Float[Tensor, "n_tokens k"]:
    """left rightᵀ at the active entries of the codes, 0 at the others."""
    n_tokens, k = codes.indices.shape
    starts = torch.arange(0, n_tokens * k + 1, k, dtype=torch.int32)
    pattern = csr_matrix(starts, codes.indices.reshape(-1).int(), torch.zeros(n_tokens * k), (n_tokens, right.shape[0]))
    products: Tensor = torch.sparse.sampled_addmm(pattern, left, right.T, beta=0.0)
    return products.values().view(n_tokens, k) * (codes.values > 0)


def add_transposed_product(
    out: Float[Tensor, "n_latents d_model"],
    pattern: Transposed,
    values: Float[Tensor, "n_tokens k"],
    dense: Float[Tensor, "n_tokens d_model"],
) -> None:
    """out += codesᵀ dense, in place: a fresh result of that size costs more in page faults than the product."""
    matrix = csr_matrix(
        pattern.row_starts, pattern.tokens, values.reshape(-1)[pattern.order], (out.shape[0], dense.shape[0])
    )
    torch.addmm(out, matrix, dense, out=out)


def csr_matrix(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, size=size, check_invariants=False)
