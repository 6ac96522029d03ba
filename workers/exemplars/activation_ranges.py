"""Samples over a feature's activation range, in one pass and mergeable.

Image maxima fall into fixed half-octave bins. Per latent the six bins below its highest are kept apart and all that
is weaker shares one reservoir: when the highest bin rises, bins sink into the reservoir, never out of it, so nothing
has to be seen again. Each bin keeps the images with the lowest hash of (image, latent), so shards merge to the same
samples. ``finish`` joins the bins in pairs into four ranges, the strongest first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workers.exemplars.hashing import value_bits
from workers.exemplars.ranked_table import EMPTY, Entries, RankedTable

N_APART = 6
N_BINS = N_APART + 1
RANGES = ((0, 2), (2, 4), (4, 6), (6, 7))
NO_BIN = -(1 << 20)
ROOT_OF_TWO = 0x3504F3  # the mantissa bits of the float32 sqrt(2)


class RangeSamples(NamedTuple):
    """Samples of each range; an empty place has image -1."""

    columns: dict[str, Tensor]
    edges: Float[Tensor, "n_latents n_edges"]


class ActivationRanges:
    """Reservoirs of one dictionary's latents at one hookpoint."""

    def __init__(self, n_latents: int, n_per_range: int, columns: dict[str, Tensor]) -> None:
        self.top_bin = torch.full((n_latents,), NO_BIN)
        self.table = RankedTable(n_latents * N_BINS, n_per_range, columns)

    def raise_bins(self, latents: Int[Tensor, " n"], bins: Int[Tensor, " n"]) -> None:
        """Learn of new highest bins; what is kept of the latents concerned moves down."""
        raised = self.top_bin.scatter_reduce(0, latents, bins, "amax")
        changed = ((raised > self.top_bin) & (self.top_bin != NO_BIN)).nonzero().squeeze(1)
        self.top_bin = raised
        rows = (changed[:, None] * N_BINS + torch.arange(N_BINS)).reshape(-1)
        kept = self.table.entries_of(rows)
        self.table.clear(rows)
        moved = self.rows_of(kept.rows // N_BINS, half_octave(kept.columns["value"]))
        self.table.insert(kept._replace(rows=moved))

    def rows_of(self, latents: Int[Tensor, " n"], bins: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        return latents * N_BINS + (self.top_bin[latents] - bins).clamp_max(N_APART)

    def merge(self, other: ActivationRanges) -> None:
        known = (other.top_bin != NO_BIN).nonzero().squeeze(1)
        self.raise_bins(known, other.top_bin[known])
        entries = other.table.entries()
        rows = self.rows_of(entries.rows // N_BINS, half_octave(entries.columns["value"]))
        self.table.insert(entries._replace(rows=rows))

    def finish(self, maximum: Float[Tensor, " n_latents"]) -> RangeSamples:
        """Join bins into ranges, each sample row by falling value."""
        n_latents, n_per_range = self.top_bin.numel(), self.table.n_slots
        joined = RankedTable(n_latents * len(RANGES), n_per_range, self.table.blank)
        entries = self.table.entries()
        range_of_bin = torch.tensor([r for r, (low, high) in enumerate(RANGES) for _ in range(low, high)])
        rows = entries.rows // N_BINS * len(RANGES) + range_of_bin[entries.rows % N_BINS]
        joined.insert(Entries(rows, entries.keys, entries.columns))
        order = by_falling_value(joined)
        columns = {name: reorder(column, order) for name, column in joined.columns.items()}
        shape = (n_latents, len(RANGES), n_per_range)
        return RangeSamples(
            {name: column.reshape(*shape, *column.shape[2:]) for name, column in columns.items()},
            self.edges(maximum),
        )

    def edges(self, maximum: Float[Tensor, " n_latents"]) -> Float[Tensor, "n_latents n_edges"]:
        """Falling: the maximum, the lower edges of the ranges, 0; all 0 for a latent that never fired."""
        lowest_bin = torch.tensor([high - 1 for _, high in RANGES[:-1]])
        inner = torch.pow(2.0, (self.top_bin[:, None] - lowest_bin) / 2)
        inner[self.top_bin == NO_BIN] = 0
        return torch.cat([maximum[:, None], inner, torch.zeros(inner.shape[0], 1)], dim=1)


def half_octave(values: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """floor(2 · log2(value)) of positive float32 values, exactly, from their bits."""
    bits = value_bits(values)
    return 2 * ((bits >> 23) - 127) + ((bits & 0x7FFFFF) >= ROOT_OF_TWO)


def by_falling_value(table: RankedTable) -> Int[Tensor, "n_rows n_slots"]:
    """Each row's entries by falling value, the lower image first among equals, empty places last."""
    images = table.columns["image"].long()
    by_image = torch.where(table.keys == EMPTY, EMPTY, images).argsort(dim=1, stable=True)
    values = torch.where(table.keys == EMPTY, -1.0, table.columns["value"]).gather(1, by_image)
    return by_image.gather(1, values.argsort(dim=1, descending=True, stable=True))


def reorder(column: Tensor, order: Int[Tensor, "n_rows n_slots"]) -> Tensor:
    return column[torch.arange(order.shape[0])[:, None], order]
