"""saev (Stevens et al.): one file, its first line a JSON header, the rest what torch.save wrote of the state dict.

Traps. Headers come without a schema and with schemas 1 to 5; schema 1 has two layouts. Code up to the middle of 2025
took b_dec from what is read, later code does not, and the file does not tell: both are tried on activations, and the
one that explains more is kept. BatchTopK of old schemas is TopK per token; newer ones keep a threshold. TopK there
keeps negative values where fewer than k are positive; here those are zero.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workers.dictionaries.formats.files import Candidate, take, whole_number
from workers.dictionaries.formats.pickles import PickleRefusedError, read_torch_file
from workers.dictionaries.formats.weights import FormatError, Hints, Site, Weights, demand, read_as

NAME, TITLE = "saev", "saev"
HEADER_BYTES = 1 << 20
SUBTRACTED, KEPT = "b_dec taken from what is read", "b_dec not taken from what is read"
SCHEMAS = (1, 2, 3, 4, 5)
RELU, TOPK, BATCH_TOPK = "Relu", "TopK", "BatchTopK"


def claims(candidate: Candidate) -> bool:
    path = path_of(candidate)
    return path is not None and read_header(path) is not None


def path_of(candidate: Candidate) -> Path | None:
    if not candidate.is_folder:
        return candidate.path
    return candidate.path / "sae.pt" if candidate.has("sae.pt") else None


def read_header(path: Path) -> tuple[dict[str, Any], int] | None:
    """The header and where the rest begins; None where the file has no such header."""
    with path.open("rb") as file:
        if file.read(1) != b"{":
            return None
        file.seek(0)
        line = file.readline(HEADER_BYTES)
        start = file.tell()
        rest = file.read(4)
    if not line.endswith(b"\n") or rest != b"PK\x03\x04":
        return None
    try:
        header = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None
    return (header, start) if isinstance(header, dict) else None


def read(candidate: Candidate, hints: Hints) -> tuple[Site, ...]:
    path = path_of(candidate)
    found = read_header(path) if path is not None else None
    if path is None or found is None:
        raise FormatError(f"{candidate.name} does not begin with a line of JSON, as files of saev do.")
    header, start = found
    schema = header.get("schema")
    demand(
        schema is None or schema in SCHEMAS,
        f"{path.name} is of saev's schema {schema}, which is not known here; schemas up to {SCHEMAS[-1]} are.",
    )
    try:
        states = read_torch_file(path.read_bytes()[start:])
    except PickleRefusedError as error:
        raise FormatError(f"{path.name} is refused: {error}") from error
    demand(isinstance(states, Mapping), f"{path.name} holds no state dict after its header.")
    config = header if schema is None else header.get("cfg", {})
    demand(isinstance(config, dict), f"{path.name}: the configuration in its header must be an object.")
    weights, kind = read_weights(states, activation_of(header, config), path.name, hints)
    tied = read_as(replace(weights, is_bias_tied=True), path.name, kind=kind, label=SUBTRACTED)
    untied = read_as(weights, path.name, kind=kind, label=KEPT)
    readings = (untied, tied) if bool(weights.decoder_bias.any()) else (untied._replace(label=""),)
    return (Site(path.name, "", "", readings),)


def activation_of(header: dict[str, Any], config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The activation's class and its settings, in the layout of this header."""
    legacy = header.get("cls")
    if header.get("schema") == 1 and legacy in (RELU, TOPK, BATCH_TOPK):
        return str(legacy), config
    activation = config.get("activation")
    if not isinstance(activation, dict):
        return RELU, {}
    params = activation.get("params", {})
    return str(activation.get("cls", RELU)), params if isinstance(params, dict) else {}


def read_weights(
    states: Mapping[str, Any], activation: tuple[str, dict[str, Any]], source: str, hints: Hints
) -> tuple[Weights, str]:
    name, params = activation
    weights = Weights(
        encoder=take(states, "W_enc", source).T,
        decoder=take(states, "W_dec", source),
        decoder_bias=take(states, "b_dec", source),
        encoder_bias=take(states, "b_enc", source),
    )
    if name == RELU:
        return weights, "relu_sae"
    demand(name in (TOPK, BATCH_TOPK), f"{source}: the activation '{name}' is not known here.")
    if name == BATCH_TOPK and "activation.threshold" in states:
        threshold = take(states, "activation.threshold", source).clamp_min(0)
        return replace(weights, threshold=spread(threshold, weights.encoder)), "batch_topk_sae"
    k = min(whole_number(params.get("top_k") or hints.k, f"{source}: k"), weights.encoder.shape[0])
    return replace(weights, k=k), "topk_sae"


def spread(threshold: Tensor, encoder: Tensor) -> Tensor:
    return torch.full((encoder.shape[0],), float(threshold))
