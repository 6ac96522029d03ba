"""Stage evaluate-dictionary: explained variance, L0, dead and dense latents of a dictionary on an image set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.activations import FORWARD_BATCH, image_activations
from workers.dictionaries.quality import QualityAccumulator
from workers.dictionaries.store import Dictionary
from workers.stages.configs import EvaluateDictionaryConfig, config_to_dict, parent_digests
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.inputs import (
    encoder_flops,
    forward_flops,
    hookpoints_read,
    open_dictionary,
    open_images,
    open_model,
    units_per_chunk,
)
from workers.vision_model import VisionModel

SUMS = "sums.safetensors"


def plan(config: EvaluateDictionaryConfig, context: StageContext) -> list[ChunkPlan]:
    dictionary = open_dictionary(config.dictionary, context)
    model = open_model(dictionary.description.vision_model, context)
    n_images = min(config.max_images, len(open_images(config.image_set, context)))
    fitting = units_per_chunk(forward_flops(model) + 2 * encoder_flops(model, [dictionary]), context)
    at_once = max(FORWARD_BATCH, min(fitting, config.images_per_chunk) // FORWARD_BATCH * FORWARD_BATCH)
    ranges = [(start, min(start + at_once, n_images)) for start in range(0, n_images, at_once)]
    return [ChunkPlan(0, {"start": start, "stop": stop}, n_units=stop - start) for start, stop in ranges]


def execute(config: EvaluateDictionaryConfig, payload: dict[str, Any], context: StageContext) -> None:
    dictionary = open_dictionary(config.dictionary, context)
    model = open_model(dictionary.description.vision_model, context)
    reader = open_images(config.image_set, context)
    chosen = spread_evenly(len(reader), config.max_images)[payload["start"] : payload["stop"]]
    accumulators = fresh_accumulators(dictionary, model)
    done = 0
    for part in image_activations(model, reader, hookpoints_read([dictionary]), chosen, n_threads=context.n_threads):
        measure(dictionary, part.activations, accumulators)
        done += len(part.indices)
        context.progress(done)
        context.raise_if_cancelled()
    tensors = {f"{h}/{name}": t for h, sums in accumulators.items() for name, t in sums.tensors().items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, context.chunk_folder / SUMS)


def finish(config: EvaluateDictionaryConfig, context: StageContext) -> dict[str, list[str]]:
    dictionary = open_dictionary(config.dictionary, context)
    model = open_model(dictionary.description.vision_model, context)
    merged = fresh_accumulators(dictionary, model)
    for chunk in range(context.n_chunks):
        tensors = load_file(context.chunk(chunk) / SUMS)
        for hookpoint, part in fresh_accumulators(dictionary, model).items():
            part.restore(tensors_of(hookpoint, tensors))
            merged[hookpoint].merge(part)
    with context.store.write(
        "quality",
        config=config_to_dict(config),
        parents=parent_digests(config),
        stage_revision=context.stage_revision,
        device=context.device,
    ) as writer:
        writer.write_json("quality.json", {hookpoint: sums.finish() for hookpoint, sums in merged.items()})
        densities = {hookpoint: sums.density() for hookpoint, sums in merged.items()}
        save_file(densities, writer.folder / "density.safetensors")
        record = {"dictionary": dictionary.digest, "image_set": config.image_set, "kind": dictionary.kind}
        writer.write_json("evaluation.json", record)
    return {"artifacts": [writer.digest]}


def spread_evenly(n_images: int, n_chosen: int) -> list[int]:
    """Images at even distances, because image sets are often sorted by class."""
    n = min(n_images, n_chosen)
    return [i * n_images // n for i in range(n)]


def fresh_accumulators(dictionary: Dictionary, model: VisionModel) -> dict[str, QualityAccumulator]:
    return {
        read: QualityAccumulator(
            d_model=model.width_of(write),
            n_latents=dictionary.n_latents(read),
            n_prefix_tokens=model.n_prefix_tokens,
        )
        for read, write in zip(dictionary.reads, dictionary.writes, strict=True)
    }


def measure(
    dictionary: Dictionary, activations: Mapping[str, Tensor], accumulators: Mapping[str, QualityAccumulator]
) -> None:
    for read, write in zip(dictionary.reads, dictionary.writes, strict=True):
        codes = dictionary.encode(read, activations[read].flatten(0, 1))
        reconstruction = dictionary.decode({read: codes})[write].view_as(activations[write])
        accumulators[read].update(activations[write], reconstruction, codes)


def tensors_of(hookpoint: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{hookpoint}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
