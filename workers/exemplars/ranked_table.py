"""A table that keeps, per row, the entries with the lowest keys: the one structure behind every kind of exemplar.

The key alone decides, so the order in which entries come, or tables are merged, does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

EMPTY = torch.iinfo(torch.int64).max


class Entries(NamedTuple):
    """Entries on offer: their rows, their keys and what comes with them."""

    rows: Int[Tensor, " n_entries"]
    keys: Int[Tensor, " n_entries"]
    columns: dict[str, Tensor]


class RankedTable:
    """Per row the ``n_slots`` entries with the lowest keys, in order of key, with their columns."""

    def __init__(self, n_rows: int, n_slots: int, columns: Mapping[str, Tensor]) -> None:
        """``columns`` gives an empty entry's value, which fixes each column's shape and dtype."""
        self.keys = torch.full((n_rows, n_slots), EMPTY)
        self.blank = dict(columns)
        self.columns = {name: blank.expand(n_rows, n_slots, *blank.shape).clone() for name, blank in self.blank.items()}

    @property
    def n_slots(self) -> int:
        return self.keys.shape[1]

    def admits(self, rows: Int[Tensor, " n_entries"], keys: Int[Tensor, " n_entries"]) -> Bool[Tensor, " n_entries"]:
        """Which entries may still find a place; an entry refused here is refused for good."""
        return keys < self.keys[rows, -1]

    def insert(self, entries: Entries) -> None:
        """Offer entries; an entry must not be offered twice."""
        if entries.rows.numel() == 0:
            return
        affected, row_of_entry = torch.unique(entries.rows, return_inverse=True)
        n_old = affected.numel() * self.n_slots
        row_of_old = torch.arange(affected.numel()).repeat_interleave(self.n_slots)
        keys = torch.cat([self.keys[affected].reshape(-1), entries.keys])
        chosen = lowest_per_row(torch.cat([row_of_old, row_of_entry]), keys, self.n_slots)
        self.keys[affected] = keys[chosen]
        is_new = chosen >= n_old
        for name, column in self.columns.items():
            kept = column[affected].flatten(0, 1)[chosen.clamp_max(n_old - 1)]
            kept[is_new] = entries.columns[name][chosen[is_new] - n_old].to(column.dtype)
            column[affected] = kept

    def entries(self) -> Entries:
        """All that the table holds."""
        return self.entries_of(torch.arange(self.keys.shape[0]))

    def entries_of(self, rows: Int[Tensor, " n_rows"]) -> Entries:
        keys = self.keys[rows]
        filled = keys != EMPTY
        row_of = rows[:, None].expand_as(keys)[filled]
        return Entries(row_of, keys[filled], {name: column[rows][filled] for name, column in self.columns.items()})

    def clear(self, rows: Int[Tensor, " n_rows"]) -> None:
        self.keys[rows] = EMPTY
        for name, column in self.columns.items():
            column[rows] = self.blank[name]

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        return {f"{prefix}.keys": self.keys} | {f"{prefix}.{name}": column for name, column in self.columns.items()}

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        self.keys = tensors[f"{prefix}.keys"]
        self.columns = {name: tensors[f"{prefix}.{name}"] for name in self.columns}


def lowest_per_row(
    rows: Int[Tensor, " n_entries"], keys: Int[Tensor, " n_entries"], n_slots: int
) -> Int[Tensor, "n_rows n_slots"]:
    """The positions of each row's lowest keys in order; every row in 0 … max must have at least ``n_slots`` entries."""
    order = keys.argsort(stable=True)
    order = order[rows[order].argsort(stable=True)]
    counts = torch.bincount(rows)
    starts = counts.cumsum(0) - counts
    return order[starts[:, None] + torch.arange(n_slots)]
