"""ViT-Prisma: {"cfg", "state_dict"} with a pickled configuration, or weights and `config.json` as on Hugging Face.

Traps. The configuration is a pickled object; it is read as a record of attributes and never executed. Activations are
normalized per token by default (`normalize_activations`: layer_norm), then b_dec is taken from them. A transcoder has
an output bias of its own, `b_dec_out`, and its skip connection reads tokens that are not normalized.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from workers.dictionaries.formats.files import Candidate, read_json, take, take_optional, whole_number
from workers.dictionaries.formats.pickles import Recorded, plain
from workers.dictionaries.formats.weights import (
    Hints,
    Site,
    Weights,
    demand,
    read_as,
    threshold_of_gate,
    untie,
)

NAME, TITLE = "vit-prisma", "ViT-Prisma"
CONFIG = "config.json"
NORMALIZATIONS = {"layer_norm": "token", "none": "none", "constant_norm_rescale": "norm"}


def claims(candidate: Candidate) -> bool:
    found = candidate.checkpoint
    if isinstance(found, Mapping) and isinstance(found.get("cfg"), Recorded):
        return type(found["cfg"]).__module__.startswith(("vit_prisma", "src.vit_prisma"))
    has_weights = {"W_enc", "W_dec", "b_dec"} <= set(state_of(candidate))
    return candidate.has(CONFIG) and has_weights and "hook_point_layer" in read_json(candidate.path / CONFIG)


def state_of(candidate: Candidate) -> Mapping[str, Any]:
    found = candidate.checkpoint
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        state: Mapping[str, Any] = found["state_dict"]
        return state
    return candidate.states


def read_config(candidate: Candidate) -> dict[str, Any]:
    found = candidate.checkpoint
    if isinstance(found, Mapping) and found.get("cfg") is not None:
        config = plain(found["cfg"])
        demand(isinstance(config, dict), f"{candidate.name}: its configuration cannot be read.")
        return dict(config)
    return read_json(candidate.path / CONFIG)


def read(candidate: Candidate, hints: Hints) -> tuple[Site, ...]:
    config, states, source = read_config(candidate), state_of(candidate), candidate.name
    norm = config.get("normalize_activations") or "layer_norm"
    demand(norm in NORMALIZATIONS, f"{source}: its activations are normalized by '{norm}', which is not known here.")
    is_transcoder = bool(config.get("is_transcoder")) or "b_dec_out" in states
    weights = Weights(
        encoder=take(states, "W_enc", source).T,
        decoder=take(states, "W_dec", source),
        decoder_bias=take(states, "b_dec", source),
        encoder_bias=take_optional(states, "b_enc", source),
        normalization=NORMALIZATIONS[norm],
        is_bias_tied=True,
    )
    weights = selected(weights, states, config, source, hints)
    if is_transcoder:
        weights = as_transcoder(weights, states, source)
    layer, out_layer = config.get("hook_point_layer"), config.get("out_hook_point_layer")
    reads = place(layer, config.get("layer_subtype") or "hook_resid_post") or str(config.get("hook_point") or "")
    writes = place(out_layer, config.get("layer_out_subtype") or "hook_mlp_out") if is_transcoder else ""
    kind = "transcoder" if is_transcoder else ("jumprelu_sae" if "r_mag" in states else "")
    return (Site(source, reads, writes, (read_as(weights, source, kind=kind),)),)


def place(layer: Any, subtype: str) -> str:
    number = layer[0] if isinstance(layer, list) and len(layer) == 1 else layer
    return f"blocks.{number}.{subtype}" if isinstance(number, int) else ""


def selected(weights: Weights, states: Mapping[str, Any], config: dict[str, Any], source: str, hints: Hints) -> Weights:
    if "r_mag" in states:
        gate, scale, magnitude = (take(states, name, source) for name in ("b_gate", "r_mag", "b_mag"))
        encoder, bias, threshold = threshold_of_gate(weights.encoder, gate, scale, magnitude)
        return replace(weights, encoder=encoder, encoder_bias=bias, threshold=threshold)
    activation = config.get("activation_fn_str") or "relu"
    demand(activation in ("relu", "topk"), f"{source}: the activation '{activation}' is not known here.")
    if activation == "topk":
        k = (config.get("activation_fn_kwargs") or {}).get("k") or hints.k
        return replace(weights, k=whole_number(k, f"{source}: k"))
    return weights


def as_transcoder(weights: Weights, states: Mapping[str, Any], source: str) -> Weights:
    skip = take_optional(states, "W_skip", source)
    demand(
        skip is None or weights.normalization == "none",
        f"{source}: its skip connection reads tokens that are not normalized while its encoder's are; such a "
        "transcoder cannot be used here.",
    )
    return replace(untie(weights), decoder_bias=take(states, "b_dec_out", source), skip=skip)
