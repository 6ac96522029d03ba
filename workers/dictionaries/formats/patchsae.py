"""PatchSAE and the code it grew from (Fry; Lim et al.): {"cfg", "state_dict"} with a pickled configuration.

Traps. The configuration is a pickled object; it is read as a record of attributes and never executed. b_dec is taken
from what is read, ReLU selects, and the decoder rows are those of the file. The layer may be counted from the end
(`block_layer` −2), CLS is among the tokens, and CLIP's activations are of the residual stream after the block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.dictionaries.formats.files import Candidate, take
from workers.dictionaries.formats.pickles import Recorded, plain
from workers.dictionaries.formats.weights import Hints, Site, Weights, demand, read_as

NAME, TITLE = "patchsae", "PatchSAE"
LAYERS = ("block_layer", "hook_point_layer", "layer")


def claims(candidate: Candidate) -> bool:
    found = candidate.checkpoint
    if not isinstance(found, Mapping) or not isinstance(found.get("state_dict"), Mapping):
        return False
    config = found.get("cfg")
    is_prisma = isinstance(config, Recorded) and "vit_prisma" in type(config).__module__
    return config is not None and not is_prisma and {"W_enc", "W_dec"} <= set(found["state_dict"])


def read(candidate: Candidate, hints: Hints) -> tuple[Site, ...]:
    found, source = candidate.checkpoint, candidate.name
    config, states = plain(found["cfg"]), found["state_dict"]
    demand(isinstance(config, dict), f"{source}: its configuration cannot be read.")
    weights = Weights(
        encoder=take(states, "W_enc", source).T,
        decoder=take(states, "W_dec", source),
        decoder_bias=take(states, "b_dec", source),
        encoder_bias=take(states, "b_enc", source),
        is_bias_tied=True,
    )
    return (Site(source, place_of(config), "", (read_as(weights, source),)),)


def place_of(config: dict[str, Any]) -> str:
    hook = str(config.get("hook_point") or "")
    if hook.startswith("blocks."):
        return hook
    module = config.get("module_name") or config.get("layer_subtype") or "resid"
    layer = next((config[name] for name in LAYERS if isinstance(config.get(name), int)), None)
    return f"blocks.{layer}.hook_resid_post" if layer is not None and "resid" in str(module) else ""
