"""Stage make-control: a control dictionary at the hookpoints and densities of the dictionary it controls."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.activations import ActivationStream, activation_batches
from workers.dictionaries.controls import make_control
from workers.dictionaries.sparse_coder import SparseCoder, ThresholdCoder
from workers.dictionaries.store import CoderDictionary, write_coders
from workers.images import ImageSetReader
from workers.stages.configs import MakeControlConfig, config_to_dict, parent_digests
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.inputs import open_dictionary, open_images, open_model
from workers.vision_model import VisionModel

CODER = "coder.safetensors"
LARGEST_PRODUCT = (
    2**28
)  # tokens times latents; fewer tokens calibrate a wide dictionary, and the artefact says how many
TOKENS_AT_ONCE = 4096


def plan(config: MakeControlConfig, context: StageContext) -> list[ChunkPlan]:
    dictionary = open_dictionary(config.dictionary, context)
    return [
        ChunkPlan(0, {"hookpoint": hookpoint}, n_units=n_calibration_tokens(config, dictionary, hookpoint))
        for hookpoint in dictionary.reads
    ]


def execute(config: MakeControlConfig, payload: dict[str, Any], context: StageContext) -> None:
    hookpoint = payload["hookpoint"]
    dictionary = open_dictionary(config.dictionary, context)
    model = open_model(dictionary.description.vision_model, context)
    reader = open_images(config.image_set, context)
    n_tokens = n_calibration_tokens(config, dictionary, hookpoint)
    activations = calibration_tokens(config, hookpoint, n_tokens, model, reader, context)
    context.raise_if_cancelled()
    target = dictionary.coders[hookpoint].cpu()
    coder = make_control(config.kind, target, activations.cpu(), control_generator(config, hookpoint))
    save_file({name: weight.contiguous() for name, weight in coder.state_dict().items()}, context.chunk_folder / CODER)
    context.progress(n_tokens)


def finish(config: MakeControlConfig, context: StageContext) -> dict[str, list[str]]:
    target = open_dictionary(config.dictionary, context)
    coders = {
        hookpoint: load_control(config, context.chunk(chunk), target.coders[hookpoint])
        for chunk, hookpoint in enumerate(target.reads)
    }
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
        n_tokens = {h: n_calibration_tokens(config, target, h) for h in target.reads}
        writer.write_json("calibration.json", {"image_set": config.image_set, "n_tokens": n_tokens})
    return {"artifacts": [writer.digest]}


def n_calibration_tokens(config: MakeControlConfig, dictionary: CoderDictionary, hookpoint: str) -> int:
    fitting = LARGEST_PRODUCT // dictionary.n_latents(hookpoint)
    return max(TOKENS_AT_ONCE, min(config.n_tokens, fitting) // TOKENS_AT_ONCE * TOKENS_AT_ONCE)


def calibration_tokens(
    config: MakeControlConfig,
    hookpoint: str,
    n_tokens: int,
    model: VisionModel,
    reader: ImageSetReader,
    context: StageContext,
) -> Tensor:
    """Tokens of images drawn by the seed."""
    images_per_block = -(-TOKENS_AT_ONCE // model.n_tokens)
    stream = ActivationStream(config.seed, images_per_block, TOKENS_AT_ONCE, context.n_threads)
    batches = activation_batches(model, reader, [hookpoint], stream, first_block=0, n_blocks=n_tokens // TOKENS_AT_ONCE)
    parts = []
    for batch in batches:
        parts.append(batch.activations[hookpoint])
        context.progress(len(parts) * TOKENS_AT_ONCE)
        context.raise_if_cancelled()
    return torch.cat(parts)


def control_generator(config: MakeControlConfig, hookpoint: str) -> torch.Generator:
    """A stream of its own for each kind and hookpoint."""
    digest = hashlib.sha256(f"{config.seed}:{config.kind}:{hookpoint}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def load_control(config: MakeControlConfig, folder: Any, target: SparseCoder) -> SparseCoder:
    weights = load_file(folder / CODER)
    n_latents, d_model = weights["W_enc"].shape
    coder: SparseCoder
    if "threshold" in weights:
        coder = ThresholdCoder(d_model=d_model, n_latents=n_latents)
    else:
        coder = SparseCoder(d_model=d_model, n_latents=n_latents, k=target.k)
    coder.load_state_dict(weights)
    return coder
