"""How often and how strongly each latent fires: counts, moments and a histogram that come free with the exemplars.

Any split of the images adds up to the same bytes: counts are integers, and moments are summed by bin of the histogram.
Values of one bin, and their squares in float32, have 24 bits on one grid, so that float64 sums of them are exact in any
order while fewer than 2^28 active tokens of a latent share a bin. However weak a latent is, its mean square is exact to
2^-24 of itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

FIRST_BIN, N_BINS = -56, 96  # 2^-28 to 2^20 in half octaves; what lies beyond counts as the nearest value within
LOWEST, HIGHEST = 2.0**-28, 2.0**20 - 2.0**-4
ROOT_OF_TWO = 0x3504F3  # the mantissa bits of the float32 sqrt(2)
CPU_BLOCK = (256, 256)  # tokens and latents of dense codes; what is made of them, and their cells, stay in the cache
MANTISSA_BITS = 23
EXPONENT_BIAS = 127
TABLES = ("histogram", "total", "total_of_squares")
NAMES = (*TABLES, "n_images_active", "n_prefix_wins", "maximum")
BYTES_PER_LATENT = 8 * (len(TABLES) * N_BINS + len(NAMES) - len(TABLES))


class ActivationCounts:
    """Of one dictionary's latents at one hookpoint and pole; silence is counted nowhere."""

    def __init__(self, n_latents: int, device: torch.device | str = "cpu") -> None:
        self.n_images_active = torch.zeros(n_latents, dtype=torch.long, device=device)
        self.n_prefix_wins = torch.zeros_like(self.n_images_active)
        self.histogram = torch.zeros(n_latents, N_BINS, dtype=torch.long, device=device)
        self.total = torch.zeros(n_latents, N_BINS, dtype=torch.float64, device=device)
        self.total_of_squares = torch.zeros_like(self.total)
        self.maximum = torch.zeros(n_latents, device=device)

    @property
    def n_latents(self) -> int:
        return self.maximum.numel()

    def add_images(self, maximum: Float[Tensor, "n_images n_latents"], prefix_wins: Int[Tensor, " n_latents"]) -> None:
        self.n_images_active += maximum.sign().sum(0).long()
        self.n_prefix_wins += prefix_wins
        self.maximum = torch.maximum(self.maximum, maximum.amax(0))

    def add_entries(self, latents: Int[Tensor, " n_entries"], values: Float[Tensor, " n_entries"]) -> None:
        """Active tokens one by one, all above 0."""
        held = values.clamp(LOWEST, HIGHEST)
        cells = (latents * N_BINS).add_(histogram_bins(held))
        self.histogram.view(-1).scatter_add_(0, cells, torch.ones_like(cells))
        self.add_moments(cells, held)

    def add_tokens(self, values: Float[Tensor, "n_tokens n_latents"]) -> None:
        """Tokens with the value of every latent, 0 where it is silent."""
        tokens_at_once, latents_at_once = CPU_BLOCK if values.device.type == "cpu" else values.shape
        for tokens in values.split(tokens_at_once):  # type: ignore[no-untyped-call]
            for start in range(0, self.n_latents, latents_at_once):
                self.add_latents(tokens[:, start : start + latents_at_once], start)

    def add_latents(self, values: Float[Tensor, "n_tokens n_some"], start: int) -> None:
        """Tokens with the values of latents that follow one another."""
        held = values.clamp(LOWEST, HIGHEST)
        latents = torch.arange(start, start + values.shape[1], dtype=torch.int32, device=values.device)
        cells = histogram_bins(held).add_(latents * N_BINS).long().flatten()
        is_active = values > 0
        self.histogram.view(-1).scatter_add_(0, cells, is_active.long().flatten())
        self.add_moments(cells, held.mul_(is_active).flatten())

    def add_moments(self, cells: Int[Tensor, " n_entries"], values: Float[Tensor, " n_entries"]) -> None:
        """Cells are latent · N_BINS + bin; a value is of its bin's range, or 0."""
        self.total.view(-1).scatter_add_(0, cells, values.double())
        self.total_of_squares.view(-1).scatter_add_(0, cells, values.square().double())

    def merge(self, other: ActivationCounts) -> None:
        self.maximum = torch.maximum(self.maximum, other.maximum)
        for name in NAMES:
            if name != "maximum":
                getattr(self, name).add_(getattr(other, name))

    def tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in NAMES}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        for name in NAMES:
            setattr(self, name, tensors[name])

    def statistics(self, n_tokens: int) -> dict[str, Tensor]:
        """Mean and variance are over active tokens; the prefix share is that of the images where the latent fires."""
        n_tokens_active = self.histogram.sum(1)
        n_active = n_tokens_active.clamp_min(1)
        mean = sum_bins(self.total) / n_active
        variance = (sum_bins(self.total_of_squares) / n_active - mean.square()).clamp_min(0)
        edges = torch.pow(2.0, torch.arange(FIRST_BIN, FIRST_BIN + N_BINS + 1) / 2)
        return {
            "n_images_active": self.n_images_active.int(),
            "n_tokens_active": n_tokens_active,
            "density": (n_tokens_active / max(n_tokens, 1)).float(),
            "mean": mean.float(),
            "variance": variance.float(),
            "maximum": self.maximum.clone(),
            "prefix_share": (self.n_prefix_wins / self.n_images_active.clamp_min(1)).float(),
            "histogram": self.histogram.clamp_max(2**31 - 1).int(),
            "histogram_edges": edges.float(),
        }


def sum_bins(table: Float[Tensor, "n_latents n_bins"]) -> Float[Tensor, " n_latents"]:
    """On the CPU, so that the order of the bins, and with it the rounding, is the same on every device."""
    return table.cpu().sum(1).to(table.device)


def half_octave(values: Float[Tensor, " ..."]) -> Int[Tensor, " ..."]:
    """floor(2 · log2(value)) of positive float32 values as int32, exactly, from their bits."""
    bits = values.contiguous().view(torch.int32)
    octave_and_half = (bits >> MANTISSA_BITS) + ((bits + ((1 << MANTISSA_BITS) - ROOT_OF_TWO)) >> MANTISSA_BITS)
    return octave_and_half.sub_(2 * EXPONENT_BIAS)


def histogram_bins(values: Float[Tensor, " ..."]) -> Int[Tensor, " ..."]:
    """The bin, from 0 on, of values between ``LOWEST`` and ``HIGHEST``."""
    return half_octave(values).sub_(FIRST_BIN)
