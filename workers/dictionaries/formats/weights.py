"""What every reader ends with: the weights of one coder in one orientation, with scales folded into them.

    pre = (x − b_dec) W_encᵀ + b_enc        b_dec taken from what is read only where the library does so
    z   = topk(relu(pre)), or pre where it exceeds its threshold (0 for a plain ReLU)
    x̂   = z W_dec + b_dec + x W_skipᵀ

Row f of ``encoder`` and ``decoder`` belongs to latent f, whatever the file's orientation was. Folding keeps latents
and reconstruction; each fold is a line of algebra in its function.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from workers.dictionaries.sparse_coder import CoderShape, SparseCoder


class FormatError(ValueError):
    """A file is not what its format says, or cannot be used here; the message is fit for the user."""

    needs_another_run = True  # a run imports the very bytes that it was asked to


def demand(condition: bool, message: str) -> None:
    if not condition:
        raise FormatError(message)


@dataclass(frozen=True)
class Weights:
    """One coder's weights; ``k`` is 0 where thresholds select."""

    encoder: Float[Tensor, "n_latents d_model"]
    decoder: Float[Tensor, "n_latents d_out"]
    decoder_bias: Float[Tensor, " d_out"]
    encoder_bias: Float[Tensor, " n_latents"] | None = None
    threshold: Float[Tensor, " n_latents"] | None = None
    skip: Float[Tensor, "d_out d_model"] | None = None
    k: int = 0
    selection: str = "topk"  # what k selects
    normalization: str = "none"
    is_bias_tied: bool = False  # the decoder's bias is taken from what is read

    @property
    def bias(self) -> Float[Tensor, " n_latents"]:
        return self.encoder.new_zeros(self.encoder.shape[0]) if self.encoder_bias is None else self.encoder_bias


class Reading(NamedTuple):
    """One way of understanding a file; most files have a single one, whose label is ''."""

    label: str
    kind: str
    coder: SparseCoder


class Site(NamedTuple):
    """One coder of an import, and where its file says that it reads and writes ('' where it does not say)."""

    source: str
    reads: str
    writes: str
    readings: tuple[Reading, ...]


class Hints(NamedTuple):
    """What the importing person knows and the file may not say."""

    k: int = 0


def scale_latents(weights: Weights, scale: Float[Tensor, " n_latents"]) -> Weights:
    """Latents ``scale`` times as large: s·relu(p) = relu(s·p) for s > 0, and z W_dec = (s z)(W_dec / s)."""
    assert bool((scale > 0).all())
    return replace(
        weights,
        encoder=weights.encoder * scale[:, None],
        decoder=weights.decoder / scale[:, None],
        encoder_bias=None if weights.encoder_bias is None else weights.encoder_bias * scale,
        threshold=None if weights.threshold is None else weights.threshold * scale,
    )


def scale_inputs(weights: Weights, read: float, written: float | None = None) -> Weights:
    """For weights that want ``read``·x and give ``written``·x̂: latents the same, from x itself and to x̂ itself."""
    out = read if written is None else written
    demand(read > 0 and out > 0, f"The factor of activations is {min(read, out)}; it must be above 0.")
    untied = untie(weights) if out != read else weights
    return replace(
        untied,
        encoder=untied.encoder * read,
        decoder=untied.decoder / out,
        decoder_bias=untied.decoder_bias / out,
        skip=None if untied.skip is None else untied.skip * (read / out),
    )


def untie(weights: Weights) -> Weights:
    """(x − b) W + c = x W + (c − b W): the bias that is taken from what is read goes into the encoder's."""
    if not weights.is_bias_tied:
        return weights
    bias = weights.bias - weights.encoder @ weights.decoder_bias
    return replace(weights, encoder_bias=bias, is_bias_tied=False)


def threshold_of_gate(
    encoder: Float[Tensor, "n_latents d_model"],
    gate_bias: Float[Tensor, " n_latents"],
    log_scale: Float[Tensor, " n_latents"],
    magnitude_bias: Float[Tensor, " n_latents"],
) -> tuple[Tensor, Tensor, Tensor]:
    """A gated coder as encoder, bias and threshold.

    With u = W x, the gate is open where u + b_gate > 0 and the magnitude is p = e^r u + b_mag. As e^r > 0 that is
    p > b_mag − e^r b_gate: exactly a threshold.
    """
    scale = log_scale.exp()
    return encoder * scale[:, None], magnitude_bias, magnitude_bias - scale * gate_bias


def make_coder(weights: Weights, source: str) -> SparseCoder:
    """The coder of these weights; raises FormatError where shapes do not fit or a value is not finite."""
    check_weights(weights, source)
    n_latents, d_model = weights.encoder.shape
    is_threshold = weights.k == 0
    shape = CoderShape(
        d_model=d_model,
        n_latents=n_latents,
        k=n_latents if is_threshold else weights.k,
        d_out=0 if weights.decoder.shape[1] == d_model else weights.decoder.shape[1],
        selection="threshold" if is_threshold else weights.selection,
        normalization=weights.normalization,
        is_bias_tied=weights.is_bias_tied,
        has_encoder_bias=weights.encoder_bias is not None,
        has_skip=weights.skip is not None,
    )
    coder = SparseCoder(shape)
    values = {
        "W_enc": weights.encoder,
        "W_dec": weights.decoder,
        "b_dec": weights.decoder_bias,
        "b_enc": weights.bias,
    }
    if is_threshold:
        values["threshold"] = weights.threshold if weights.threshold is not None else torch.zeros(n_latents)
    if weights.skip is not None:
        values["W_skip"] = weights.skip
    coder.load_state_dict({name: value.detach().float().contiguous() for name, value in values.items()})
    return coder.requires_grad_(False)


def check_weights(weights: Weights, source: str) -> None:
    encoder, decoder = weights.encoder, weights.decoder
    demand(encoder.ndim == 2 and decoder.ndim == 2, f"{source}: encoder and decoder must be matrices.")
    n_latents, d_model = encoder.shape
    demand(
        decoder.shape[0] == n_latents,
        f"{source}: the encoder has {n_latents} latents and the decoder {decoder.shape[0]}; one of them lies the "
        "other way round, or the files are of two dictionaries.",
    )
    wanted = {
        "encoder's bias": (weights.encoder_bias, (n_latents,)),
        "decoder's bias": (weights.decoder_bias, (decoder.shape[1],)),
        "thresholds": (weights.threshold, (n_latents,)),
        "skip connection": (weights.skip, (decoder.shape[1], d_model)),
    }
    for name, (tensor, shape) in wanted.items():
        found = shape if tensor is None else tuple(tensor.shape)
        demand(found == shape, f"{source}: the {name} has the shape {list(found)}, not {list(shape)}.")
    demand(0 <= weights.k <= n_latents, f"{source}: k is {weights.k}, more than the {n_latents} latents of the file.")
    tensors = (encoder, decoder, *(tensor for tensor, _ in wanted.values() if tensor is not None))
    for tensor in tensors:
        demand(bool(torch.isfinite(tensor).all()), f"{source}: the weights hold NaN or infinity; the file is damaged.")


def kind_of(weights: Weights, *, is_transcoder: bool = False, is_batch_topk: bool = False) -> str:
    """The kind of dictionary these weights belong to (design.md §6)."""
    if is_transcoder:
        return "transcoder"
    if weights.k:
        return "topk_sae"
    if is_batch_topk:
        return "batch_topk_sae"
    has_threshold = weights.threshold is not None and bool((weights.threshold > 0).any())
    return "jumprelu_sae" if has_threshold else "relu_sae"


def row_norms(decoder: Float[Tensor, "n_latents d_out"]) -> Float[Tensor, " n_latents"]:
    """The norm of each decoder row; 1 for a row of zeros, whose latent writes nothing at any scale."""
    norms = decoder.norm(dim=1)
    return torch.where(norms > 0, norms, 1.0)


def read_as(weights: Weights, source: str, *, kind: str = "", label: str = "") -> Reading:
    return Reading(label, kind or kind_of(weights), make_coder(weights, source))
