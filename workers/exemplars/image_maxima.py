"""What one batch of codes says of each image and latent: the maximum, where it sits, and the patch map.

Everything works on the active (image, token, latent, value) entries, sorted once by image and latent; a dense latent
axis per token never exists. A maximum shared by several tokens sits on the first of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from workers.dictionaries.sparse_coder import Codes

INT32_MAX = torch.iinfo(torch.int32).max


class ImageMaxima(NamedTuple):
    """One entry per (image, latent) that is active somewhere in the batch, by image and then latent."""

    image_row: Int[Tensor, " n_pairs"]
    latent: Int[Tensor, " n_pairs"]
    value: Float[Tensor, " n_pairs"]
    token: Int[Tensor, " n_pairs"]
    patch_value: Float[Tensor, " n_pairs"]
    n_active: Int[Tensor, " n_pairs"]
    active: ActiveTokens


class ActiveTokens(NamedTuple):
    """One entry per active token and latent, pair by pair, ``n_active`` of each."""

    token: Int[Tensor, " n_active"]
    latent: Int[Tensor, " n_active"]
    value: Float[Tensor, " n_active"]


def find_image_maxima(codes: Codes, *, n_images: int, n_latents: int, n_prefix_tokens: int) -> ImageMaxima:
    """Reduce the codes of a batch of images, each with the same number of tokens, to maxima by image and latent."""
    n_tokens = codes.indices.shape[0] // max(n_images, 1)
    entry = (codes.values.reshape(-1) > 0).nonzero().squeeze(1)
    position, latent = entry // codes.values.shape[1], take(codes.indices.reshape(-1), entry)
    image_row = position // max(n_tokens, 1)
    key = image_row * n_latents + latent
    order = (key.int() if n_images * n_latents <= INT32_MAX else key).argsort(stable=True)
    value = take(codes.values.reshape(-1), take(entry, order)).to(torch.float32)
    token, latent = take(position - image_row * n_tokens, order), take(latent, order)
    pair_key, pair, counts = torch.unique_consecutive(take(key, order), return_inverse=True, return_counts=True)
    maximum = largest(value, counts)
    at_maximum = torch.where(value == take(maximum, pair), token, n_tokens)
    first = torch.full((pair_key.numel(),), n_tokens).scatter_reduce_(0, pair, at_maximum, "amin")
    patch_maximum = largest(value * (token >= n_prefix_tokens), counts)
    return ImageMaxima(
        pair_key // n_latents, pair_key % n_latents, maximum, first, patch_maximum, counts,
        ActiveTokens(token, latent, value),
    )  # fmt: skip


def take(values: Shaped[Tensor, " n"], positions: Int[Tensor, " m"]) -> Shaped[Tensor, " m"]:
    """values[positions]; four times as fast as by an index."""
    return values.index_select(0, positions)


def largest(values: Float[Tensor, " n_active"], counts: Int[Tensor, " n_pairs"]) -> Float[Tensor, " n_pairs"]:
    """The largest value of each run of entries."""
    if counts.numel() == 0:
        return values.new_zeros(0)
    return torch.segment_reduce(values, "max", lengths=counts, unsafe=True)


def patch_maps(
    maxima: ImageMaxima, pairs: Int[Tensor, " n_chosen"], *, n_patches: int, n_prefix_tokens: int
) -> UInt8[Tensor, "n_chosen n_patches"]:
    """Maps of chosen pairs: 255 is the image's own maximum over patches, 0 is silent, an active patch at least 1."""
    counts = maxima.n_active[pairs]
    before = maxima.n_active.cumsum(0) - maxima.n_active
    row = torch.arange(pairs.numel()).repeat_interleave(counts)
    entry = (before[pairs] - (counts.cumsum(0) - counts)).repeat_interleave(counts) + torch.arange(row.numel())
    patch = maxima.active.token[entry] - n_prefix_tokens
    share = maxima.active.value[entry] / maxima.patch_value[pairs].repeat_interleave(counts)
    levels = (255 * share).round().clamp(1, 255).to(torch.uint8)
    maps = torch.zeros(pairs.numel(), n_patches, dtype=torch.uint8)
    on_patch = patch >= 0
    maps[row[on_patch], patch[on_patch]] = levels[on_patch]
    return maps
