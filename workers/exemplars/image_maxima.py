"""What one batch of codes says of each image and latent: the maximum, and on demand the values by token.

Per image there is a dense axis of latents, which costs a small share of the encoder's product that gave the codes; per
token there is none, but for a dictionary that is dense itself (FF-KV), whose codes are taken as the matrix they are.
Values at or below zero are silence. A maximum shared by several tokens sits on the first of them.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from workers.dictionaries.sparse_coder import Codes
from workers.exemplars.activation_counts import ActivationCounts
from workers.exemplars.ranked_table import positions, take

PAIRS_AT_ONCE = 1 << 14  # pairs whose tokens are laid out together


class Shown(NamedTuple):
    """How pairs of an image and a latent are shown: the patch of the maximum, -1 on a prefix token, and the map."""

    patch: Int[Tensor, " n_pairs"]
    map: UInt8[Tensor, "n_pairs n_patches"]


class ImageBatch(Protocol):
    """Codes of whole images, each with the same number of tokens."""

    maximum: Float[Tensor, "n_images n_latents"]

    def count(self, counts: ActivationCounts) -> None:
        """Add all active tokens to the counts."""

    def prefix_wins(self) -> Int[Tensor, " n_latents"]:
        """On how many images the maximum sits on a prefix token."""

    def show(self, pairs: Int[Tensor, " n_pairs"]) -> Shown:
        """Patches and maps of pairs (image row · n_latents + latent) that are active, each named once."""


class SparseImages:
    """Codes of a few latents per token."""

    def __init__(self, codes: Codes, *, n_images: int, n_latents: int, n_prefix_tokens: int) -> None:
        self.n_images, self.n_latents, self.n_prefix_tokens = n_images, n_latents, n_prefix_tokens
        self.per_token = codes.values.shape[1]
        self.n_tokens = codes.values.shape[0] // n_images
        self.values = codes.values.float().clamp_min(0).flatten()
        self.latents = codes.indices.flatten()
        self.entries: Tensor | None = None  # their positions among the codes, where silent ones were sorted out
        if self.values.numel() and float(self.values.amin()) == 0:
            self.entries = positions(self.values > 0)
            self.values, self.latents = take(self.values, self.entries), take(self.latents, self.entries)
        self.pairs = self.pairs_of_entries()
        maximum = self.values.new_zeros(n_images * n_latents).scatter_reduce_(0, self.pairs, self.values, "amax")
        self.maximum = maximum.view(n_images, n_latents)

    def pairs_of_entries(self) -> Int[Tensor, " n_entries"]:
        if self.entries is not None:
            return self.entries // (self.n_tokens * self.per_token) * self.n_latents + self.latents
        first = torch.arange(self.n_images, device=self.values.device) * self.n_latents
        return (self.latents.view(self.n_images, -1) + first[:, None]).flatten()

    def tokens_of(self, entries: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        codes = entries if self.entries is None else take(self.entries, entries)
        return codes // self.per_token % self.n_tokens

    def count(self, counts: ActivationCounts) -> None:
        counts.add_entries(self.latents, self.values)

    def prefix_wins(self) -> Int[Tensor, " n_latents"]:
        pairs, values = self.entries_on_prefix()
        wins = torch.unique(pairs[values == take(self.maximum.view(-1), pairs)])
        return torch.bincount(wins % self.n_latents, minlength=self.n_latents)

    def entries_on_prefix(self) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
        """The pairs and values of active prefix tokens."""
        if self.entries is None:
            n_first = self.n_prefix_tokens * self.per_token
            pairs, values = (part.view(self.n_images, -1)[:, :n_first] for part in (self.pairs, self.values))
            return pairs.flatten(), values.flatten()
        entries = positions(self.entries // self.per_token % self.n_tokens < self.n_prefix_tokens)
        return take(self.pairs, entries), take(self.values, entries)

    @cached_property
    def places(self) -> Int[Tensor, " n_images*n_latents"]:
        """Where a wanted pair's values go; -1, and always left so, for the others."""
        return torch.full((self.n_images * self.n_latents,), -1, dtype=torch.int32, device=self.values.device)

    def show(self, pairs: Int[Tensor, " n_pairs"]) -> Shown:
        """By way of the active tokens alone; nothing but the map is laid out by token."""
        place, token, value = self.active_tokens(pairs)
        n_pairs, n_prefix = pairs.numel(), self.n_prefix_tokens
        at_maximum = torch.where(value == take(take(self.maximum.view(-1), pairs), place), token, self.n_tokens)
        first = torch.full((n_pairs,), self.n_tokens, device=pairs.device).scatter_reduce_(0, place, at_maximum, "amin")
        on_patch = positions(token >= n_prefix)
        place, token, value = take(place, on_patch), take(token, on_patch) - n_prefix, take(value, on_patch)
        strongest = value.new_zeros(n_pairs).scatter_reduce_(0, place, value, "amax")
        n_patches = self.n_tokens - n_prefix
        maps = torch.zeros(n_pairs * n_patches, dtype=torch.uint8, device=pairs.device)
        maps[place * n_patches + token] = levels(value, take(strongest, place))
        return Shown((first - n_prefix).clamp_min(-1), maps.view(n_pairs, n_patches))

    def active_tokens(
        self, pairs: Int[Tensor, " n_pairs"]
    ) -> tuple[Int[Tensor, " n_active"], Int[Tensor, " n_active"], Float[Tensor, " n_active"]]:
        """Place among the pairs, token and value of all tokens at which one of the pairs is active."""
        self.places[pairs] = torch.arange(pairs.numel(), dtype=torch.int32, device=pairs.device)
        place = take(self.places, self.pairs)
        self.places[pairs] = -1
        entries = positions(place >= 0)
        return take(place, entries).long(), self.tokens_of(entries), take(self.values, entries)


class DenseImages:
    """Codes that name every latent at every token, in order."""

    def __init__(self, codes: Codes, *, n_images: int, n_prefix_tokens: int) -> None:
        self.n_prefix_tokens = n_prefix_tokens
        self.values = codes.values.float().clamp_min(0).view(n_images, -1, codes.values.shape[1])
        self.maximum = self.values.amax(1).abs()  # there may be a zero with a sign, whose bits are no order

    def count(self, counts: ActivationCounts) -> None:
        counts.add_tokens(self.values.flatten(0, 1))

    def prefix_wins(self) -> Int[Tensor, " n_latents"]:
        if self.n_prefix_tokens == 0:
            return torch.zeros(self.maximum.shape[1], dtype=torch.long, device=self.maximum.device)
        on_prefix = self.values[:, : self.n_prefix_tokens].amax(1)
        return ((on_prefix == self.maximum) & (on_prefix > 0)).sum(0)

    def show(self, pairs: Int[Tensor, " n_pairs"]) -> Shown:
        n_latents, n_prefix = self.maximum.shape[1], self.n_prefix_tokens
        parts = []
        for chosen in pairs.split(PAIRS_AT_ONCE):  # type: ignore[no-untyped-call]
            values = self.values[chosen // n_latents, :, chosen % n_latents]
            patch, values = (values.argmax(dim=1) - n_prefix).clamp_min(-1), values[:, n_prefix:]
            maps = levels(values, values.amax(dim=1, keepdim=True)).mul_(values > 0)
            parts.append(Shown(patch, maps))
        return Shown(*(torch.cat([part[column] for part in parts]) for column in range(2)))


def is_dense(codes: Codes, n_latents: int) -> bool:
    """Whether every token names every latent in order: one row of indices, expanded."""
    indices = codes.indices
    if indices.shape[0] == 0 or indices.shape[1] != n_latents or indices.stride(0) != 0:
        return False
    return torch.equal(indices[0], torch.arange(n_latents, device=indices.device))


def levels(values: Float[Tensor, " ..."], strongest: Float[Tensor, " ..."]) -> UInt8[Tensor, " ..."]:
    """255 is the pair's own maximum over patches, 0 is silent, an active patch at least 1."""
    return (255 * (values / strongest)).round_().clamp_(1, 255).to(torch.uint8)
