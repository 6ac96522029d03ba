"""Stage train-dictionary: TopK coders at several hookpoints, a chunk of activation blocks at a time.

Each chunk takes up the training state its predecessor left, so chunks follow one another and a killed one is repeated
alone. How many blocks a chunk has changes nothing in the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from workers.activations import ActivationStream, activation_batches, suggest_images_per_block
from workers.dictionaries.store import DictionaryDescription, write_coders
from workers.dictionaries.training import (
    Metrics,
    TrainingConfig,
    TrainingState,
    load_state,
    save_state,
    start_training,
    train_steps,
)
from workers.images import ImageSetReader
from workers.stages.configs import TrainDictionaryConfig, config_to_dict, parent_digests
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.inputs import FLOPS_PER_WEIGHT, forward_flops, open_images, open_model, units_per_chunk
from workers.vision_model import VisionModel

DEAD_AFTER_BATCHES = 60  # research/rrm.md §1
WARM_UP_SHARE, DECAY_SHARE = 0.02, 0.2
N_LOGGED = 200
STEP_PRODUCTS = 3  # a training step costs some three encoder products


def plan(config: TrainDictionaryConfig, context: StageContext) -> list[ChunkPlan]:
    model = open_model(config.vision_model, context)
    stream = training_stream(config, model, context.n_threads)
    per_block = stream.batches_per_block(model.n_tokens)
    n_blocks = -(-n_steps(config) // per_block)
    at_once = min(units_per_chunk(block_flops(config, model, stream), context), n_blocks)
    chunks = []
    for chunk, first in enumerate(range(0, n_blocks, at_once)):
        n = min(at_once, n_blocks - first)
        steps = min(n * per_block, n_steps(config) - first * per_block)
        payload = {"first_block": first, "n_blocks": n, "previous": chunk - 1}
        chunks.append(ChunkPlan(chunk, payload, n_units=steps * config.batch_tokens, is_checkpoint=True))
    return chunks


def execute(config: TrainDictionaryConfig, payload: dict[str, Any], context: StageContext) -> None:
    model = open_model(config.vision_model, context)
    reader = open_images(config.image_set, context)
    recipe = training_recipe(config)
    state = take_up(config, recipe, payload["previous"], model, context)
    first_tokens = state.n_tokens

    def report(hookpoint: str, step: int, metrics: Metrics) -> None:
        for name, value in metrics._asdict().items():
            context.metric(f"{name}/{hookpoint}", step, value)

    for batch in read_batches(config, payload, model, reader, context):
        train_steps(state, [batch], recipe, report)
        context.progress(state.n_tokens - first_tokens)
        context.raise_if_cancelled()
    save_state(state, context.chunk_folder)


def finish(config: TrainDictionaryConfig, context: StageContext) -> dict[str, list[str]]:
    recipe = training_recipe(config)
    state = load_state(context.chunk(context.n_chunks - 1), recipe)
    model = context.store.open(config.vision_model, kind="vision-model").json("model.json")
    description = DictionaryDescription(
        kind="topk_sae",
        name=config.name,
        reads=tuple(config.hookpoints),
        writes=tuple(config.hookpoints),
        vision_model=config.vision_model,
        image_set=config.image_set,
        preprocessing=model["preprocessing"],
        n_trained_tokens=state.n_tokens,
    )
    with context.store.write(
        "dictionary",
        config=config_to_dict(config),
        parents=parent_digests(config),
        stage_revision=context.stage_revision,
        seed=config.seed,
        device=context.device,
    ) as writer:
        write_coders(writer, description, {name: training.coder for name, training in state.coders.items()})
    return {"artifacts": [writer.digest]}


def n_steps(config: TrainDictionaryConfig) -> int:
    return max(1, -(-config.n_tokens // config.batch_tokens))


def training_recipe(config: TrainDictionaryConfig) -> TrainingConfig:
    steps = n_steps(config)
    return TrainingConfig(
        k=config.k,
        learning_rate=config.learning_rate,
        n_steps=steps,
        warm_up_steps=int(WARM_UP_SHARE * steps),
        decay_steps=int(DECAY_SHARE * steps),
        dead_after_tokens=DEAD_AFTER_BATCHES * config.batch_tokens,
        log_every=max(1, steps // N_LOGGED),
    )


def training_stream(config: TrainDictionaryConfig, model: VisionModel, n_threads: int) -> ActivationStream:
    images_per_block = suggest_images_per_block(model, config.hookpoints, config.batch_tokens)
    return ActivationStream(config.seed, images_per_block, config.batch_tokens, n_threads)


def block_flops(config: TrainDictionaryConfig, model: VisionModel, stream: ActivationStream) -> float:
    """Operations of one block: the forward passes, and the steps of every hookpoint."""
    weights = sum(model.width_of(name) * config.n_latents for name in config.hookpoints)
    n_trained = stream.batches_per_block(model.n_tokens) * config.batch_tokens
    steps = float(n_trained * STEP_PRODUCTS * FLOPS_PER_WEIGHT * weights)
    return stream.images_per_block * forward_flops(model) + steps


def take_up(
    config: TrainDictionaryConfig, recipe: TrainingConfig, previous: int, model: VisionModel, context: StageContext
) -> TrainingState:
    """The state the previous chunk left, or a fresh one."""
    if previous >= 0:
        return load_state(context.chunk(previous), recipe, context.device)
    widths = {name: model.width_of(name) for name in config.hookpoints}
    return start_training(widths, config.n_latents, recipe, config.seed, context.device)


def read_batches(
    config: TrainDictionaryConfig,
    payload: dict[str, Any],
    model: VisionModel,
    reader: ImageSetReader,
    context: StageContext,
) -> Iterator[dict[str, Tensor]]:
    stream = training_stream(config, model, context.n_threads)
    batches = activation_batches(
        model,
        reader,
        config.hookpoints,
        stream,
        first_block=payload["first_block"],
        n_blocks=payload["n_blocks"],
    )
    return (batch.activations for batch in batches)
