"""A number for each (image, latent) by which samples are drawn: the same images whatever the order or the sharding.

For one latent it is a bijection on 32 bits, so two images never share a number and no tie is left to the order in
which they come: an odd multiple of the image and a shift of the latent's own, through the finalizer of MurmurHash3
(Appleby 2011). The shift is the finalizer of SplitMix64 (Steele, Lea and Flood 2014) of latent and seed. Arithmetic is
on int64 with wrap-around.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

HASH_BITS = 32
MASK = (1 << HASH_BITS) - 1
GOLDEN = 0x9E3779B1
MURMUR = (0x85EBCA6B, 0xC2B2AE35)
FIRST = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9 as a signed number
SECOND = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
KEPT_BATCHES = 2  # hookpoints work off the same images one after the other


def hash_images(images: Int[Tensor, " n_images"], n_latents: int, seed: int) -> Int[Tensor, "n_images n_latents"]:
    """Evenly spread numbers in [0, 2^32), for each latent different ones for different images below 2^32."""
    shifts = latent_shifts(n_latents, seed, images.device)
    mixed = images.long()[:, None] * GOLDEN + shifts
    mixed &= MASK
    mixed ^= mixed >> 16
    mixed *= MURMUR[0]
    mixed &= MASK
    mixed ^= mixed >> 13
    mixed *= MURMUR[1]
    mixed &= MASK
    mixed ^= mixed >> 16
    return mixed


@lru_cache(maxsize=KEPT_BATCHES)
def shared_hashes(
    images: tuple[int, ...], n_latents: int, seed: int, device: torch.device
) -> Int[Tensor, "n_images n_latents"]:
    """What ``hash_images`` says, computed once for all hookpoints and dictionaries of a size; not to be written to."""
    return hash_images(torch.tensor(images, device=device), n_latents, seed)


@lru_cache(maxsize=KEPT_BATCHES)
def latent_shifts(n_latents: int, seed: int, device: torch.device) -> Int[Tensor, " n_latents"]:
    """32 bits per latent that a seed scatters."""
    salt = (seed * SECOND + (1 << 63)) % (1 << 64) - (1 << 63)
    mixed = torch.arange(n_latents, device=device) * FIRST + salt
    mixed = (mixed ^ shift_right(mixed, 30)) * FIRST
    mixed = (mixed ^ shift_right(mixed, 27)) * SECOND
    return shift_right(mixed ^ shift_right(mixed, 31), 64 - HASH_BITS)


def shift_right(numbers: Int[Tensor, " ..."], n_bits: int) -> Int[Tensor, " ..."]:
    """A shift that fills with zeros, which int64 has not of itself."""
    return (numbers >> n_bits) & ((1 << (64 - n_bits)) - 1)


def value_bits(values: Tensor) -> Int[Tensor, " ..."]:
    """The bits of a non-negative float32 as a number: it grows with the value."""
    return values.to(torch.float32).contiguous().view(torch.int32).long()
