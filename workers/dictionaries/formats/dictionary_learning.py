"""dictionary_learning (Marks, Karvonen, Mueller): `ae.pt`, a state dict, and `config.json` with the trainer's settings.

Traps. `decoder.weight` is a linear layer's, [d, F]. The standard autoencoder calls its decoder bias `bias` and, when it
is loaded, rescales every latent by its decoder norm. TopK and BatchTopK have the same tensors: only config.json tells
them apart, so without it both are tried on activations. The JumpReLU and Matryoshka classes store W_enc [d, F].
sae-for-vlm writes the same files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from workers.dictionaries.formats.files import Candidate, read_json, take, take_optional, whole_number
from workers.dictionaries.formats.weights import (
    Hints,
    Reading,
    Site,
    Weights,
    demand,
    read_as,
    row_norms,
    scale_latents,
    threshold_of_gate,
)

NAME, TITLE = "dictionary_learning", "dictionary_learning"
FILE, CONFIG = "ae.pt", "config.json"
TOPK_CLASSES = ("AutoEncoderTopK", "TopKTrainer")


def claims(candidate: Candidate) -> bool:
    if candidate.is_folder and FILE not in candidate.names:
        return False
    states = candidate.states
    is_linear = {"encoder.weight", "decoder.weight"} <= set(states) and "pre_bias" not in states
    return is_linear or {"W_enc", "W_dec", "k", "group_sizes"} <= set(states) or is_jumprelu(candidate, states)


def is_jumprelu(candidate: Candidate, states: dict[str, Tensor]) -> bool:
    """Its JumpReLU has the keys that others have too; the file's name and the thresholds tell."""
    has_keys = {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"} == set(states)
    return has_keys and states["threshold"].ndim == 1 and candidate.checkpoint_path is not None


def read(candidate: Candidate, hints: Hints) -> tuple[Site, ...]:
    states, trainer = candidate.states, trainer_config(candidate)
    source = candidate.name
    readings: tuple[Reading, ...]
    if "W_enc" in states:
        readings = (read_square(states, source),)
    elif "r_mag" in states:
        readings = (read_gated(states, source),)
    elif "b_dec" in states:
        readings = read_topk(states, trainer, source, hints)
    else:
        readings = (read_relu(states, source),)
    layer = trainer.get("layer")
    place = str(trainer.get("submodule_name") or "")
    reads = place if "." in place else (f"layers.{layer}" if isinstance(layer, int) else "")
    return (Site(source, reads, "", readings),)


def trainer_config(candidate: Candidate) -> dict[str, Any]:
    path = (candidate.path if candidate.is_folder else candidate.path.parent) / CONFIG
    if not path.is_file():
        return {}
    trainer = read_json(path).get("trainer", {})
    demand(isinstance(trainer, dict), f"{path.name}: the trainer must be an object.")
    return dict(trainer)


def read_relu(states: dict[str, Tensor], source: str) -> Reading:
    is_new = "decoder.bias" in states
    weights = Weights(
        encoder=take(states, "encoder.weight", source),
        decoder=take(states, "decoder.weight", source).T,
        decoder_bias=take(states, "decoder.bias" if is_new else "bias", source),
        encoder_bias=take(states, "encoder.bias", source),
        is_bias_tied=not is_new,
    )
    return read_as(weights if is_new else scale_latents(weights, row_norms(weights.decoder)), source)


def read_gated(states: dict[str, Tensor], source: str) -> Reading:
    encoder, bias, threshold = threshold_of_gate(
        take(states, "encoder.weight", source),
        take(states, "gate_bias", source),
        take(states, "r_mag", source),
        take(states, "mag_bias", source),
    )
    weights = Weights(
        encoder=encoder,
        decoder=take(states, "decoder.weight", source).T,
        decoder_bias=take(states, "decoder_bias", source),
        encoder_bias=bias,
        threshold=threshold,
        is_bias_tied=True,
    )
    return read_as(weights, source, kind="jumprelu_sae")


def read_topk(states: dict[str, Tensor], trainer: dict[str, Any], source: str, hints: Hints) -> tuple[Reading, ...]:
    weights = Weights(
        encoder=take(states, "encoder.weight", source),
        decoder=take(states, "decoder.weight", source).T,
        decoder_bias=take(states, "b_dec", source),
        encoder_bias=take_optional(states, "encoder.bias", source),
        is_bias_tied=True,
    )
    k = whole_number(states.get("k", hints.k), f"{source}: k")
    topk = read_as(replace(weights, k=k), source, label="the k largest of each token")
    if "threshold" not in states:
        return (topk._replace(label=""),)
    threshold = spread(take(states, "threshold", source), weights.encoder.shape[0])
    batch = read_as(
        replace(weights, threshold=threshold), source, kind="batch_topk_sae", label="one threshold (BatchTopK)"
    )
    class_name = str(trainer.get("dict_class") or trainer.get("trainer_class") or "")
    if class_name:
        return (topk._replace(label="") if class_name in TOPK_CLASSES else batch._replace(label=""),)
    return (topk, batch)


def read_square(states: dict[str, Tensor], source: str) -> Reading:
    """JumpReLU, whose input keeps the decoder's bias, and Matryoshka BatchTopK, whose input does not."""
    is_batch = "k" in states
    weights = Weights(
        encoder=take(states, "W_enc", source).T,
        decoder=take(states, "W_dec", source),
        decoder_bias=take(states, "b_dec", source),
        encoder_bias=take(states, "b_enc", source),
        is_bias_tied=is_batch,
    )
    threshold = spread(take(states, "threshold", source), weights.encoder.shape[0])
    return read_as(replace(weights, threshold=threshold), source, kind="batch_topk_sae" if is_batch else "jumprelu_sae")


def spread(threshold: Tensor, n_latents: int) -> Tensor:
    """A threshold for every latent; below 0 it was never set, and ReLU is what remains."""
    return threshold.clamp_min(0).expand(n_latents).clone() if threshold.numel() == 1 else threshold
