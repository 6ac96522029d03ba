"""SAELens: `cfg.json` and `sae_weights.safetensors`, W_enc [d, F], W_dec [F, d].

Traps. A checkpoint is not what inference loads: with `rescale_acts_by_decoder_norm` its latents are |W_dec| times as
large as its pre-activations, BatchTopK keeps its threshold as `topk_threshold` (already in rescaled units), JumpReLU
as `log_threshold`, and activations were multiplied by the factor in `activation_scaler.json`. All of that is folded
here. Versions before 6 say `activation_fn_str`, `hook_point`, and a number of latents' `finetuning_scaling_factor`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from workers.dictionaries.formats.files import Candidate, TensorFile, read_json, whole_number
from workers.dictionaries.formats.weights import (
    FormatError,
    Hints,
    Site,
    Weights,
    demand,
    read_as,
    row_norms,
    scale_inputs,
    scale_latents,
    threshold_of_gate,
)

NAME, TITLE = "saelens", "SAELens"
CONFIG, WEIGHTS, SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"
NORMALIZATIONS = {"none": "none", "layer_norm": "token", "constant_norm_rescale": "norm"}
TOPK = {"topk": "topk", "abstopk": "abs_topk"}
BATCH_TOPK = ("batchtopk", "matryoshka_batchtopk")
THRESHOLD = ("jumprelu", "jumprelu_transcoder", "jumprelu_skip_transcoder")
RELU = ("standard", "transcoder", "skip_transcoder")
KNOWN = (*TOPK, *BATCH_TOPK, *THRESHOLD, *RELU, "gated")


def claims(candidate: Candidate) -> bool:
    return candidate.has(CONFIG, WEIGHTS)


def read(candidate: Candidate, hints: Hints) -> tuple[Site, ...]:
    config = settled_config(read_json(candidate.path / CONFIG))
    tensors = TensorFile(candidate.path / WEIGHTS)
    architecture = config["architecture"]
    demand(
        architecture in KNOWN,
        f"{candidate.name}: SAELens's architecture '{architecture}' is no coder that can be used here; "
        f"it can be {', '.join(KNOWN)}.",
    )
    is_transcoder = "transcoder" in architecture
    weights = read_weights(tensors, config, is_transcoder=is_transcoder)
    weights = selected(weights, tensors, config, candidate.name, hints)
    weights = normalized(weights, config, candidate, is_transcoder=is_transcoder)
    kind = "transcoder" if is_transcoder else ("batch_topk_sae" if architecture in BATCH_TOPK else "")
    metadata = config["metadata"]
    reads = str(metadata.get("hook_name") or "")
    writes = str(metadata.get("hook_name_out") or "")
    return (Site(candidate.name, reads, writes, (read_as(weights, candidate.name, kind=kind),)),)


def settled_config(found: dict[str, Any]) -> dict[str, Any]:
    """The configuration in the words of version 6, whatever version wrote it."""
    config = dict(found)
    config.setdefault("metadata", {})
    demand(isinstance(config["metadata"], dict), "cfg.json: the metadata must be an object.")
    metadata = {**config, **config["metadata"]}
    config["metadata"] = metadata | {"hook_name": metadata.get("hook_name") or metadata.get("hook_point")}
    config.setdefault("architecture", "standard")
    activation = config.get("activation_fn") or config.get("activation_fn_str") or "relu"
    demand(
        activation in ("relu", "topk"), f"cfg.json: the activation '{activation}' is not known here; relu and topk are."
    )
    if activation == "topk" and config["architecture"] == "standard":
        config["architecture"] = "topk"
        config["k"] = (config.get("activation_fn_kwargs") or {}).get("k", config.get("k"))
    norm = config.get("normalize_activations") or "none"
    config["normalize_activations"] = "expected_average_only_in" if norm is True else norm
    config.setdefault("apply_b_dec_to_input", True)
    return config


def read_weights(tensors: TensorFile, config: dict[str, Any], *, is_transcoder: bool) -> Weights:
    encoder = tensors.get("W_enc").T
    weights = Weights(
        encoder=encoder,
        decoder=tensors.get("W_dec"),
        decoder_bias=tensors.get("b_dec"),
        encoder_bias=tensors.optional("b_enc"),
        skip=tensors.optional("W_skip"),
        is_bias_tied=bool(config["apply_b_dec_to_input"]) and not is_transcoder,
    )
    if config["architecture"] == "gated":
        scaled, bias, threshold = threshold_of_gate(
            encoder, tensors.get("b_gate"), tensors.get("r_mag"), tensors.get("b_mag")
        )
        weights = replace(weights, encoder=scaled, encoder_bias=bias, threshold=threshold)
    factor = tensors.optional("finetuning_scaling_factor")
    if factor is not None and config.get("finetuning_scaling_factor"):
        weights = replace(weights, decoder=weights.decoder * factor[:, None])
    return weights


def selected(weights: Weights, tensors: TensorFile, config: dict[str, Any], source: str, hints: Hints) -> Weights:
    """The weights with what selects their latents; latents of a checkpoint rescaled as the library's are."""
    architecture = config["architecture"]
    if config.get("rescale_acts_by_decoder_norm") and architecture in (*TOPK, *BATCH_TOPK):
        weights = scale_latents(weights, row_norms(weights.decoder))
    if architecture in TOPK:
        k = whole_number(config.get("k") or hints.k, f"{source}: k")
        return replace(weights, k=k, selection=TOPK[architecture])
    if architecture in BATCH_TOPK:
        return replace(weights, threshold=batch_threshold(tensors, weights.encoder.shape[0]))
    if architecture in THRESHOLD:
        is_log = "log_threshold" in tensors
        return replace(weights, threshold=tensors.get("log_threshold").exp() if is_log else tensors.get("threshold"))
    return weights


def batch_threshold(tensors: TensorFile, n_latents: int) -> Tensor:
    return torch.full((n_latents,), float(tensors.get("topk_threshold")))


def normalized(weights: Weights, config: dict[str, Any], candidate: Candidate, *, is_transcoder: bool) -> Weights:
    norm = config["normalize_activations"]
    if norm == "expected_average_only_in":
        return scale_inputs(weights, scaling_factor(candidate), written=1.0 if is_transcoder else None)
    demand(
        norm in NORMALIZATIONS,
        f"{candidate.name}: its activations are normalized by '{norm}', which only the training run knows; save the "
        "trained SAE with save_inference_model, which folds it into the weights.",
    )
    demand(
        norm == "none" or not is_transcoder,
        f"{candidate.name}: a transcoder whose input is normalized by '{norm}' cannot be used here.",
    )
    return replace(weights, normalization=NORMALIZATIONS[norm])


def scaling_factor(candidate: Candidate) -> float:
    """A checkpoint's factor of activations, in a file beside the weights."""
    if not candidate.has(SCALER):
        raise FormatError(
            f"{candidate.name} is a checkpoint whose activations were multiplied by a factor that it does not hold: "
            f"put {SCALER} beside it, or save the trained SAE with save_inference_model."
        )
    factor = read_json(candidate.path / SCALER).get("scaling_factor")
    demand(
        isinstance(factor, int | float) and not isinstance(factor, bool),
        f"{SCALER} has no scaling_factor; the activations' factor is not known.",
    )
    assert isinstance(factor, int | float)
    return float(factor)
