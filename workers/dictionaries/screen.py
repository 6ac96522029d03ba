"""The largest encoder products of each token, exactly, by way of a product in bfloat16.

Some CPUs multiply bfloat16 twice as fast as single precision. With x̃, w̃ the rounded factors and s = x̃ · w̃,

    |x · w − s| ≤ ‖x − x̃‖ ‖w‖ + ‖x̃‖ ‖w − w̃‖ + what summing rounds ≤ δ

by Cauchy and Schwarz, with δ of the token and the greatest norms of all latents. So each of a token's k largest
products has s ≥ L − 2δ, where L is its k-th largest s, or less: the k-th largest maximum of groups of latents. What
passes is multiplied again in single precision and searched for the k largest. Where a latent has a floor instead, it
is taken from its bias, and what has s ≥ −δ passes. The latents are those that a product in
single precision finds; a value depends on nothing but its token and its latent, whatever was encoded with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workers.dictionaries.csr import Pattern, row_numbers, row_starts, sampled_products, transpose
from workers.dictionaries.sparsifiers import Selected, strongest, strongest_of_either_sign

ROWS = 512  # tokens per product: its result stays in the cache and is used again for the next rows
BLOCK = 8192  # tokens whose candidates are held at a time
GROUP = 16
FEWEST_WEIGHTS = 500_000  # measured: with fewer the product is too small a part of selecting
MOST_CANDIDATES = 8  # times k, of a token or of all in the mean, beyond which the screen has saved nothing
ROUNDING = 2.0**-8  # of bfloat16, relative
SUMMING = 2.0**-22  # of a sum in single precision, relative to the norms and per term, generously


Search = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Rounded(NamedTuple):
    """A matrix in bfloat16, the norms of its rows, and the norms of what rounding took from them."""

    rows: Tensor
    norms: Float[Tensor, " n_rows"]
    errors: Float[Tensor, " n_rows"]


def is_screened(rows: Float[Tensor, "n_latents d_model"], k: int) -> bool:
    """Whether the screen is worth while: the CPU has the instructions, and few of many latents are wanted."""
    n_latents = rows.shape[0]
    if rows.device.type != "cpu" or rows.dtype != torch.float32 or rows.numel() < FEWEST_WEIGHTS:
        return False
    fits = n_latents % GROUP == 0 and n_latents >= 2 * GROUP * k
    return fits and bool(torch.cpu._is_avx512_bf16_supported())


def screened_top_k(
    tokens: Float[Tensor, "n_tokens d_model"],
    rows: Float[Tensor, "n_latents d_model"],
    bias: Float[Tensor, " n_latents"],
    k: int,
    is_signed: bool,
) -> Selected:
    """The k largest of ReLU(tokens rowsᵀ + bias), or farthest from zero."""
    read = Read(rows, bias)
    parts = [top_k_of_block(block, read, k, is_signed) for block in torch.split(tokens, BLOCK)]
    return Selected(torch.cat([part.indices for part in parts]), torch.cat([part.values for part in parts]))


def top_k_of_block(tokens: Float[Tensor, "n_tokens d_model"], read: Read, k: int, is_signed: bool) -> Selected:
    """By the screen, but for tokens of which it lets too much pass: tokens of zeros, say."""
    found = find_candidates(tokens, read, k, is_signed)
    if found is None:
        return select_among(candidates_of_product(tokens, read, 2 * k, is_signed), tokens, read, k, is_signed)
    crowded = found.starts.diff() > MOST_CANDIDATES * k
    rows = crowded.nonzero().squeeze(1)
    if rows.numel() == 0:
        return select_among(found, tokens, read, k, is_signed)
    selected = select_among(without_rows(found, crowded), tokens, read, k, is_signed)
    others = candidates_of_product(tokens[rows], read, 2 * k, is_signed)
    for whole, part in zip(selected, select_among(others, tokens[rows], read, k, is_signed), strict=True):
        whole[rows] = part
    return selected


def without_rows(pattern: Pattern, left_out: Bool[Tensor, " n_rows"]) -> Pattern:
    counts = pattern.starts.diff().masked_fill(left_out, 0)
    return pattern._replace(starts=row_starts(counts), columns=pattern.columns[~left_out[row_numbers(pattern)]])


class Read:
    """Encoder rows and biases, and both rounded: a bias is one more column."""

    def __init__(self, rows: Float[Tensor, "n_latents d_model"], bias: Float[Tensor, " n_latents"]) -> None:
        self.rows, self.bias = rows, bias
        self.is_biased = bool(bias.any())
        self.rounded = round_rows(extend(rows, bias[:, None]) if self.is_biased else rows)

    def extend(self, tokens: Float[Tensor, "n_tokens d_model"]) -> Float[Tensor, "n_tokens d"]:
        return extend(tokens, tokens.new_ones(tokens.shape[0], 1)) if self.is_biased else tokens


def extend(matrix: Float[Tensor, "n d"], column: Float[Tensor, "n 1"]) -> Float[Tensor, "n d_padded"]:
    """One more column, and columns of zeros up to a width that matrix products like."""
    return torch.nn.functional.pad(torch.cat([matrix, column], dim=1), (0, -(matrix.shape[1] + 1) % 32))


def round_rows(matrix: Float[Tensor, "n d"]) -> Rounded:
    """In slices that stay in the cache."""
    rows = matrix.new_empty(matrix.shape, dtype=torch.bfloat16)
    norms, errors = matrix.new_empty(matrix.shape[0]), matrix.new_empty(matrix.shape[0])
    for start in range(0, matrix.shape[0], ROWS):
        part = slice(start, start + ROWS)
        rows[part] = matrix[part]
        torch.linalg.vector_norm(matrix[part], dim=1, out=norms[part])
        torch.linalg.vector_norm(matrix[part] - rows[part], dim=1, out=errors[part])
    return Rounded(rows, norms, errors)


def screened_above(
    tokens: Float[Tensor, "n_tokens d_model"],
    rows: Float[Tensor, "n_latents d_model"],
    bias: Float[Tensor, " n_latents"],
    floor: Float[Tensor, " n_latents"],
    most: int,
) -> Pattern | None:
    """A superset of the products tokens rowsᵀ + bias above their latent's floor; None if more than ``most``."""
    read = Read(rows, bias - floor)
    return gather_candidates(tokens, read, most, lambda products, deviation: pass_floor(products, -deviation))


def find_candidates(tokens: Float[Tensor, "n_tokens d_model"], read: Read, k: int, is_signed: bool) -> Pattern | None:
    """A superset of each token's k largest products above zero (or farthest from it); None if it is far too large."""

    def search(products: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        return pass_largest(products.abs_() if is_signed else products, deviation, k)

    return gather_candidates(tokens, read, MOST_CANDIDATES * k * tokens.shape[0], search)


def gather_candidates(tokens: Tensor, read: Read, most: int, search: Search) -> Pattern | None:
    """What passes in each slice of the tokens; None as soon as it is more than ``most``."""
    counts, columns, n_found = [tokens.new_zeros(0, dtype=torch.long)], [tokens.new_zeros(0, dtype=torch.int32)], 0
    for products, deviation in approximate_products(read.extend(tokens), read.rounded):
        count, column = search(products, deviation)
        counts.append(count)
        columns.append(column)
        n_found += column.numel()
        if n_found > most:
            return None
    return Pattern(row_starts(torch.cat(counts)), torch.cat(columns), read.rows.shape[0])


def candidates_of_product(tokens: Float[Tensor, "n_tokens d_model"], read: Read, n: int, is_signed: bool) -> Pattern:
    """The n largest of each token by a product in single precision."""
    select = strongest_of_either_sign if is_signed else strongest
    columns = [
        select(torch.addmm(read.bias, part, read.rows.T), n).indices.int().flatten()
        for part in torch.split(tokens, ROWS)
    ]
    starts = torch.arange(0, tokens.shape[0] * n + 1, n, dtype=torch.int32)
    return Pattern(starts, torch.cat(columns), read.rows.shape[0])


def approximate_products(tokens: Float[Tensor, "n_tokens d"], rows: Rounded) -> Iterator[tuple[Tensor, Tensor]]:
    """Slices of tokens rowsᵀ in bfloat16, before its last rounding off by at most the deviation of each token."""
    rounded = round_rows(tokens)
    norm, error = rows.norms.max(), rows.errors.max()
    deviation = rounded.errors * norm + (rounded.norms + rounded.errors) * error
    deviation += SUMMING * tokens.shape[1] * rounded.norms * norm
    buffer = torch.empty(min(ROWS, tokens.shape[0]), rows.rows.shape[0], dtype=torch.bfloat16)
    for start in range(0, tokens.shape[0], ROWS):
        part = rounded.rows[start : start + ROWS]
        products = torch.mm(part, rows.rows.T, out=buffer[: part.shape[0]])
        yield products, deviation[start : start + ROWS]


def pass_largest(products: Tensor, deviation: Float[Tensor, " n_tokens"], k: int) -> tuple[Tensor, Tensor]:
    """What may be among the k largest of a token, and above zero."""
    maxima = in_groups(products).amax(1).float()
    least = maxima.topk(k, dim=1, sorted=False).values.amin(1)
    floor = (least - ROUNDING * least.abs() - 2 * deviation).maximum(-deviation)
    return pass_floor(products, floor, maxima)


def pass_floor(
    products: Tensor, floor: Float[Tensor, " n_tokens"], maxima: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """How many latents of each token lie above its floor, or are rounded below it, and which."""
    by_group = in_groups(products)
    maxima = by_group.amax(1).float() if maxima is None else maxima
    floor = floor - 2 * ROUNDING * floor.abs()
    token, group = (maxima >= floor[:, None]).nonzero(as_tuple=True)
    members = by_group[token, :, group]
    found, member = (members >= floor[token, None]).nonzero(as_tuple=True)
    counts = torch.bincount(token[found], minlength=products.shape[0])
    return counts, (member * by_group.shape[2] + group[found]).int()


def in_groups(products: Tensor) -> Float[Tensor, "n_tokens group n_groups"]:
    """Latent f is in group f mod n_groups."""
    return products.view(products.shape[0], GROUP, products.shape[1] // GROUP)


def select_among(
    found: Pattern, tokens: Float[Tensor, "n_tokens d_model"], read: Read, k: int, is_signed: bool
) -> Selected:
    """The k largest of the candidates, by products in single precision."""
    values = exact_products(found, tokens, read.rows) + read.bias[found.columns]
    token = row_numbers(found).long()
    place = torch.arange(token.numel()) - found.starts[token]
    width = max(int(found.starts.diff().max()) if tokens.shape[0] else 0, k)
    padded = values.new_full((tokens.shape[0], width), 0.0 if is_signed else -torch.inf)
    padded[token, place] = values
    latents = found.columns.new_zeros(padded.shape)
    latents[token, place] = found.columns
    chosen = (strongest_of_either_sign if is_signed else strongest)(padded, k)
    return Selected(latents.gather(1, chosen.indices).long(), chosen.values)


def exact_products(
    found: Pattern, tokens: Float[Tensor, "n_tokens d_model"], rows: Float[Tensor, "n_latents d_model"]
) -> Float[Tensor, " n_entries"]:
    """tokens rowsᵀ at the entries."""
    seen = transpose(found)
    products = sampled_products(seen.pattern, rows, tokens)
    return torch.empty_like(products).index_copy_(0, seen.order, products)
