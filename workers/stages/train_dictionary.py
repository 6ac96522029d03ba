"""Stage train-dictionary: one or several dictionaries from the same forward passes, a chunk of blocks at a time.

Each chunk takes up the training state its predecessor left, so chunks follow one another and a killed one is repeated
alone. How many blocks a chunk has changes nothing in the result. Several GPUs share the coders, dealt out in turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch import Tensor

from workers.activations import ActivationStream, activation_batches, suggest_images_per_block
from workers.compilation import compile_parts
from workers.dictionaries.training import Metrics, TrainingState, train_steps
from workers.dictionaries.training_state import load_state, save_state, start_state
from workers.images import ImageSetReader
from workers.stages.configs import TrainDictionaryConfig, config_to_dict, parent_digests
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.inputs import (
    FLOPS_PER_WEIGHT,
    forward_flops,
    open_images,
    open_model,
    require_few_chunks,
    units_per_chunk,
)
from workers.stages.memory import halve_if_needed
from workers.stages.trainings import (
    check_model,
    describe,
    make_trainings,
    n_steps,
    n_weights,
    training_devices,
    widths_read,
    write_trained,
)
from workers.vision_model import VisionModel

STEP_PRODUCTS = 3  # a training step costs some three encoder products


def plan(config: TrainDictionaryConfig, context: StageContext) -> list[ChunkPlan]:
    model = open_model(config.vision_model, context)
    check_model(config, model)
    stream = training_stream(config, model, context.n_threads)
    per_block = stream.batches_per_block(model.n_tokens)
    n_blocks = -(-n_steps(config) // per_block)
    at_once = min(units_per_chunk(block_flops(config, model, stream), context), n_blocks)
    require_few_chunks(-(-n_blocks // at_once), context)
    chunks = []
    for chunk, first in enumerate(range(0, n_blocks, at_once)):
        n = min(at_once, n_blocks - first)
        steps = min(n * per_block, n_steps(config) - first * per_block)
        payload = {"first_block": first, "n_blocks": n, "previous": chunk - 1}
        chunks.append(ChunkPlan(chunk, payload, n_units=steps * config.batch_tokens, is_checkpoint=True))
    return chunks


def execute(config: TrainDictionaryConfig, payload: dict[str, Any], context: StageContext) -> None:
    model = open_training_model(config, context)
    reader = open_images(config.image_set, context)

    def train(n_parts: int, n_batches: int | None = None) -> TrainingState:
        state = take_up(config, payload["previous"], model, context)
        state.n_parts = max(state.n_parts, n_parts)
        batches = read_batches(config, payload, model, reader, context)
        train_chunk(state, islice(batches, n_batches), context)
        return state

    def train_and_save(n_parts: int) -> None:
        save_state(train(n_parts), context.chunk_folder)

    def try_one(n_parts: int) -> None:
        train(n_parts, 1)

    halve_if_needed(train_and_save, try_one, config.batch_tokens, context.log)


class DivergedError(Exception):
    """The weights of a training are no longer finite."""

    needs_another_run = True  # the same steps would be taken again

    def __init__(self, place: str, n_steps: int) -> None:
        super().__init__(
            f"The training of {place} has diverged: after {n_steps:,} steps its loss or weights are NaN or infinite. "
            "Take a lower learning rate or clip gradients, and start another run."
        )


def train_chunk(state: TrainingState, batches: Iterator[dict[str, Tensor]], context: StageContext) -> None:
    """Raises DivergedError rather than tell of a loss, or hand on weights, that are NaN or infinite."""
    first_tokens = state.n_tokens

    def report(place: str, step: int, metrics: Metrics) -> None:
        if not math.isfinite(metrics.loss):
            raise DivergedError(place, step)
        for name, value in metrics._asdict().items():
            context.metric(f"{name}/{place}", step, value)

    for batch in batches:
        train_steps(state, [batch], report)
        context.progress(state.n_tokens - first_tokens)
        context.raise_if_cancelled()
    require_finite_weights(state)


def require_finite_weights(state: TrainingState) -> None:
    for training in state.trainings.values():
        if not all(bool(weight.isfinite().all()) for weight in training.trainable.parameters().values()):
            raise DivergedError(f"{training.group}/{training.trainable.reads[0]}".removeprefix("/"), state.step)


def finish(config: TrainDictionaryConfig, context: StageContext) -> dict[str, list[str]]:
    model = open_model(config.vision_model, context)
    trainings = make_trainings(config, widths_read(config, model), ["cpu"])
    state = load_state(context.chunk(context.n_chunks - 1), trainings)
    numbers = range(len(config.dictionaries()))
    return {"artifacts": [write_dictionary(config, number, state, model, context) for number in numbers]}


def write_dictionary(
    config: TrainDictionaryConfig, number: int, state: TrainingState, model: VisionModel, context: StageContext
) -> str:
    """One dictionary of the run as an artefact of its own; its digest."""
    own = config.dictionaries()[number]
    trained = [one.trainable for label, one in state.trainings.items() if label.startswith(f"{number}/")]
    with context.store.write(
        "dictionary",
        config=config_to_dict(own) | {"variants": list(config.variants), "preset": config.preset},
        parents=parent_digests(config),
        stage_revision=context.stage_revision,
        seed=config.seed,
        device=context.device,
    ) as writer:
        write_trained(writer, describe(own, model, state.n_tokens), trained)
    return writer.digest


def open_training_model(config: TrainDictionaryConfig, context: StageContext) -> VisionModel:
    """The model, compiled if that was asked for and there is a GPU to profit."""
    model = open_model(config.vision_model, context)
    if config.is_compiled and context.device == "cuda":
        compile_parts(model.module, config.hookpoints_read())
    return model


def training_stream(config: TrainDictionaryConfig, model: VisionModel, n_threads: int) -> ActivationStream:
    images_per_block = suggest_images_per_block(model, config.hookpoints_read(), config.batch_tokens)
    is_bf16 = config.precision == "bfloat16" and model.device.type == "cuda"
    return ActivationStream(config.seed, images_per_block, config.batch_tokens, n_threads, is_bf16=is_bf16)


def block_flops(config: TrainDictionaryConfig, model: VisionModel, stream: ActivationStream) -> float:
    """Operations of one block: the forward passes, and the steps of every coder."""
    weights = n_weights(config, widths_read(config, model))
    n_trained = stream.batches_per_block(model.n_tokens) * config.batch_tokens
    steps = float(n_trained * STEP_PRODUCTS * FLOPS_PER_WEIGHT * weights)
    return stream.images_per_block * forward_flops(model) + steps


def take_up(config: TrainDictionaryConfig, previous: int, model: VisionModel, context: StageContext) -> TrainingState:
    """The state the previous chunk left, or a fresh one."""
    trainings = make_trainings(config, widths_read(config, model), training_devices())
    if previous >= 0:
        return load_state(context.chunk(previous), trainings)
    return start_state(trainings, config.seed)


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
        config.hookpoints_read(),
        stream,
        first_block=payload["first_block"],
        n_blocks=payload["n_blocks"],
    )
    return (batch.activations for batch in batches)
