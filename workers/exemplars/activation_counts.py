"""How often and how strongly each latent fires: counts, moments and a histogram that come free with the exemplars.

Any split of the images adds up to the same bytes: counts are integers, and what enters the moments is rounded to
multiples of 2^-20, so that float64 sums below 2^33 are exact in any order.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROUNDING = 1.5 * 2.0**32
FIRST_BIN, N_BINS = -20, 32  # 2^-10 to 2^6 in half octaves; the outer bins take what lies beyond
ROOT_OF_TWO = 0x3504F3  # the mantissa bits of the float32 sqrt(2)
MANTISSA_BITS = 23
EXPONENT_BIAS = 127
NAMES = ("n_images_active", "n_prefix_wins", "histogram", "total", "total_of_squares", "maximum")


class ActivationCounts:
    """Of one dictionary's latents at one hookpoint and pole; silence is counted nowhere."""

    def __init__(self, n_latents: int, device: torch.device | str = "cpu") -> None:
        self.n_images_active = torch.zeros(n_latents, dtype=torch.long, device=device)
        self.n_prefix_wins = torch.zeros_like(self.n_images_active)
        self.histogram = torch.zeros(n_latents, N_BINS, dtype=torch.long, device=device)
        self.total = torch.zeros(n_latents, dtype=torch.float64, device=device)
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
        exact = values.double()
        self.total_of_squares.scatter_add_(0, latents, on_grid(exact.square()))
        self.total.scatter_add_(0, latents, on_grid(exact))
        self.add_bins(latents.int().mul_(N_BINS + 1).add_(histogram_bins(values)))

    def add_tokens(self, values: Float[Tensor, "n_tokens n_latents"]) -> None:
        """Tokens with the value of every latent."""
        exact = values.double()
        self.total_of_squares += on_grid(exact.square()).sum(0)
        self.total += on_grid(exact).sum(0)
        first = torch.arange(self.n_latents, dtype=torch.int32, device=values.device) * (N_BINS + 1)
        self.add_bins(histogram_bins(values).mul_(values > 0).add_(first).flatten())

    def add_bins(self, bins: Int[Tensor, " n_entries"]) -> None:
        counted = torch.bincount(bins, minlength=self.n_latents * (N_BINS + 1))
        self.histogram += counted.view(-1, N_BINS + 1)[:, 1:]

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
        mean = self.total / n_active
        variance = (self.total_of_squares / n_active - mean.square()).clamp_min(0)
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


def on_grid(values: Float[Tensor, " ..."]) -> Float[Tensor, " ..."]:
    """Values rounded to multiples of 2^-20, the place of the last bit of 1.5 · 2^32; changes what it is given."""
    return values.add_(ROUNDING).sub_(ROUNDING)


def half_octave(values: Float[Tensor, " ..."]) -> Int[Tensor, " ..."]:
    """floor(2 · log2(value)) of positive float32 values as int32, exactly, from their bits."""
    bits = values.contiguous().view(torch.int32)
    octave_and_half = (bits >> MANTISSA_BITS) + ((bits + ((1 << MANTISSA_BITS) - ROOT_OF_TWO)) >> MANTISSA_BITS)
    return octave_and_half.sub_(2 * EXPONENT_BIAS)


def histogram_bins(values: Float[Tensor, " ..."]) -> Int[Tensor, " ..."]:
    """The bin of positive values, 1 to 32; bin 0 is that of silence."""
    return half_octave(values).sub_(FIRST_BIN - 1).clamp_(1, N_BINS)
