"""A hash of (image, latent) by which samples are drawn: the same images whatever the order or the sharding.

The mixing is that of SplitMix64 (Steele, Lea and Flood 2014), on int64 with wrap-around.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

KEY_BITS = 62
GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed number
FIRST = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
SECOND = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB


def hash_pairs(images: Int[Tensor, " ..."], latents: Int[Tensor, " ..."], seed: int) -> Int[Tensor, " ..."]:
    """Evenly spread numbers in [0, 2^62) of pairs; the two arguments are broadcast."""
    salt = (seed * SECOND + (1 << 63)) % (1 << 64) - (1 << 63)
    mixed = images.long() * GOLDEN + latents.long() * FIRST + salt
    mixed = (mixed ^ shift_right(mixed, 30)) * FIRST
    mixed = (mixed ^ shift_right(mixed, 27)) * SECOND
    return shift_right(mixed ^ shift_right(mixed, 31), 64 - KEY_BITS)


def shift_right(numbers: Int[Tensor, " ..."], n_bits: int) -> Int[Tensor, " ..."]:
    """A shift that fills with zeros, which int64 has not of itself."""
    return (numbers >> n_bits) & ((1 << (64 - n_bits)) - 1)


def value_bits(values: Tensor) -> Int[Tensor, " ..."]:
    """The bits of a non-negative float32 as a number: it grows with the value."""
    return values.to(torch.float32).contiguous().view(torch.int32).long()
