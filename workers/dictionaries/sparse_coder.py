"""The sparse coder of one hookpoint: an encoder row and a decoder row for each latent.

    x_n = (x − mean(x)) / (std(x) + 1e-5)           per token, std with ddof 1, kept as the codes' context; or x itself,
                                                    or x · √d / ‖x‖ (``norm``: mean 0, std ‖x‖ / √d)
    z   = select(x_n W_encᵀ + b_enc − b_dec W_encᵀ)     the last term only where the bias is tied
    x̂   = (z W_dec + b_dec + x W_skipᵀ) · std + mean    W_skip only where there is one

Row f of ``W_enc`` is what latent f reads and row f of ``W_dec`` what it writes; a transcoder writes in another place
than it reads, so their widths may differ. ``select`` keeps the k strongest (``topk``), the k farthest from zero
(``abs_topk``), or each latent above its own threshold (``threshold``: JumpReLU, BatchTopK once trained, and ReLU with
thresholds of zero). The first recipe is that of the residual replacement model (research/rrm.md §1).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workers.dictionaries.screen import is_screened, screened_top_k
from workers.dictionaries.sparsifiers import Selected, above_threshold, strongest, strongest_of_either_sign

EPSILON = 1e-5
ROWS = 512  # tokens per encoder product: its result stays in the cache and is used again for the next rows
ROWS_ON_ACCELERATOR = 8192
SELECTIONS = ("topk", "abs_topk", "threshold")
NORMALIZATIONS = ("token", "none", "norm")


class TokenScale(NamedTuple):
    """What encoding took from each token and decoding gives back; ``skip`` is what a skip connection writes."""

    mean: Float[Tensor, "n_tokens 1"]
    deviation: Float[Tensor, "n_tokens 1"]
    skip: Float[Tensor, "n_tokens d_out"] | None = None


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


@dataclass(frozen=True)
class CoderShape:
    """What a coder is beside its weights; ``k`` is no limit where thresholds select."""

    d_model: int
    n_latents: int
    k: int
    d_out: int = 0  # 0: as wide as it reads
    selection: str = "topk"
    normalization: str = "token"
    is_bias_tied: bool = True
    has_encoder_bias: bool = False
    has_skip: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n_latents:
            raise ValueError(f"k is {self.k}; it must lie between 1 and the number of latents, {self.n_latents}.")
        if self.selection not in SELECTIONS:
            raise ValueError(f"The selection '{self.selection}' is unknown; it can be {', '.join(SELECTIONS)}.")
        if self.normalization not in NORMALIZATIONS:
            known = ", ".join(NORMALIZATIONS)
            raise ValueError(f"The normalization '{self.normalization}' is unknown; it can be {known}.")
        if self.is_bias_tied and self.d_out not in (0, self.d_model):
            raise ValueError("A bias can be taken from what is read only where a coder writes where it reads.")

    @property
    def width_written(self) -> int:
        return self.d_out or self.d_model

    @property
    def is_signed(self) -> bool:
        return self.selection == "abs_topk"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class SparseCoder(nn.Module):
    """A coder of a given shape, its weights zero; see the module's formulas."""

    def __init__(self, shape: CoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.k = shape.k
        self.W_enc = nn.Parameter(torch.zeros(shape.n_latents, shape.d_model))
        self.W_dec = nn.Parameter(torch.zeros(shape.n_latents, shape.width_written))
        self.b_dec = nn.Parameter(torch.zeros(shape.width_written))
        self.b_enc = nn.Parameter(torch.zeros(shape.n_latents), requires_grad=shape.has_encoder_bias)
        if shape.selection == "threshold":
            self.threshold = nn.Parameter(torch.zeros(shape.n_latents), requires_grad=False)
        if shape.has_skip:
            self.W_skip = nn.Parameter(torch.zeros(shape.width_written, shape.d_model))

    @property
    def n_latents(self) -> int:
        return self.shape.n_latents

    @property
    def d_model(self) -> int:
        return self.shape.d_model

    def select(self, pre: Float[Tensor, "n_tokens n_latents"]) -> Selected:
        if self.shape.selection == "threshold":
            return above_threshold(pre, self.threshold)
        if self.shape.selection == "abs_topk":
            return strongest_of_either_sign(pre, self.k)
        return strongest(pre, self.k)

    def encoder_offset(self) -> Float[Tensor, " n_latents"]:
        """What is added to x_n W_encᵀ: the encoder's bias, less what it reads of the decoder's where that is tied."""
        return self.b_enc - self.W_enc @ self.b_dec if self.shape.is_bias_tied else self.b_enc

    def pre_activations(self, tokens: Float[Tensor, "n_tokens d_model"]) -> Float[Tensor, "n_tokens n_latents"]:
        return torch.addmm(self.encoder_offset(), tokens, self.W_enc.T)

    def normalize(self, activations: Float[Tensor, "n_tokens d_model"]) -> Normalized:
        """Tokens as the encoder reads them, and what decoding gives back."""
        if self.shape.normalization == "token":
            return normalize_tokens(activations)
        ones = activations.new_ones(activations.shape[0], 1)
        if self.shape.normalization == "norm":
            tiny = torch.finfo(activations.dtype).tiny
            norms = (activations.norm(dim=1, keepdim=True) / activations.shape[1] ** 0.5).clamp_min(tiny)
            return Normalized(activations / norms, TokenScale(torch.zeros_like(ones), norms))
        return Normalized(activations, TokenScale(torch.zeros_like(ones), ones))

    @torch.no_grad()
    def encode_normalized(self, tokens: Float[Tensor, "n_tokens d_model"]) -> Selected:
        """Select in slices of rows, so that the dense ``[n_tokens, n_latents]`` product never exists as a whole."""
        if self.shape.selection != "threshold" and is_screened(self.W_enc, self.k):
            centered = tokens - self.b_dec if self.shape.is_bias_tied else tokens
            return screened_top_k(centered, self.W_enc, self.b_enc, self.k, self.shape.is_signed)
        n_tokens = tokens.shape[0]
        n_rows = min(n_tokens, ROWS if tokens.device.type == "cpu" else ROWS_ON_ACCELERATOR)
        buffer = tokens.new_empty(n_rows, self.n_latents)
        offset = self.encoder_offset()
        is_lowered = torch.is_autocast_enabled(tokens.device.type)  # which leaves a product into a buffer alone
        parts = []
        for start in range(0, n_tokens, max(n_rows, 1)):
            rows = tokens[start : start + n_rows]
            pre = torch.addmm(offset, rows, self.W_enc.T, out=None if is_lowered else buffer[: rows.shape[0]])
            parts.append(self.select(pre))
        return join_selected(parts) if parts else no_codes(tokens)

    @torch.no_grad()
    def encode(self, activations: Float[Tensor, "n_tokens d_model"]) -> Codes:
        tokens, scale = self.normalize(activations)
        selected = self.encode_normalized(tokens)
        if self.shape.has_skip:
            scale = scale._replace(skip=tokens @ self.W_skip.T)
        return Codes(selected.indices, selected.values, scale)

    def decode_normalized(self, selected: Selected) -> Float[Tensor, "n_tokens d_out"]:
        written = nn.functional.embedding_bag(
            selected.indices, self.W_dec, per_sample_weights=selected.values, mode="sum"
        )
        return written + self.b_dec

    @torch.no_grad()
    def decode(self, codes: Codes) -> Float[Tensor, "n_tokens d_out"]:
        reconstruction = self.decode_normalized(Selected(codes.indices, codes.values))
        if codes.context is None:
            return reconstruction
        if codes.context.skip is not None:
            reconstruction = reconstruction + codes.context.skip
        return reconstruction * codes.context.deviation + codes.context.mean


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
    """Encoder rows drawn on the unit sphere; decoder rows equal to them where the coder writes where it reads.

    A coder that writes elsewhere starts with decoder rows of zero: at first it writes its bias alone.
    """
    directions = torch.randn(coder.W_enc.shape, generator=generator, device=generator.device)
    coder.W_enc.copy_(unit_rows(directions))
    if coder.shape.is_bias_tied:
        coder.W_dec.copy_(coder.W_enc)
