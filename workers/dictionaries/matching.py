"""How far latents of two dictionaries do the same, whatever their directions: by activations and by top images.

    Pearson(r, s) = correlation of a_r and b_s over tokens, silent tokens counting as 0
    Jaccard(r, s) = |T_r ∩ T_s| / |T_r ∪ T_s|,  T the ten images with the largest maxima above 0

For each latent the greatest over the other dictionary counts. What chance gives is measured by shuffling: the tokens,
or the images, of one side in another order. A latent that is silent on the sample has no match. Dictionaries of
different widths and kinds compare, if only they look at the same tokens (research/ffkv_saebench.md §1.5).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workers.dictionaries.alignment import BothWays, Nearest, first_maximum
from workers.dictionaries.sparse_coder import Codes

N_TOP_IMAGES = 10
TOKENS_AT_ONCE = 1024
SPARSE_SHARE = 0.05  # below it a sparse product is faster than a dense one
NO_MATCH = -1.0


class TokenCodes(NamedTuple):
    """Codes of some tokens; where all latents are on, ``indices`` has one row, which holds for every token."""

    indices: Int[Tensor, "n_tokens_or_1 k"]
    values: Float[Tensor, "n_tokens k"]
    n_latents: int

    def dense(self, start: int, stop: int) -> Float[Tensor, "n n_latents"]:
        """A slice of tokens with every latent in its place."""
        values = self.values[start:stop].float()
        indices = self.indices.expand(len(self.values), -1)[start:stop].long()
        return torch.zeros(len(values), self.n_latents).scatter_add_(1, indices, values)

    def reordered(self, order: Int[Tensor, " n_tokens"]) -> TokenCodes:
        return self._replace(indices=self.indices.expand(len(self.values), -1)[order], values=self.values[order])


def token_codes(codes: Codes, tokens: Int[Tensor, " n"], n_latents: int) -> TokenCodes:
    """The codes of chosen tokens, as small as they can be kept."""
    is_dense = codes.indices.stride(0) == 0
    indices = codes.indices[:1] if is_dense else codes.indices[tokens]
    return TokenCodes(indices.cpu().int(), codes.values[tokens].cpu().float(), n_latents)


def join_codes(parts: list[TokenCodes]) -> TokenCodes:
    """Codes of further tokens below one another; narrower ones are padded with zeros."""
    if all(part.indices.shape[0] == 1 and part.indices.shape[1] == part.n_latents for part in parts):
        return TokenCodes(parts[0].indices, torch.cat([part.values for part in parts]), parts[0].n_latents)
    width = max(part.values.shape[1] for part in parts)
    padding = [(0, width - part.values.shape[1]) for part in parts]
    indices = [
        torch.nn.functional.pad(part.indices.expand(len(part.values), -1), pad)
        for part, pad in zip(parts, padding, strict=True)
    ]
    values = [torch.nn.functional.pad(part.values, pad) for part, pad in zip(parts, padding, strict=True)]
    return TokenCodes(torch.cat(indices), torch.cat(values), parts[0].n_latents)


class Moments(NamedTuple):
    mean: Float[Tensor, " n_latents"]
    deviation: Float[Tensor, " n_latents"]


def moments(codes: TokenCodes) -> Moments:
    """Mean and deviation of every latent over all tokens, in double precision."""
    n_tokens = len(codes.values)
    total, squares = (torch.zeros(codes.n_latents, dtype=torch.float64) for _ in range(2))
    for start in range(0, n_tokens, TOKENS_AT_ONCE):
        dense = codes.dense(start, start + TOKENS_AT_ONCE).double()
        total += dense.sum(0)
        squares += dense.square().sum(0)
    mean = total / n_tokens
    return Moments(mean, (squares / n_tokens - mean.square()).clamp_min(0).sqrt())


def correlations(
    a: TokenCodes, b: TokenCodes, rows: Int[Tensor, " n_rows"], of_a: Moments, of_b: Moments
) -> Float[Tensor, "n_rows n_b"]:
    """Pearson of chosen latents of A with all of B; −1 where either never varies."""
    n_tokens = len(a.values)
    products = torch.zeros(len(rows), b.n_latents)
    for start in range(0, n_tokens, TOKENS_AT_ONCE):
        left = a.dense(start, start + TOKENS_AT_ONCE)[:, rows].T
        right = b.dense(start, start + TOKENS_AT_ONCE)
        if int((left != 0).sum()) < SPARSE_SHARE * left.numel():
            products += torch.sparse.mm(left.to_sparse(), right)
        else:
            products += left @ right
    covariance = products.double() / n_tokens - of_a.mean[rows, None] * of_b.mean
    scale = of_a.deviation[rows, None] * of_b.deviation
    return torch.where(scale > 0, covariance / scale.clamp_min(1e-300), NO_MATCH).float()


class TopImages(NamedTuple):
    """Each latent's images with the largest maxima, the lower index first among equals; −1 where it has no more."""

    values: Float[Tensor, "n_latents k"]
    images: Int[Tensor, "n_latents k"]


def top_images(maxima: Float[Tensor, "image n_latents"], first_image: int) -> TopImages:
    """Of a batch of images numbered from ``first_image``."""
    empty = TopImages(torch.zeros(maxima.shape[1], 0), torch.zeros(maxima.shape[1], 0, dtype=torch.int32))
    images = torch.arange(first_image, first_image + len(maxima), dtype=torch.int32).expand(maxima.shape[1], -1)
    return merge_top(empty, TopImages(maxima.T, images))


def merge_top(one: TopImages, other: TopImages) -> TopImages:
    """The best of both; the images of ``other`` come after those of ``one``."""
    values, images = torch.cat([one.values, other.values], 1), torch.cat([one.images, other.images], 1)
    images = torch.where(values > 0, images, -1)
    order = values.sort(dim=1, descending=True, stable=True).indices[:, :N_TOP_IMAGES]
    return TopImages(values.gather(1, order), images.gather(1, order))


def memberships(top: TopImages, n_images: int) -> Float[Tensor, "n_latents n_images"]:
    """1 where an image is among a latent's top ones."""
    found = torch.zeros(len(top.images), n_images + 1)
    found.scatter_(1, torch.where(top.images < 0, n_images, top.images).long(), 1.0)
    return found[:, :n_images]


def jaccards(a: Float[Tensor, "n_rows n_images"], b: Float[Tensor, "n_b n_images"]) -> Float[Tensor, "n_rows n_b"]:
    """Of memberships; −1 where one side has no image."""
    shared = a @ b.T
    sizes = a.sum(1, keepdim=True), b.sum(1)
    either = sizes[0] + sizes[1] - shared
    known: Bool[Tensor, "n_rows n_b"] = (sizes[0] > 0) & (sizes[1] > 0)
    return torch.where(known, shared / either.clamp_min(1), NO_MATCH)


def best_of(similarities: Float[Tensor, "n_rows n_b"]) -> BothWays:
    """The greatest of every row and of every column, the first among equals."""
    return BothWays(Nearest(*first_maximum(similarities, dim=1)), Nearest(*first_maximum(similarities, dim=0)))
