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

from workers.exemplars.activation_counts import half_octave
from workers.exemplars.ranked_table import EMPTY, Entries, Places, RankedTable, positions

N_APART = 6
N_BINS = N_APART + 1
RANGES = ((0, 2), (2, 4), (4, 6), (6, 7))
NO_BIN = -(1 << 20)


class RangeSamples(NamedTuple):
    """Samples of each range; an empty place has image -1."""

    columns: dict[str, Tensor]
    edges: Float[Tensor, "n_latents n_edges"]


class ActivationRanges:
    """Reservoirs of one dictionary's latents at one hookpoint."""

    def __init__(self, n_latents: int, n_per_range: int, columns: dict[str, Tensor]) -> None:
        self.table = RankedTable(n_latents * N_BINS, n_per_range, columns)
        self.top_bin = torch.full((n_latents,), NO_BIN, device=self.table.keys.device)

    def admit(self, maximum: Float[Tensor, "n_images n_latents"], keys: Int[Tensor, "n_images n_latents"]) -> Places:
        """Places for the images on which latents are active; the entries are positions in the flattened table."""
        self.hear_of(maximum.amax(0))
        latents = torch.arange(maximum.shape[1], dtype=torch.int32, device=maximum.device)
        bins = (self.top_bin.int() - half_octave(maximum)).clamp_(0, N_APART)
        rows = bins.add_(latents * N_BINS).flatten()
        admitted = (keys.flatten() < self.table.highest.index_select(0, rows)).logical_and_(maximum.flatten() > 0)
        pairs = positions(admitted)
        places = self.table.admit(rows[pairs].long(), keys.flatten()[pairs])
        return places._replace(entries=pairs[places.entries])

    def hear_of(self, strongest: Float[Tensor, " n_latents"]) -> None:
        """Learn of the largest image maxima, 0 where there is none."""
        self.raise_bins(torch.where(strongest > 0, half_octave(strongest), NO_BIN).long())

    def raise_bins(self, bins: Int[Tensor, " n_latents"]) -> None:
        """Learn of highest bins; where one is new, what is kept of the latent moves down."""
        changed = ((bins > self.top_bin) & (self.top_bin != NO_BIN)).nonzero().squeeze(1)
        self.top_bin = torch.maximum(self.top_bin, bins)
        if changed.numel() == 0:
            return
        rows = (changed[:, None] * N_BINS + torch.arange(N_BINS, device=changed.device)).reshape(-1)
        kept = self.table.entries_of(rows)
        self.table.clear(rows)
        moved = self.rows_of(kept.rows // N_BINS, half_octave(kept.columns["value"]))
        self.table.insert(kept._replace(rows=moved))

    def rows_of(self, latents: Int[Tensor, " n"], bins: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        return latents * N_BINS + (self.top_bin[latents] - bins).clamp_max(N_APART)

    def merge(self, other: ActivationRanges) -> None:
        self.raise_bins(other.top_bin)
        entries = other.table.entries()
        rows = self.rows_of(entries.rows // N_BINS, half_octave(entries.columns["value"]))
        self.table.insert(entries._replace(rows=rows))

    def finish(self, maximum: Float[Tensor, " n_latents"]) -> RangeSamples:
        """Join bins into ranges, each sample row by falling value."""
        n_latents, n_per_range = self.top_bin.numel(), self.table.n_slots
        joined = RankedTable(n_latents * len(RANGES), n_per_range, self.table.blank)
        entries = self.table.entries()
        ranges = [r for r, (low, high) in enumerate(RANGES) for _ in range(low, high)]
        range_of_bin = torch.tensor(ranges, device=entries.rows.device)
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
        lowest_bin = torch.tensor([high - 1 for _, high in RANGES[:-1]], device=maximum.device)
        inner = torch.pow(2.0, (self.top_bin[:, None] - lowest_bin) / 2)
        inner[self.top_bin == NO_BIN] = 0
        return torch.cat([maximum[:, None], inner, torch.zeros_like(inner[:, :1])], dim=1)


def by_falling_value(table: RankedTable) -> Int[Tensor, "n_rows n_slots"]:
    """Each row's entries by falling value, the lower image first among equals, empty places last."""
    images = table.columns["image"].long()
    by_image = torch.where(table.keys == EMPTY, EMPTY, images).argsort(dim=1, stable=True)
    values = torch.where(table.keys == EMPTY, -1.0, table.columns["value"]).gather(1, by_image)
    return by_image.gather(1, values.argsort(dim=1, descending=True, stable=True))


def reorder(column: Tensor, order: Int[Tensor, "n_rows n_slots"]) -> Tensor:
    return column[torch.arange(order.shape[0], device=order.device)[:, None], order]
