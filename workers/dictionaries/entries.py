"""The active entries of codes, found in slices of rows with no dense latent axis for the whole batch.

Where a token has its own k this is the coder's own selection. Where the number of active latents is free, an entry is
kept that lies above its latent's floor: zero (ReLU), the lower edge of the straight-through window (JumpReLU), or a
value somewhat below the batch's threshold (BatchTopK), guessed from a few tokens and lowered if it was too high, so
that the largest k · n_tokens of the batch are exact.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workers.dictionaries.csr import Pattern, row_numbers, row_starts
from workers.dictionaries.losses import Objective
from workers.dictionaries.screen import exact_products, is_screened, screened_above
from workers.dictionaries.sparse_coder import ROWS, SparseCoder
from workers.dictionaries.sparsifiers import Selected

DENSE_SHARE = 1 / 16  # measured: from here on dense products are faster
N_SAMPLED = 64  # tokens from which the batch's threshold is guessed
MARGINS = (2, 8)  # how many times as many entries as wanted the guess lets pass; after that all that are positive


class Entries(NamedTuple):
    """Codes as a sparse matrix [n_tokens, n_latents]: where entries are, their values, and which count as active."""

    pattern: Pattern
    values: Float[Tensor, " n_entries"]
    is_active: Bool[Tensor, " n_entries"]


@torch.no_grad()
def encode_entries(
    coder: SparseCoder, tokens: Float[Tensor, "n_tokens d_model"], objective: Objective
) -> Entries | None:
    """The entries of a batch of normalized tokens; None where more than ``DENSE_SHARE`` of the latents are on."""
    kind = objective.activation
    if kind in ("topk", "abs_topk"):
        return entries_of(coder.encode_normalized(tokens), coder.n_latents)
    if kind == "batch_topk":
        return largest_of_batch(coder, tokens)
    if kind == "relu":
        return above_floor(coder, tokens, torch.zeros_like(coder.threshold))
    found = above_floor(coder, tokens, (coder.threshold - objective.bandwidth / 2).clamp_min_(0))
    if found is None:
        return None
    is_active = found.values > coder.threshold[found.pattern.columns]
    return found._replace(is_active=is_active)


def entries_of(selected: Selected, n_latents: int) -> Entries:
    """Rows of one width; entries of value 0 stay and are not active."""
    n_tokens, k = selected.indices.shape
    starts = torch.arange(0, n_tokens * k + 1, k, dtype=torch.int32)
    values = selected.values.reshape(-1)
    return Entries(Pattern(starts, selected.indices.reshape(-1).int(), n_latents), values, values != 0)


def above_floor(
    coder: SparseCoder, tokens: Float[Tensor, "n_tokens d_model"], floor: Float[Tensor, " n_latents"]
) -> Entries | None:
    """Every entry of pre above its latent's floor, which is no less than 0; None if they are too many."""
    most = int(DENSE_SHARE * tokens.shape[0] * coder.n_latents)
    if not is_screened(coder.W_enc, coder.k):
        return above_floor_of_product(coder, tokens, floor, most)
    centered = tokens - coder.b_dec if coder.shape.is_bias_tied else tokens
    found = screened_above(centered, coder.W_enc, coder.b_enc, floor, most)
    if found is None:
        return None
    values = exact_products(found, centered, coder.W_enc) + coder.b_enc[found.columns]
    entries = Entries(found, values, torch.ones_like(values, dtype=torch.bool))
    return keep_entries(entries, (values > floor[found.columns]).nonzero().squeeze(1))


def above_floor_of_product(coder: SparseCoder, tokens: Tensor, floor: Tensor, most: int) -> Entries | None:
    """By a product in single precision."""
    n_tokens = tokens.shape[0]
    buffer = tokens.new_empty(min(n_tokens, ROWS), coder.n_latents)
    offset = coder.encoder_offset()
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    n_entries = 0
    for rows in torch.split(tokens, ROWS):
        pre = torch.addmm(offset, rows, coder.W_enc.T, out=buffer[: rows.shape[0]])
        row, latent = (pre > floor).nonzero(as_tuple=True)
        parts.append((torch.bincount(row, minlength=rows.shape[0]), latent.int(), pre[row, latent]))
        n_entries += latent.numel()
        if n_entries > most:
            return None
    counts, latents, values = (torch.cat(column) for column in zip(*parts, strict=True))
    pattern = Pattern(row_starts(counts), latents, coder.n_latents)
    return Entries(pattern, values, torch.ones_like(latents, dtype=torch.bool))


def largest_of_batch(coder: SparseCoder, tokens: Float[Tensor, "n_tokens d_model"]) -> Entries | None:
    """The k · n_tokens largest positive entries of the batch."""
    n_wanted = coder.k * tokens.shape[0]
    for margin in MARGINS:
        guess = guess_threshold(coder, tokens, margin)
        found = above_floor(coder, tokens, guess.expand(coder.n_latents))
        if found is None or found.values.numel() == n_wanted:
            return found
        if found.values.numel() > n_wanted:
            return keep_entries(found, found.values.topk(n_wanted, sorted=False).indices.sort().values)
    return above_floor(coder, tokens, torch.zeros(coder.n_latents))


def guess_threshold(coder: SparseCoder, tokens: Tensor, margin: int) -> Float[Tensor, ""]:
    """What ``margin`` times as many entries as wanted exceed at a few tokens spread over the batch; at least 0."""
    sample = tokens[:: max(1, tokens.shape[0] // N_SAMPLED)]
    pre = coder.pre_activations(sample).flatten()
    rank = min(margin * coder.k * sample.shape[0], pre.numel())
    return pre.topk(rank, sorted=False).values.min().clamp_min(0)


def keep_entries(entries: Entries, kept: Int[Tensor, " n_kept"]) -> Entries:
    """Some entries, given in ascending order."""
    pattern = entries.pattern
    counts = torch.bincount(row_numbers(pattern)[kept], minlength=pattern.n_rows)
    thinned = Pattern(row_starts(counts), pattern.columns[kept], pattern.n_columns)
    return Entries(thinned, entries.values[kept], entries.is_active[kept])
