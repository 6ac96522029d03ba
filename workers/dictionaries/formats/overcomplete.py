"""overcomplete (Fel et al.): a state dict, or a whole model, as torch.save writes them.

Traps. D = l2norm(_weights) · exp(multiplier): the stored rows are not normalized after the last optimizer step. A
relaxed archetypal dictionary is D = (W C + Λ) · exp(multiplier), W made row-stochastic and ‖Λ‖ ≤ δ. Nothing is taken
from what is read and nothing is added to what is written. JumpSAE stores logarithms of its thresholds. k is not in a
state dict, nor is BatchTopK's threshold. A batch norm after the linear layer is folded into it; a layer norm cannot be.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from workers.dictionaries.formats.files import Candidate, shown, take, take_optional, whole_number
from workers.dictionaries.formats.pickles import Recorded
from workers.dictionaries.formats.weights import FormatError, Hints, Site, Weights, demand, read_as

NAME, TITLE = "overcomplete", "overcomplete"
DICTIONARIES = ("dictionary._weights", "dictionary.W")
BATCH_NORM_EPSILON = 1e-5
SMALL = 1e-8  # what the library adds to norms and row sums
DELTA = 1.0  # the library's default bound of the relaxation


def claims(candidate: Candidate) -> bool:
    states = states_of(candidate)[0]
    return any(name in states for name in DICTIONARIES)


def states_of(candidate: Candidate) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors by name, and the attributes of a whole model ({} for a state dict)."""
    found = candidate.checkpoint
    if isinstance(found, Recorded) and type(found).__module__.startswith("overcomplete."):
        return flattened(found), dict(found.recorded)
    if isinstance(found, dict) and isinstance(found.get("model_state_dict"), dict):
        return {str(key): value for key, value in found["model_state_dict"].items()}, {}
    return candidate.states, {}


def flattened(module: Any, prefix: str = "") -> dict[str, Tensor]:
    """The state dict of a recorded torch module."""
    if not isinstance(module, Recorded):
        return {}
    tensors: dict[str, Tensor] = {}
    for group in ("_parameters", "_buffers"):
        for name, value in (module.recorded.get(group) or {}).items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}{name}"] = value
    for name, child in (module.recorded.get("_modules") or {}).items():
        tensors |= flattened(child, f"{prefix}{name}.")
    return tensors


def read(candidate: Candidate, hints: Hints) -> tuple[Site, ...]:
    states, attributes = states_of(candidate)
    source = candidate.name
    decoder = read_dictionary(states, attributes, source)
    encoder, bias = read_encoder(states, decoder, source)
    weights = Weights(
        encoder=encoder, decoder=decoder, decoder_bias=decoder.new_zeros(decoder.shape[1]), encoder_bias=bias
    )
    weights, kind = selected(weights, states, attributes, source, hints)
    return (Site(source, "", "", (read_as(weights, source, kind=kind),)),)


def selected(
    weights: Weights, states: dict[str, Tensor], attributes: dict[str, Any], source: str, hints: Hints
) -> tuple[Weights, str]:
    if "thresholds" in states:
        return replace(weights, threshold=reached(take(states, "thresholds", source).exp())), "jumprelu_sae"
    running = attributes.get("running_threshold")
    if isinstance(running, Tensor):
        threshold = reached(running.float().clamp_min(0).expand(weights.encoder.shape[0]).clone())
        return replace(weights, threshold=threshold), "batch_topk_sae"
    k = attributes.get("top_k") or hints.k
    demand(bool(k), f"{source} does not say how many latents may be active per token; give k.")
    return replace(weights, k=whole_number(k, f"{source}: k")), "topk_sae"


def reached(threshold: Tensor) -> Tensor:
    """Here a latent fires above its threshold, there at it; the number just below makes them one."""
    return torch.nextafter(threshold, torch.tensor(-torch.inf))


def read_dictionary(states: dict[str, Tensor], attributes: dict[str, Any], source: str) -> Tensor:
    multiplier = take_optional(states, "dictionary.multiplier", source)
    factor = 1.0 if multiplier is None else float(multiplier.exp())
    if "dictionary._weights" in states:
        rows = take(states, "dictionary._weights", source)
        return normalized(rows, normalization_of(attributes), source) * factor
    mixture = take(states, "dictionary.W", source).relu()
    mixture = mixture / (mixture.sum(dim=1, keepdim=True) + SMALL)
    relaxation = take(states, "dictionary.Relax", source)
    delta = attribute_of(attributes, "dictionary", "delta", DELTA)
    norms = relaxation.norm(dim=1, keepdim=True)
    relaxation = relaxation * torch.where(norms > 0, (delta / norms).clamp(max=1), 1.0)
    return (mixture @ take(states, "dictionary.C", source) + relaxation) * factor


def normalization_of(attributes: dict[str, Any]) -> str:
    """A whole model holds its normalization as a function's name; the library's default is l2."""
    found = attribute_of(attributes, "dictionary", "normalization", None)
    return getattr(found, "__name__", "normalize_l2")


def attribute_of(attributes: dict[str, Any], module: str, name: str, default: Any) -> Any:
    child = (attributes.get("_modules") or {}).get(module)
    return child.recorded.get(name, default) if isinstance(child, Recorded) else default


def normalized(rows: Tensor, normalization: str, source: str) -> Tensor:
    if normalization == "normalize_identity":
        return rows
    order = 1 if normalization.endswith("l1") else 2
    norms: Tensor = torch.linalg.vector_norm(rows, ord=order, dim=1, keepdim=True)
    if normalization in ("normalize_l2", "normalize_l1"):
        return rows / (norms + SMALL)
    if normalization in ("normalize_max_l2", "normalize_max_l1"):
        return rows / norms.amax()
    raise FormatError(f"{source}: its dictionary is normalized by '{normalization}', which is not known here.")


def read_encoder(states: dict[str, Tensor], decoder: Tensor, source: str) -> tuple[Tensor, Tensor | None]:
    """The encoder as one matrix and a bias: a linear layer, a batch norm folded into it, or the dictionary itself."""
    named = {name: value for name, value in states.items() if name.startswith("encoder.")}
    demand(
        not any(name.startswith("encoder.mlp_blocks") for name in named),
        f"{source}: its encoder has several layers, so it is no sparse coder of one matrix.",
    )
    if not any(name.endswith("weight") for name in named):  # tied: the dictionary reads, too
        return decoder, take_optional(states, "encoder.bias", source)
    if "encoder.weight" in named:
        return take(states, "encoder.weight", source), take_optional(states, "encoder.bias", source)
    demand(
        "encoder.final_block.0.weight" in named,
        f"{source}: its encoder has the tensors {shown(named)}; only a linear encoder can be used here.",
    )
    weight = take(states, "encoder.final_block.0.weight", source)
    bias = take_optional(states, "encoder.final_block.0.bias", source)
    if "encoder.final_block.1.weight" not in named:
        return weight, bias
    return fold_batch_norm(states, weight, weight.new_zeros(weight.shape[0]) if bias is None else bias, source)


def fold_batch_norm(states: dict[str, Tensor], weight: Tensor, bias: Tensor, source: str) -> tuple[Tensor, Tensor]:
    prefix = "encoder.final_block.1."
    demand(
        f"{prefix}running_mean" in states,
        f"{source}: a layer norm follows its linear encoder, which no single matrix can stand for.",
    )
    deviation = (take(states, f"{prefix}running_var", source) + BATCH_NORM_EPSILON).sqrt()
    factor = take(states, f"{prefix}weight", source) / deviation
    shift = take(states, f"{prefix}bias", source)
    return weight * factor[:, None], (bias - take(states, f"{prefix}running_mean", source)) * factor + shift
