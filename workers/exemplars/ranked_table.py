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


class RankedRows(NamedTuple):
    """The rows of a table, each in order of key; an empty place has the key EMPTY."""

    keys: Int[Tensor, "n_rows n_slots"]
    columns: dict[str, Tensor]


class RankedTable:
    """Per row the ``n_slots`` entries with the lowest keys, with their columns; places within a row say nothing."""

    def __init__(self, n_rows: int, n_slots: int, columns: Mapping[str, Tensor]) -> None:
        """``columns`` gives an empty entry's value, which fixes each column's shape and dtype."""
        self.keys = torch.full((n_rows, n_slots), EMPTY)
        self.highest = torch.full((n_rows,), EMPTY)
        self.blank = dict(columns)
        self.columns = {name: blank.expand(n_rows, n_slots, *blank.shape).clone() for name, blank in self.blank.items()}

    @property
    def n_slots(self) -> int:
        return self.keys.shape[1]

    def admits(self, rows: Int[Tensor, " n_entries"], keys: Int[Tensor, " n_entries"]) -> Bool[Tensor, " n_entries"]:
        """Which entries may still find a place; an entry refused here is refused for good."""
        return keys < self.highest[rows]

    def insert(self, entries: Entries) -> None:
        """Offer entries; an entry must not be offered twice. A winner takes the place of what it ousts."""
        if entries.rows.numel() == 0:
            return
        affected, row_of_entry = torch.unique(entries.rows, return_inverse=True)
        n_old = affected.numel() * self.n_slots
        rows = torch.cat([torch.arange(affected.numel()).repeat_interleave(self.n_slots), row_of_entry])
        keys = torch.cat([self.keys[affected].reshape(-1), entries.keys])
        order = keys.argsort(stable=True)
        order = order[rows[order].argsort(stable=True)]
        is_kept = rank_in_row(rows[order]) < self.n_slots
        is_new = order >= n_old
        winners, ousted = order[is_kept & is_new] - n_old, order[~is_kept & ~is_new]
        places = affected[rows[ousted]], ousted % self.n_slots  # both lists run by row, so they go together
        self.keys[places] = entries.keys[winners]
        for name, column in self.columns.items():
            column[places] = entries.columns[name][winners].to(column.dtype)
        self.highest[affected] = self.keys[affected].amax(dim=1)

    def ranked(self) -> RankedRows:
        """A copy with each row in order of key."""
        order = self.keys.argsort(dim=1)
        rows = torch.arange(order.shape[0])[:, None]
        return RankedRows(self.keys[rows, order], {name: column[rows, order] for name, column in self.columns.items()})

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
        self.highest[rows] = EMPTY
        for name, column in self.columns.items():
            column[rows] = self.blank[name]

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        return {f"{prefix}.keys": self.keys} | {f"{prefix}.{name}": column for name, column in self.columns.items()}

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        self.keys = tensors[f"{prefix}.keys"]
        self.highest = self.keys.amax(dim=1)
        self.columns = {name: tensors[f"{prefix}.{name}"] for name in self.columns}


def rank_in_row(rows: Int[Tensor, " n_entries"]) -> Int[Tensor, " n_entries"]:
    """The place of each entry within its row, for entries that come row by row."""
    counts = torch.bincount(rows)
    return torch.arange(rows.numel()) - (counts.cumsum(0) - counts)[rows]
