"""Stage train-model: a small ViT learns the labels of an image set, some seconds of steps per chunk.

Each chunk goes on from the state its predecessor left, to the last bit; where chunks end changes nothing in the result.
"""

from __future__ import annotations

import shutil
from typing import Any

from workers.model_training import ClassifierConfig, ClassifierTraining, finish_training, run_steps, small_vit_settings
from workers.model_training import start_state as write_start_state
from workers.readouts import write_own_head
from workers.stages.configs import TrainModelConfig
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.inputs import FLOPS_PER_WEIGHT, WEIGHTS_PER_BLOCK, open_images, require_few_chunks, units_per_chunk

PASSES = 3  # a training step costs some three forward passes
OVERHEAD = 3  # decoding images and small matrices: far from the speed of large products
N_LOGGED = 300


def plan(config: TrainModelConfig, context: StageContext) -> list[ChunkPlan]:
    schedule = training_of(config, context).plan
    images_at_once = units_per_chunk(OVERHEAD * step_flops_per_image(config), context)
    at_once = max(1, images_at_once // schedule.batch_size)
    require_few_chunks(-(-schedule.n_steps // at_once), context)
    return [
        ChunkPlan(
            phase=chunk,
            payload={"n_steps": min(at_once, schedule.n_steps - first), "previous": chunk - 1},
            n_units=min(at_once, schedule.n_steps - first) * schedule.batch_size,
            is_checkpoint=True,
        )
        for chunk, first in enumerate(range(0, schedule.n_steps, at_once))
    ]


def execute(config: TrainModelConfig, payload: dict[str, Any], context: StageContext) -> None:
    training = training_of(config, context)
    source = context.chunk_folder / "start"
    if payload["previous"] >= 0:
        source = context.chunk(payload["previous"])
    else:
        write_start_state(training.config, source)
    every = max(1, training.plan.n_steps // N_LOGGED)
    n_done = 0

    def report(name: str, step: int, value: float) -> None:
        nonlocal n_done
        n_done += training.plan.batch_size
        context.progress(n_done)
        context.raise_if_cancelled()
        if step % every == 0:
            context.metric(name, step, value)

    run_steps(training, source, context.chunk_folder, n_steps=payload["n_steps"], on_metric=report)
    shutil.rmtree(context.chunk_folder / "start", ignore_errors=True)


def finish(config: TrainModelConfig, context: StageContext) -> dict[str, list[str]]:
    training = training_of(config, context)
    model = finish_training(context.store, training, context.chunk(context.n_chunks - 1))
    measured = model.json("training.json")
    context.log(f"accuracy {measured['accuracy']['all']['accuracy']:.3f} on {measured['n_test']:,} images kept apart")
    head = write_own_head(context.store, model)
    return {"artifacts": [model.digest] + ([head.digest] if head is not None else [])}


def training_of(config: TrainModelConfig, context: StageContext) -> ClassifierTraining:
    reader = open_images(config.image_set, context)
    settings = small_vit_settings(config.image_size, config.patch_size, config.depth, config.width, len(reader.classes))
    recipe = ClassifierConfig(
        architecture=config.architecture,
        timm_kwargs=settings,
        n_epochs=config.n_epochs,
        learning_rate=config.learning_rate,
        seed=config.seed,
    )
    return ClassifierTraining(recipe, reader, context.n_threads, context.device)


def step_flops_per_image(config: TrainModelConfig) -> float:
    n_tokens = (config.image_size // config.patch_size) ** 2 + 1
    return float(PASSES * FLOPS_PER_WEIGHT * WEIGHTS_PER_BLOCK * config.depth * config.width**2 * n_tokens)
