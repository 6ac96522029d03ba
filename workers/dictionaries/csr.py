"""Sparse products of codes: the kernels that measured fastest on CPUs (research/clt_peers.md §3).

A pattern says where the entries of a sparse matrix [n_rows, n_columns] are: where each row's start, and their columns.
Its entries' values come apart from it. Products with gathered rows are fastest where what is gathered is small, which
tokens are and latents are not: so they run over the pattern seen from the latents.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Pattern(NamedTuple):
    """Row by row: where each row's entries start, and the columns of the entries."""

    starts: Int[Tensor, " n_rows_plus_1"]
    columns: Int[Tensor, " n_entries"]
    n_columns: int

    @property
    def n_rows(self) -> int:
        return self.starts.numel() - 1


class Transposed(NamedTuple):
    """A pattern seen from its columns; ``order`` sorts entries into it, ``counts`` are the entries of each column."""

    pattern: Pattern
    order: Int[Tensor, " n_entries"]
    counts: Int[Tensor, " n_columns"]


def row_starts(counts: Int[Tensor, " n_rows"]) -> Int[Tensor, " n_rows_plus_1"]:
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()


def row_numbers(pattern: Pattern) -> Int[Tensor, " n_entries"]:
    """The row of each entry."""
    return torch.arange(pattern.n_rows, dtype=torch.int32).repeat_interleave(pattern.starts.diff())


def transpose(pattern: Pattern) -> Transposed:
    order = pattern.columns.argsort(stable=True)
    counts = torch.bincount(pattern.columns, minlength=pattern.n_columns)
    seen = Pattern(row_starts(counts), row_numbers(pattern)[order], pattern.n_rows)
    return Transposed(seen, order, counts)


def sampled_products(
    pattern: Pattern, left: Float[Tensor, "n_rows d"], right: Float[Tensor, "n_columns d"]
) -> Float[Tensor, " n_entries"]:
    """left rightᵀ at the entries; rows of ``right`` are gathered."""
    zeros = left.new_zeros(pattern.columns.numel())
    products: Tensor = torch.sparse.sampled_addmm(matrix_of(pattern, zeros), left, right.T, beta=0.0)
    return products.values()


def add_product(
    out: Float[Tensor, "n_rows d"], pattern: Pattern, values: Float[Tensor, " n_entries"], dense: Tensor
) -> None:
    """out += matrix dense, in place: a fresh result of that size costs more in page faults than the product."""
    torch.addmm(out, matrix_of(pattern, values), dense, out=out)


def matrix_of(pattern: Pattern, values: Float[Tensor, " n_entries"]) -> Tensor:
    return csr_matrix(pattern.starts, pattern.columns, values, (pattern.n_rows, pattern.n_columns))


def csr_matrix(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, size=size, check_invariants=False)
