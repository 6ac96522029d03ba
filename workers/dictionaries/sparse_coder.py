"""The sparse coder of one hookpoint: an encoder row and a decoder row for each latent.

    x_n = (x − mean(x)) / (std(x) + 1e-5)          per token, std with ddof 1, kept as the codes' context
    z   = select(x_n W_encᵀ + b_enc − b_dec W_encᵀ)    top-k of ReLU, or each latent above its own threshold
    x̂   = (z W_dec + b_dec) · std + mean

Row f of ``W_enc`` is what latent f reads and row f of ``W_dec`` what it writes. The recipe is that of the residual
replacement model (research/rrm.md §1), in which ``b_enc`` stays zero. A variant overrides ``select``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workers.dictionaries.sparsifiers import Selected, above_threshold, strongest

EPSILON = 1e-5
ROWS = 512  # tokens per encoder product: its result stays in the cache and is used again for the next rows
ROWS_ON_ACCELERATOR = 8192


class TokenScale(NamedTuple):
    """What the normalization took from each token and decoding gives back."""

    mean: Float[Tensor, "n_tokens 1"]
    deviation: Float[Tensor, "n_tokens 1"]


class Codes(NamedTuple):
    """The latents that are on at each token; an entry of value 0 is nothing, and its index is arbitrary."""

    indices: Int[Tensor, "n_tokens k"]
    values: Float[Tensor, "n_tokens k"]
    context: TokenScale | None


class Normalized(NamedTuple):
    """Tokens of zero mean and unit variance."""

    tokens: Float[Tensor, "n_tokens d_model"]
    scale: TokenScale


def normalize_tokens(activations: Float[Tensor, "n_tokens d_model"]) -> Normalized:
    mean = activations.mean(dim=1, keepdim=True)
    centered = activations - mean
    deviation = centered.square().sum(dim=1, keepdim=True).div(activations.shape[1] - 1).sqrt()
    return Normalized(centered / (deviation + EPSILON), TokenScale(mean, deviation))


def unit_rows(matrix: Float[Tensor, "n_rows n_columns"]) -> Float[Tensor, "n_rows n_columns"]:
    norms: Tensor = matrix.norm(dim=1, keepdim=True)
    return matrix / norms.clamp_min(torch.finfo(matrix.dtype).tiny)


class SparseCoder(nn.Module):
    """A TopK coder; weights are ``[n_latents, d_model]`` on both sides."""

    def __init__(self, *, d_model: int, n_latents: int, k: int) -> None:
        super().__init__()
        if not 1 <= k <= n_latents:
            raise ValueError(f"k is {k}; it must lie between 1 and the number of latents, {n_latents}.")
        self.k = k
        self.W_enc = nn.Parameter(torch.zeros(n_latents, d_model))
        self.W_dec = nn.Parameter(torch.zeros(n_latents, d_model))
        self.b_dec = nn.Parameter(torch.zeros(d_model))
        self.b_enc = nn.Parameter(torch.zeros(n_latents), requires_grad=False)

    @property
    def n_latents(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_model(self) -> int:
        return self.W_enc.shape[1]

    def select(self, pre: Float[Tensor, "n_tokens n_latents"]) -> Selected:
        return strongest(pre, self.k)

    def encoder_offset(self) -> Float[Tensor, " n_latents"]:
        """What is added to x_n W_encᵀ: the encoder's bias, less what it reads of the decoder's."""
        return self.b_enc - self.W_enc @ self.b_dec

    def pre_activations(self, tokens: Float[Tensor, "n_tokens d_model"]) -> Float[Tensor, "n_tokens n_latents"]:
        return torch.addmm(self.encoder_offset(), tokens, self.W_enc.T)

    @torch.no_grad()
    def encode_normalized(self, tokens: Float[Tensor, "n_tokens d_model"]) -> Selected:
        """Select in slices of rows, so that the dense ``[n_tokens, n_latents]`` product never exists as a whole."""
        n_tokens = tokens.shape[0]
        n_rows = min(n_tokens, ROWS if tokens.device.type == "cpu" else ROWS_ON_ACCELERATOR)
        buffer = tokens.new_empty(n_rows, self.n_latents)
        offset = self.encoder_offset()
        parts = []
        for start in range(0, n_tokens, max(n_rows, 1)):
            rows = tokens[start : start + n_rows]
            pre = torch.addmm(offset, rows, self.W_enc.T, out=buffer[: rows.shape[0]])
            parts.append(self.select(pre))
        return join_selected(parts) if parts else no_codes(tokens)

    @torch.no_grad()
    def encode(self, activations: Float[Tensor, "n_tokens d_model"]) -> Codes:
        normalized = normalize_tokens(activations)
        selected = self.encode_normalized(normalized.tokens)
        return Codes(selected.indices, selected.values, normalized.scale)

    def decode_normalized(self, selected: Selected) -> Float[Tensor, "n_tokens d_model"]:
        written = nn.functional.embedding_bag(
            selected.indices, self.W_dec, per_sample_weights=selected.values, mode="sum"
        )
        return written + self.b_dec

    @torch.no_grad()
    def decode(self, codes: Codes) -> Float[Tensor, "n_tokens d_model"]:
        reconstruction = self.decode_normalized(Selected(codes.indices, codes.values))
        if codes.context is None:
            return reconstruction
        return reconstruction * codes.context.deviation + codes.context.mean


class ThresholdCoder(SparseCoder):
    """A coder whose latents each have their own threshold; ``k`` is then no limit."""

    def __init__(self, *, d_model: int, n_latents: int) -> None:
        super().__init__(d_model=d_model, n_latents=n_latents, k=n_latents)
        self.threshold = nn.Parameter(torch.zeros(n_latents), requires_grad=False)

    def select(self, pre: Float[Tensor, "n_tokens n_latents"]) -> Selected:
        return above_threshold(pre, self.threshold)


def no_codes(tokens: Float[Tensor, "n_tokens d_model"]) -> Selected:
    empty = tokens.new_zeros(0, 1)
    return Selected(empty.long(), empty)


def join_selected(parts: list[Selected]) -> Selected:
    """Stack slices of rows; the narrower ones are padded with zeros."""
    width = max(part.indices.shape[1] for part in parts)
    padded = [[nn.functional.pad(column, (0, width - column.shape[1])) for column in part] for part in parts]
    return Selected(torch.cat([part[0] for part in padded]), torch.cat([part[1] for part in padded]))


@torch.no_grad()
def initialize_coder(coder: SparseCoder, generator: torch.Generator) -> None:
    """Decoder rows drawn on the unit sphere, encoder rows equal to them: each latent reads what it writes."""
    directions = torch.randn(coder.W_dec.shape, generator=generator, device=generator.device)
    coder.W_dec.copy_(unit_rows(directions))
    coder.W_enc.copy_(coder.W_dec)
