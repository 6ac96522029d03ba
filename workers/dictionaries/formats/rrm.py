"""The residual replacement model's released checkpoints: {"epoch", "model_state_dict", "optimizer_state_dict"}.

Traps (research/rrm.md §1). Every token is normalized by its own mean and deviation; b_enc is stored and never used; k
is in no file but in the path, `K128_R2/L10/epoch50.pth`, as is the block. The same class's plain state dict, that of
the BatchTopK repository it was forked from, is read too; k must then be given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from workers.dictionaries.formats.files import Candidate, take, whole_number
from workers.dictionaries.formats.weights import Hints, Site, Weights, demand, read_as

NAME, TITLE = "rrm", "residual replacement model"
KEYS = {"W_enc", "b_enc", "W_dec", "b_dec"}
K_IN_PATH = re.compile(r"^K(\d+)(?:_R[\d.]+)?$")
BLOCK_IN_PATH = re.compile(r"^(?:L|layer_?)(\d+)$")


def claims(candidate: Candidate) -> bool:
    return set(state_of(candidate)) == KEYS


def state_of(candidate: Candidate) -> Mapping[str, Any]:
    found = candidate.checkpoint
    if isinstance(found, Mapping) and isinstance(found.get("model_state_dict"), Mapping):
        state: Mapping[str, Any] = found["model_state_dict"]
        return state
    return candidate.states


def read(candidate: Candidate, hints: Hints) -> tuple[Site, ...]:
    states = state_of(candidate)
    parts = candidate.path.parts
    source = "/".join(parts[-3:])
    k = hints.k or in_path(K_IN_PATH, parts)
    demand(bool(k), f"{source} does not say how many latents may be active per token, nor does its path; give k.")
    weights = Weights(
        encoder=take(states, "W_enc", source).T,
        decoder=take(states, "W_dec", source),
        decoder_bias=take(states, "b_dec", source),
        k=whole_number(k, f"{source}: k"),
        normalization="token",
        is_bias_tied=True,
    )
    block = in_path(BLOCK_IN_PATH, parts)
    return (Site(source, "" if block is None else f"blocks.{block}", "", (read_as(weights, source),)),)


def in_path(pattern: re.Pattern[str], parts: tuple[str, ...]) -> int | None:
    found = [match for part in reversed(parts) if (match := pattern.match(part))]
    return int(found[0][1]) if found else None
