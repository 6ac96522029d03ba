"""Stage make-control: a control dictionary at the hookpoints and densities of the dictionary it controls."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.activations import ActivationStream, activation_batches
from workers.dictionaries.controls import UNCALIBRATED, make_control
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder
from workers.dictionaries.store import CoderDictionary, write_coders
from workers.stages.configs import MakeControlConfig, config_to_dict, parent_digests
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.inputs import open_dictionary, open_images, open_model

LARGEST_PRODUCT = (
    2**28
)  # tokens times latents; fewer tokens calibrate a wide dictionary, and the artefact says how many
TOKENS_AT_ONCE = 4096
HELD_BYTES = 256 << 20  # calibration tokens that are in memory at once
FLOAT_BYTES = 4


def plan(config: MakeControlConfig, context: StageContext) -> list[ChunkPlan]:
    """One forward pass serves as many hookpoints as memory holds the tokens of."""
    dictionary = open_coders(config, context)
    n_tokens = n_calibration_tokens(config, dictionary)
    width = max(coder.d_model for coder in dictionary.coders.values())
    at_once = max(1, HELD_BYTES // (FLOAT_BYTES * n_tokens * width))
    groups = [dictionary.reads[start : start + at_once] for start in range(0, len(dictionary.reads), at_once)]
    return [ChunkPlan(0, {"hookpoints": list(group)}, n_units=n_tokens * len(group)) for group in groups]


def execute(config: MakeControlConfig, payload: dict[str, Any], context: StageContext) -> None:
    dictionary = open_coders(config, context)
    activations = calibration_tokens(config, payload["hookpoints"], dictionary, context)
    for hookpoint, tokens in activations.items():
        context.raise_if_cancelled()
        target = dictionary.coders[hookpoint].cpu()
        coder = make_control(config.kind, target, tokens, control_generator(config, hookpoint))
        weights = {name: weight.contiguous() for name, weight in coder.state_dict().items()}
        save_file(weights, context.chunk_folder / f"{hookpoint}.safetensors")


def finish(config: MakeControlConfig, context: StageContext) -> dict[str, list[str]]:
    target = open_coders(config, context)
    paths = {p.stem: p for c in range(context.n_chunks) for p in context.chunk(c).glob("*.safetensors")}
    coders = {hookpoint: load_control(paths[hookpoint], target.coders[hookpoint]) for hookpoint in target.reads}
    description = replace(
        target.description,
        kind=config.kind,
        name=config.name or f"{config.kind.replace('_', ' ')} for {target.description.name}",
        n_trained_tokens=0,
        controls=target.digest,
    )
    with context.store.write(
        "dictionary",
        config=config_to_dict(config),
        parents=parent_digests(config),
        stage_revision=context.stage_revision,
        seed=config.seed,
    ) as writer:
        write_coders(writer, description, coders)
        n_tokens = 0 if config.kind in UNCALIBRATED else n_calibration_tokens(config, target)
        writer.write_json("calibration.json", {"image_set": config.image_set, "n_tokens": n_tokens})
    return {"artifacts": [writer.digest]}


def open_coders(config: MakeControlConfig, context: StageContext) -> CoderDictionary:
    dictionary = open_dictionary(config.dictionary, context)
    if not isinstance(dictionary, CoderDictionary):
        raise ValueError(f"A dictionary of kind '{dictionary.kind}' has no such control.")
    return dictionary


def n_calibration_tokens(config: MakeControlConfig, dictionary: CoderDictionary) -> int:
    fitting = LARGEST_PRODUCT // max(dictionary.n_latents(hookpoint) for hookpoint in dictionary.reads)
    return max(TOKENS_AT_ONCE, min(config.n_tokens, fitting) // TOKENS_AT_ONCE * TOKENS_AT_ONCE)


def calibration_tokens(
    config: MakeControlConfig, hookpoints: list[str], dictionary: CoderDictionary, context: StageContext
) -> dict[str, Tensor]:
    """Tokens of images drawn by the seed; none where the control needs none."""
    if config.kind in UNCALIBRATED:
        return {hookpoint: torch.zeros(0, dictionary.coders[hookpoint].d_model) for hookpoint in hookpoints}
    model = open_model(dictionary.description.vision_model, context)
    reader = open_images(config.image_set, context)
    stream = ActivationStream(config.seed, -(-TOKENS_AT_ONCE // model.n_tokens), TOKENS_AT_ONCE, context.n_threads)
    n_blocks = n_calibration_tokens(config, dictionary) // TOKENS_AT_ONCE
    parts: dict[str, list[Tensor]] = {hookpoint: [] for hookpoint in hookpoints}
    batches = activation_batches(model, reader, hookpoints, stream, first_block=0, n_blocks=n_blocks)
    for number, batch in enumerate(batches, start=1):
        for hookpoint, tokens in batch.activations.items():
            parts[hookpoint].append(tokens.cpu())
        context.progress(number * TOKENS_AT_ONCE * len(hookpoints))
        context.raise_if_cancelled()
    return {hookpoint: torch.cat(tokens) for hookpoint, tokens in parts.items()}


def control_generator(config: MakeControlConfig, hookpoint: str) -> torch.Generator:
    """A stream of its own for each kind and hookpoint."""
    digest = hashlib.sha256(f"{config.seed}:{config.kind}:{hookpoint}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def load_control(path: Path, target: SparseCoder) -> SparseCoder:
    weights = load_file(path)
    n_latents, d_model = weights["W_enc"].shape
    shape = CoderShape(d_model, n_latents, n_latents, selection="threshold") if "threshold" in weights else target.shape
    coder = SparseCoder(shape)
    coder.load_state_dict(weights)
    return coder
