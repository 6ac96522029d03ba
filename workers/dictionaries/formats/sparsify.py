"""EleutherAI's sparsify: `cfg.json` and `sae.safetensors`, encoder.weight [F, d], W_dec [F, d] too.

Traps. W_dec lies as the encoder does, not as a linear layer's weight would (SAELens' own loader turns it round). The
decoder's bias is taken from what is read unless the coder is a transcoder; the skip connection reads all of it. The
folder's name is the hookpoint.
"""

from __future__ import annotations

from typing import Any

from workers.dictionaries.formats.files import Candidate, TensorFile, read_json, shown, whole_number
from workers.dictionaries.formats.weights import Hints, Site, Weights, demand, read_as

NAME, TITLE = "sparsify", "sparsify"
CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"


def claims(candidate: Candidate) -> bool:
    return candidate.has(CONFIG, WEIGHTS)


def read(candidate: Candidate, hints: Hints) -> tuple[Site, ...]:
    config = read_json(candidate.path / CONFIG)
    tensors = TensorFile(candidate.path / WEIGHTS)
    demand(
        "W_dec" in tensors,
        f"{candidate.name} holds {shown(tensors.names)}: a cross-layer training's file, which is not read here. "
        "Export it for circuit-tracer and import that.",
    )
    activation = config.get("activation", "topk")
    demand(
        activation == "topk",
        f"{candidate.name}: its activation is '{activation}', which keeps the largest of each group of latents; only "
        "topk can be used here.",
    )
    is_transcoder = bool(config.get("transcode", False))
    weights = Weights(
        encoder=tensors.get("encoder.weight"),
        decoder=tensors.get("W_dec"),
        decoder_bias=tensors.get("b_dec"),
        encoder_bias=tensors.get("encoder.bias"),
        skip=tensors.optional("W_skip"),
        k=whole_number(config.get("k") or hints.k, f"{candidate.name}: k"),
        is_bias_tied=not is_transcoder,
    )
    check_width(config, weights, candidate.name)
    kind = "transcoder" if is_transcoder else "topk_sae"
    return (Site(candidate.name, place_of(candidate), "", (read_as(weights, candidate.name, kind=kind),)),)


def check_width(config: dict[str, Any], weights: Weights, source: str) -> None:
    d_in = config.get("d_in")
    demand(
        d_in is None or d_in == weights.encoder.shape[1],
        f"{source}: cfg.json says that activations have {d_in} dimensions, the weights have "
        f"{weights.encoder.shape[1]}; the files are of two dictionaries.",
    )


def place_of(candidate: Candidate) -> str:
    """The folder's name where it names a place, such as layers.7 or layers.7.mlp."""
    name = candidate.name
    return name if any(part.isdigit() for part in name.split(".")) and "." in name else ""
