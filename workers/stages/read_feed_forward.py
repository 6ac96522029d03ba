"""Stage read-feed-forward: the MLPs of a vision model as dictionaries, one for each k; nothing is trained.

One chunk reads the weights of every block, which takes seconds, and writes them once; ``finish`` makes the artefacts.
"""

from __future__ import annotations

from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.dictionaries.feed_forward import (
    HIDDEN,
    TENSORS,
    WRITE,
    FeedForwardCoder,
    FeedForwardShape,
    has_negative_values,
    read_feed_forward,
    write_feed_forward,
)
from workers.dictionaries.store import NEGATIVE, POSITIVE, DictionaryDescription
from workers.stages.configs import ConfigError, ReadFeedForwardConfig, config_to_dict, parent_digests
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.inputs import open_model
from workers.vision_model import VisionModel

UNITS = "units.safetensors"


def plan(config: ReadFeedForwardConfig, context: StageContext) -> list[ChunkPlan]:
    """Every mistake in the config is found here, before anything is written."""
    model = open_model(config.vision_model, context)
    reads = hidden_hookpoints(config, model)
    for read in reads:
        for k in config.k:
            shape_of(config, model, read, k)
    return [ChunkPlan(0, {"hookpoints": list(reads)}, n_units=len(reads))]


def execute(config: ReadFeedForwardConfig, payload: dict[str, Any], context: StageContext) -> None:
    model = open_model(config.vision_model, context)
    tensors: dict[str, Tensor] = {}
    for n_done, read in enumerate(payload["hookpoints"], start=1):
        coder = read_feed_forward(model, read, is_normalized=config.scaling == "normalized")
        tensors |= {f"{read}.{name}": getattr(coder, name).detach() for name in TENSORS}
        context.progress(n_done)
        context.raise_if_cancelled()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, context.chunk_folder / UNITS)


def finish(config: ReadFeedForwardConfig, context: StageContext) -> dict[str, list[str]]:
    model = open_model(config.vision_model, context)
    return {"artifacts": [write_dictionary(config, k, model, context) for k in config.k]}


def write_dictionary(config: ReadFeedForwardConfig, k: int, model: VisionModel, context: StageContext) -> str:
    reads = hidden_hookpoints(config, model)
    tensors = load_file(context.chunk(0) / UNITS)
    coders = {}
    for read in reads:
        coders[read] = FeedForwardCoder(shape_of(config, model, read, k))
        coders[read].load_state_dict({name: tensors[f"{read}.{name}"] for name in TENSORS})
    description = DictionaryDescription(
        kind="topk_ff_kv" if k else "ff_kv",
        name=f"{config.name}, k = {k}" if k else config.name,
        reads=reads,
        writes=tuple(read.replace(HIDDEN, WRITE) for read in reads),
        vision_model=config.vision_model,
        image_set=config.image_set,
        preprocessing=model.description.preprocessing.to_json(),
        poles=poles_of(config, k, model, reads),
    )
    asked = config_to_dict(config) | {
        "name": description.name, "k": k, "hookpoints": list(reads), "n_latents": coders[reads[0]].n_latents,
    }  # fmt: skip
    with context.store.write(
        "dictionary", config=asked, parents=parent_digests(config), stage_revision=context.stage_revision
    ) as writer:
        write_feed_forward(writer, description, coders)
    return writer.digest


def hidden_hookpoints(config: ReadFeedForwardConfig, model: VisionModel) -> tuple[str, ...]:
    """Those asked for, or the hidden layer of every block; raises ValueError where the model has none."""
    every = tuple(name for name in model.hookpoints() if name.endswith(HIDDEN))
    if not every:
        raise ConfigError("The blocks of this model have no MLP of two linear layers, whose units could be read.")
    return config.hookpoints or every


def shape_of(config: ReadFeedForwardConfig, model: VisionModel, read: str, k: int) -> FeedForwardShape:
    if not read.endswith(HIDDEN):
        raise ConfigError(f"'{read}' is not the hidden layer of an MLP; name it as blocks.7{HIDDEN}.")
    return FeedForwardShape(
        n_latents=model.width_of(read),
        d_out=model.width_of(read.replace(HIDDEN, WRITE)),
        k=k,
        selection=config.selection,
        is_normalized=config.scaling == "normalized",
    )


def poles_of(config: ReadFeedForwardConfig, k: int, model: VisionModel, reads: tuple[str, ...]) -> tuple[str, ...]:
    """Both, where values that are kept may lie below zero; the largest values of a token do not."""
    is_by_value = k > 0 and config.selection == "value"
    is_one_sided = config.poles == "positive" or is_by_value
    if is_one_sided or not any(has_negative_values(model, read) for read in reads):
        return (POSITIVE,)
    return (POSITIVE, NEGATIVE)
