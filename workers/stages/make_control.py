"""Stage make-control: a control dictionary at the hookpoints and densities of the dictionary it controls."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.activations import ActivationStream, activation_batches
from workers.dictionaries.controls import make_control, needs_tokens, require_control
from workers.dictionaries.feed_forward import FeedForwardDictionary
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder
from workers.dictionaries.store import (
    POSITIVE,
    RANDOM_TRANSFORMER,
    CoderDictionary,
    Dictionary,
    DictionaryDescription,
    write_coders,
)
from workers.stages.configs import MakeControlConfig, config_to_dict, parent_digests
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.inputs import open_dictionary, open_images, open_model, require_fit
from workers.stages.random_transformer import finish_random_transformer, require_random_transformer

LARGEST_PRODUCT = (
    2**28
)  # tokens times latents; fewer tokens calibrate a wide dictionary, and the artefact says how many
TOKENS_AT_ONCE = 4096
HELD_BYTES = 256 << 20  # calibration tokens that are in memory at once
FLOAT_BYTES = 4
SHAPE = "shape.json"


def plan(config: MakeControlConfig, context: StageContext) -> list[ChunkPlan]:
    """One forward pass serves as many hookpoints as memory holds the tokens of."""
    target = open_dictionary(config.dictionary, context)
    if config.kind == RANDOM_TRANSFORMER:
        require_random_transformer(config, target, context)
        return [ChunkPlan(0, {"hookpoints": []}, n_units=1)]
    require_control(config.kind, target)
    n_tokens = n_calibration_tokens(config, target)
    model = open_model(target.description.vision_model, context)
    require_fit(target, model)
    width = max(model.width_of(hookpoint) for hookpoint in target.reads)
    at_once = max(1, HELD_BYTES // (FLOAT_BYTES * n_tokens * width))
    groups = [target.reads[start : start + at_once] for start in range(0, len(target.reads), at_once)]
    return [ChunkPlan(0, {"hookpoints": list(group)}, n_units=n_tokens * len(group)) for group in groups]


def execute(config: MakeControlConfig, payload: dict[str, Any], context: StageContext) -> None:
    target = open_dictionary(config.dictionary, context)
    if not payload["hookpoints"]:
        return  # an untrained model has no chunks: it is written as a whole
    activations = calibration_tokens(config, payload["hookpoints"], target, context)
    on_cpu = move(target, "cpu")
    for hookpoint, tokens in activations.items():
        context.raise_if_cancelled()
        coder = make_control(config.kind, on_cpu, hookpoint, tokens, control_generator(config, hookpoint))
        save_control(coder, hookpoint, context)


def finish(config: MakeControlConfig, context: StageContext) -> dict[str, list[str]]:
    target = open_dictionary(config.dictionary, context)
    if config.kind == RANDOM_TRANSFORMER:
        return {"artifacts": finish_random_transformer(config, target, context)}
    folders = {path.name: path for c in range(context.n_chunks) for path in context.chunk(c).iterdir()}
    coders = {hookpoint: load_control(folders[hookpoint]) for hookpoint in target.reads}
    with context.store.write(
        "dictionary",
        config=config_to_dict(config),
        parents=parent_digests(config),
        stage_revision=context.stage_revision,
        seed=config.seed,
    ) as writer:
        write_coders(writer, describe(config, target), coders)
        n_tokens = n_calibration_tokens(config, target) if needs_tokens(config.kind, target) else 0
        writer.write_json("calibration.json", {"image_set": config.image_set, "n_tokens": n_tokens})
    return {"artifacts": [writer.digest]}


def describe(config: MakeControlConfig, target: Dictionary) -> DictionaryDescription:
    """A basis and random directions have one pole and write where they read, but for those of hidden units."""
    is_untrained = config.kind == "untrained_dictionary"
    writes_elsewhere = isinstance(target, FeedForwardDictionary) or (
        is_untrained and isinstance(target, CoderDictionary)
    )
    return replace(
        target.description,
        kind=config.kind,
        name=config.name or f"{config.kind.replace('_', ' ')} for {target.description.name}",
        writes=target.writes if writes_elsewhere else target.reads,
        poles=target.poles if is_untrained else (POSITIVE,),
        n_trained_tokens=0,
        controls=target.digest,
        origin="",
    )


def move(dictionary: Dictionary, device: str) -> Dictionary:
    """Calibration is exact on a CPU and the same on every machine that has one."""
    moved: Dictionary = dictionary.to(device)  # type: ignore[attr-defined]
    return moved


def n_calibration_tokens(config: MakeControlConfig, dictionary: Dictionary) -> int:
    fitting = LARGEST_PRODUCT // max(dictionary.n_latents(hookpoint) for hookpoint in dictionary.reads)
    return max(TOKENS_AT_ONCE, min(config.n_tokens, fitting) // TOKENS_AT_ONCE * TOKENS_AT_ONCE)


def calibration_tokens(
    config: MakeControlConfig, hookpoints: list[str], dictionary: Dictionary, context: StageContext
) -> dict[str, Tensor]:
    """Tokens of images drawn by the seed; none where the control needs none."""
    model = open_model(dictionary.description.vision_model, context)
    if not needs_tokens(config.kind, dictionary):
        return {hookpoint: torch.zeros(0, model.width_of(hookpoint)) for hookpoint in hookpoints}
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


def save_control(coder: SparseCoder, hookpoint: str, context: StageContext) -> None:
    folder = context.chunk_folder / hookpoint
    folder.mkdir(exist_ok=True)
    save_file(
        {name: weight.contiguous() for name, weight in coder.state_dict().items()}, folder / "weights.safetensors"
    )
    (folder / SHAPE).write_text(json.dumps(coder.shape.to_json(), sort_keys=True))


def load_control(folder: Path) -> SparseCoder:
    coder = SparseCoder(CoderShape(**json.loads((folder / SHAPE).read_text())))
    coder.load_state_dict(load_file(folder / "weights.safetensors"))
    return coder
