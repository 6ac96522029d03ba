"""Activations planted from a known sparse dictionary, and how much of it a learned one finds again.

    x_i = Σ_f a_if r_if                 a_i: k of n_true entries above zero at each token, uniform in [½, 1½]
    y_j = Σ_{i ≤ j} Σ_f a_if w_ifj      r and w random unit vectors

An SAE is given x_0 and should find the rows r_0f; a transcoder is given x_0 and y_0 and should find w_0f0; a
cross-layer transcoder should find, for each f of block i, its rows at all later targets, taken as one long vector.
Noise is Gaussian, its deviation given as a share of the signal's. Recovery is asked both ways: how near a learned row
comes to each true one, and how near a true one comes to each learned row that is in use. Among many random directions
some lie near anything, so each figure stands beside that of a random dictionary of the same shape.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from workers.dictionaries.alignment import nearest_both_ways
from workers.dictionaries.sparse_coder import unit_rows
from workers.dictionaries.store import Dictionary

FOUND = 0.9
SMALLEST, LARGEST = 0.5, 1.5


@dataclass(frozen=True)
class PlantedSettings:
    """Sizes of the truth; the defaults are those of the check in docs/benchmarks.md."""

    d_model: int = 64
    n_true: int = 256
    k: int = 8
    noise: float = 0.0
    n_blocks: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n_true:
            raise ValueError(f"k is {self.k}; it must lie between 1 and the number of true latents, {self.n_true}.")
        if self.noise < 0:
            raise ValueError(f"The noise is {self.noise}; it must be 0 or more.")


class Recovery(NamedTuple):
    """Mean greatest cosines and shares above .9, from the true rows to the learned ones and back."""

    true_to_learned: float
    share_found: float
    learned_to_true: float
    share_true: float


def stream_of(purpose: str, seed: int) -> torch.Generator:
    """A generator that shares no stream with any other use of the seed: a coder is initialized by one, too."""
    digest = hashlib.sha256(f"planted:{purpose}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class PlantedWorld:
    """A truth drawn from the seed, and tokens made of it."""

    def __init__(self, settings: PlantedSettings) -> None:
        self.settings = settings
        generator = stream_of("truth", settings.seed)
        size = (settings.n_true, settings.d_model)
        blocks = range(settings.n_blocks)
        self.read_rows = [unit_rows(torch.randn(size, generator=generator)) for _ in blocks]
        self.written_rows = {
            (source, target): unit_rows(torch.randn(size, generator=generator))
            for source in blocks
            for target in blocks[source:]
        }

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(f"blocks.{block}.mlp.in" for block in range(self.settings.n_blocks))

    @property
    def writes(self) -> tuple[str, ...]:
        return tuple(f"blocks.{block}.mlp.out" for block in range(self.settings.n_blocks))

    @torch.no_grad()
    def draw(self, n_tokens: int, generator: torch.Generator) -> dict[str, Float[Tensor, "n_tokens d_model"]]:
        """Tokens at every hookpoint, row by row the same ones."""
        codes = [self.draw_codes(n_tokens, generator) for _ in self.reads]
        tokens = {read: code @ rows for read, code, rows in zip(self.reads, codes, self.read_rows, strict=True)}
        for target, write in enumerate(self.writes):
            sources = range(target + 1)
            tokens[write] = sum((codes[i] @ self.written_rows[i, target] for i in sources), torch.zeros(()))
        return {name: self.add_noise(clean, generator) for name, clean in tokens.items()}

    def draw_codes(self, n_tokens: int, generator: torch.Generator) -> Float[Tensor, "n_tokens n_true"]:
        n_true, k = self.settings.n_true, self.settings.k
        active = torch.rand(n_tokens, n_true, generator=generator).topk(k, dim=1).indices
        values = SMALLEST + (LARGEST - SMALLEST) * torch.rand(n_tokens, k, generator=generator)
        return torch.zeros(n_tokens, n_true).scatter_(1, active, values)

    def add_noise(self, clean: Float[Tensor, "n_tokens d_model"], generator: torch.Generator) -> Tensor:
        if not self.settings.noise:
            return clean
        deviation = (clean - clean.mean(0)).square().mean().sqrt()
        return clean + self.settings.noise * deviation * torch.randn(clean.shape, generator=generator)

    def true_rows(self, dictionary: Dictionary, read: str) -> Float[Tensor, "n_true d_written"]:
        """What the latents that read there should write: where they read, or at every later target, end to end."""
        if dictionary.writes == dictionary.reads:
            return self.read_rows[self.reads.index(read)]
        source = self.reads.index(read)
        targets = [self.writes.index(write) for write in dictionary.writes_of(read)]
        return torch.cat([self.written_rows[source, target] for target in targets], dim=1)


def learned_rows(dictionary: Dictionary, read: str) -> Float[Tensor, "n_latents d_written"]:
    """A latent's rows at all that it writes, end to end."""
    written = [dictionary.decoder_directions(read, write).detach() for write in dictionary.writes_of(read)]
    return torch.cat(written, dim=1)


def measure_recovery(
    true: Float[Tensor, "n_true d_written"], learned: Float[Tensor, "n_latents d_written"]
) -> Recovery:
    """Of learned rows that are in use; dead ones are to be left out by the caller."""
    if learned.shape[0] == 0:
        return Recovery(0.0, 0.0, 0.0, 0.0)
    ways = nearest_both_ways(true, learned)
    found, back = ways.rows.cosine, ways.columns.cosine
    return Recovery(
        float(found.mean()),
        float((found > FOUND).float().mean()),
        float(back.mean()),
        float((back > FOUND).float().mean()),
    )


def random_recovery(true: Float[Tensor, "n_true d_written"], n_latents: int, generator: torch.Generator) -> Recovery:
    """The null: a dictionary of as many random rows."""
    return measure_recovery(true, unit_rows(torch.randn(n_latents, true.shape[1], generator=generator)))


def live_latents(dictionary: Dictionary, read: str, tokens: Float[Tensor, "n_tokens d_model"]) -> Tensor:
    """The numbers of the latents that fire on these tokens."""
    codes = dictionary.encode(read, tokens)
    return codes.indices[codes.values != 0].unique()  # type: ignore[no-untyped-call, no-any-return]
