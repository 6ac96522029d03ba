"""What a training config asks for, made: coders with their recipes on their devices, and files of them in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import torch

from workers.artifacts import ArtifactWriter
from workers.dictionaries.coder_training import PENALIZED, CoderTraining
from workers.dictionaries.losses import ACTIVATIONS, AuxK, Objective
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder
from workers.dictionaries.step import Execution
from workers.dictionaries.store import NEGATIVE, POSITIVE, DictionaryDescription, write_coders
from workers.dictionaries.training import Trainable, Training, TrainingConfig, wrap_trainable
from workers.stages.configs import ConfigError, TrainDictionaryConfig
from workers.stages.configs.presets import preset_objection
from workers.vision_model import VisionModel

CROSS_LAYER = "cross_layer_transcoder"
DEAD_AFTER_BATCHES = 60  # research/rrm.md §1
AUX = AuxK(1 / 32, 256)  # likewise
NO_AUX = AuxK(0.0, 1)
WARM_UP_SHARE, DECAY_SHARE = 0.02, 0.2
RESAMPLED_AT = (0.125, 0.25, 0.375, 0.5)
BANDWIDTH = 0.1  # of JumpReLU's straight-through estimates; pre-activations of normalized tokens are about 1
N_LOGGED = 200


def check_model(config: TrainDictionaryConfig, model: VisionModel) -> None:
    """Raise ValueError where the model lacks a hookpoint, or a preset is for another model."""
    objection = preset_objection(config.preset, model.description.to_json()) if config.preset else ""
    if objection:
        raise ConfigError(objection)
    for hookpoint in config.hookpoints_read():
        model.width_of(hookpoint)


def widths_read(config: TrainDictionaryConfig, model: VisionModel) -> dict[str, int]:
    return {name: model.width_of(name) for name in config.hookpoints_read()}


def n_steps(config: TrainDictionaryConfig) -> int:
    return max(1, -(-config.n_tokens // config.batch_tokens))


def n_weights(config: TrainDictionaryConfig, widths: Mapping[str, int]) -> int:
    """Encoder weights of all dictionaries: what a step's time goes by."""
    every = [(name, n) for one in config.dictionaries() for name, n, _ in one.sizes()]
    return sum(widths[name] * n for name, n in every)


def training_devices() -> list[str]:
    """Every GPU at hand, or the CPU."""
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]


def make_trainings(
    config: TrainDictionaryConfig, widths: Mapping[str, int], devices: Sequence[str]
) -> dict[str, Training]:
    """The trainings of all dictionaries by label, '0/blocks.3' for one of the first, dealt out over the devices.

    All weights are zero: they are to be initialized, or loaded.
    """
    dealt = cycle(devices)
    trainings = {}
    for number, own in enumerate(config.dictionaries()):
        for trainable in make_trainables(own, widths, dealt):
            group = str(number) if config.variants else ""
            label = f"{number}/{trainable.reads[0]}"
            trainings[label] = wrap_trainable(trainable, training_recipe(own), group)
    return trainings


def make_trainables(config: TrainDictionaryConfig, widths: Mapping[str, int], dealt: cycle[str]) -> list[Trainable]:
    if config.kind == CROSS_LAYER:
        from workers.dictionaries.cross_layer_training import make_cross_layer

        return [make_cross_layer(config, dict(widths), next(dealt))]
    return [
        CoderTraining(
            SparseCoder(coder_shape(config, n_latents, k, (widths[read], widths[write]))).to(next(dealt)),
            read,
            write,
            activation=config.trained_by,
            has_free_rows=config.has_free_rows,
        )
        for (read, n_latents, k), write in zip(config.sizes(), config.writes, strict=True)
    ]


def coder_shape(config: TrainDictionaryConfig, n_latents: int, k: int, widths: tuple[int, int]) -> CoderShape:
    """SAEs normalize each token and tie their bias; transcoders are trained on standardised tokens."""
    selection = ACTIVATIONS[config.trained_by]
    if config.kind != "transcoder":
        has_bias = config.trained_by in PENALIZED
        return CoderShape(widths[0], n_latents, k, selection=selection, has_encoder_bias=has_bias)
    return CoderShape(
        widths[0],
        n_latents,
        k,
        d_out=widths[1],
        selection=selection,
        normalization="none",
        is_bias_tied=False,
        has_encoder_bias=True,
    )


def training_recipe(config: TrainDictionaryConfig) -> TrainingConfig:
    steps = n_steps(config)
    return TrainingConfig(
        learning_rate=config.learning_rate,
        n_steps=steps,
        warm_up_steps=int(WARM_UP_SHARE * steps),
        decay_steps=int(DECAY_SHARE * steps),
        objective=Objective(
            config.trained_by,
            AUX if config.has_aux and config.trained_by != "relu" else NO_AUX,
            config.sparsity_weight,
            BANDWIDTH,
        ),
        clip_norm=config.clip_norm,
        dead_after_tokens=DEAD_AFTER_BATCHES * config.batch_tokens,
        resample_at=tuple(int(share * steps) for share in RESAMPLED_AT) if config.resample_dead else (),
        log_every=max(1, steps // N_LOGGED),
        execution=Execution(config.precision == "bfloat16", "inductor" if config.is_compiled else ""),
    )


def write_trained(writer: ArtifactWriter, description: DictionaryDescription, trained: Sequence[Trainable]) -> None:
    """Put the files of one dictionary into its artefact."""
    if description.kind == CROSS_LAYER:
        from workers.dictionaries.cross_layer_training import CrossLayerTraining

        [one] = [training for training in trained if isinstance(training, CrossLayerTraining)]
        one.write(writer, description)
        return
    coders = {one.reads[0]: one.finished() for one in trained if isinstance(one, CoderTraining)}
    write_coders(writer, description, coders)


def describe(config: TrainDictionaryConfig, model: VisionModel, n_tokens: int) -> DictionaryDescription:
    return DictionaryDescription(
        kind=config.kind,
        name=config.name,
        reads=config.hookpoints,
        writes=config.writes,
        vision_model=config.vision_model,
        image_set=config.image_set,
        preprocessing=model.description.preprocessing.to_json(),
        poles=(POSITIVE, NEGATIVE) if config.trained_by == "abs_topk" else (POSITIVE,),
        n_trained_tokens=n_tokens,
    )
