"""Stage collect-exemplars: one pass over the images for every dictionary of one vision model (design.md §7).

The images are dealt out to a few lanes that may run on different hosts. A lane goes chunk by chunk, each chunk taking
up its lane's accumulators, so the disk holds a few partial results and not one per chunk; ``finish`` merges the lanes.
Accumulators merge to the same bytes however the images were dealt out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from workers.activations import FORWARD_BATCH, image_activations
from workers.dictionaries.store import POSITIVE, Dictionary, pole_codes
from workers.exemplars.accumulator import ExemplarAccumulator, ExemplarSettings, load_accumulator, merge_all
from workers.exemplars.logit_lens import promoted_classes
from workers.readouts import Readout, class_directions, load_readout
from workers.stages.configs import CollectExemplarsConfig
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.inputs import (
    encoder_flops,
    forward_flops,
    hookpoints_read,
    open_dictionaries,
    open_images,
    open_model,
    units_per_chunk,
)
from workers.vision_model import VisionModel

MAX_LANES = 4


class Place(NamedTuple):
    """What one accumulator is of."""

    dictionary: int
    hookpoint: str
    pole: str

    @property
    def part_name(self) -> str:
        return f"{self.dictionary}.{self.hookpoint}.{self.pole}.safetensors"

    @property
    def file_name(self) -> str:
        return f"{self.hookpoint}.safetensors" if self.pole == POSITIVE else f"{self.hookpoint}.{self.pole}.safetensors"


def plan(config: CollectExemplarsConfig, context: StageContext) -> list[ChunkPlan]:
    dictionaries = open_dictionaries(config.dictionaries, context)
    model = open_model(dictionaries[0].description.vision_model, context)
    n_images = len(open_images(config.image_set, context))
    fitting = units_per_chunk(forward_flops(model) + encoder_flops(model, dictionaries), context)
    at_once = max(FORWARD_BATCH, min(fitting, config.images_per_chunk) // FORWARD_BATCH * FORWARD_BATCH)
    starts = range(0, n_images, at_once)
    n_lanes = min(MAX_LANES, len(starts))
    chunks = []
    for chunk, start in enumerate(starts):
        stop = min(start + at_once, n_images)
        payload = {"start": start, "stop": stop, "previous": chunk - n_lanes}
        is_last_of_lane = chunk + n_lanes >= len(starts)
        phase = chunk // n_lanes
        chunks.append(ChunkPlan(phase, payload, n_units=stop - start, is_checkpoint=not is_last_of_lane))
    return chunks


def execute(config: CollectExemplarsConfig, payload: dict[str, Any], context: StageContext) -> None:
    dictionaries = open_dictionaries(config.dictionaries, context)
    model = open_model(dictionaries[0].description.vision_model, context)
    reader = open_images(config.image_set, context)
    accumulators = take_up(config, payload["previous"], dictionaries, model, context)
    images = range(payload["start"], payload["stop"])
    parts = image_activations(model, reader, hookpoints_read(dictionaries), images, n_threads=context.n_threads)
    for part in parts:
        collect(torch.tensor(part.indices), part.activations, dictionaries, accumulators)
        context.progress(part.indices[-1] + 1 - payload["start"])
        context.raise_if_cancelled()
    for place, accumulator in accumulators.items():
        accumulator.save(context.chunk_folder / place.part_name)


def finish(config: CollectExemplarsConfig, context: StageContext) -> dict[str, list[str]]:
    dictionaries = open_dictionaries(config.dictionaries, context)
    model = open_model(dictionaries[0].description.vision_model, context)
    digests = [write_exemplars(config, context, i, dictionary, model) for i, dictionary in enumerate(dictionaries)]
    return {"artifacts": digests}


def places_of(dictionary: int, loaded: Dictionary) -> Iterator[Place]:
    for hookpoint in loaded.reads:
        for pole in loaded.poles:
            yield Place(dictionary, hookpoint, pole)


def collect(
    images: Tensor,
    activations: Mapping[str, Tensor],
    dictionaries: Sequence[Dictionary],
    accumulators: Mapping[Place, ExemplarAccumulator],
) -> None:
    """Take one batch of images into every accumulator; each hookpoint is encoded once per dictionary."""
    for number, dictionary in enumerate(dictionaries):
        for hookpoint in dictionary.reads:
            codes = dictionary.encode(hookpoint, activations[hookpoint].flatten(0, 1))
            for pole in dictionary.poles:
                accumulators[Place(number, hookpoint, pole)].update(images, pole_codes(codes, pole))


def take_up(
    config: CollectExemplarsConfig,
    previous: int,
    dictionaries: Sequence[Dictionary],
    model: VisionModel,
    context: StageContext,
) -> dict[Place, ExemplarAccumulator]:
    """The accumulators the lane's previous chunk left, or fresh ones."""
    places = [place for number, dictionary in enumerate(dictionaries) for place in places_of(number, dictionary)]
    if previous >= 0:
        return {place: load_accumulator(context.chunk(previous) / place.part_name) for place in places}
    accumulators = {}
    for place in places:
        settings = ExemplarSettings(
            n_latents=dictionaries[place.dictionary].n_latents(place.hookpoint),
            n_patches=model.n_patches,
            n_prefix_tokens=model.n_prefix_tokens,
            n_top=config.n_top,
            seed=config.seed,
        )
        accumulators[place] = ExemplarAccumulator(settings)
    return accumulators


def last_of_lanes(context: StageContext) -> list[int]:
    """The chunks that end a lane: as many as there are lanes, at the end of the plan."""
    return list(range(context.n_chunks - min(MAX_LANES, context.n_chunks), context.n_chunks))


def write_exemplars(
    config: CollectExemplarsConfig, context: StageContext, number: int, dictionary: Dictionary, model: VisionModel
) -> str:
    asked = {
        "image_set": config.image_set, "dictionary": dictionary.digest, "readout": config.readout,
        "n_top": config.n_top, "seed": config.seed,
    }  # fmt: skip
    parents = [config.image_set, dictionary.digest] + ([config.readout] if config.readout else [])
    readout = open_readout(config, context)
    directions = None if readout is None else class_directions(model, readout)
    with context.store.write(
        "exemplars", config=asked, parents=parents, stage_revision=context.stage_revision, seed=config.seed
    ) as writer:
        record: dict[str, Any] = {}
        for place in places_of(number, dictionary):
            parts = [load_accumulator(context.chunk(c) / place.part_name) for c in last_of_lanes(context)]
            merged = merge_all(parts)
            tensors = merged.finish() | logit_tensors(dictionary, place, directions)
            save_tensors(tensors, writer.folder / place.file_name)
            record = {"settings": asdict(merged.settings), "n_images": merged.n_images, "n_tokens": merged.n_tokens}
        classes = model.classes if readout is None else readout.classes
        writer.write_json("exemplars.json", record | describe(config, dictionary, model) | {"classes": list(classes)})
    return writer.digest


def describe(config: CollectExemplarsConfig, dictionary: Dictionary, model: VisionModel) -> dict[str, Any]:
    return {
        "dictionary": dictionary.digest,
        "image_set": config.image_set,
        "vision_model": dictionary.description.vision_model,
        "readout": config.readout,
        "grid": list(model.grid),
        "n_prefix_tokens": model.n_prefix_tokens,
        "hookpoints": list(dictionary.reads),
        "n_latents": {hookpoint: dictionary.n_latents(hookpoint) for hookpoint in dictionary.reads},
        "poles": list(dictionary.poles),
    }


def open_readout(config: CollectExemplarsConfig, context: StageContext) -> Readout | None:
    return load_readout(context.store.open(config.readout, kind="readout")) if config.readout else None


def logit_tensors(dictionary: Dictionary, place: Place, directions: Tensor | None) -> dict[str, Tensor]:
    """The logit lens where there is a readout and the decoder writes into the residual stream's width."""
    written = dictionary.decoder_directions(place.hookpoint).cpu()
    if directions is None or directions.shape[1] != written.shape[1]:
        return {}
    sign = 1.0 if place.pole == POSITIVE else -1.0
    promoted = promoted_classes(sign * written, directions)
    return {"logit_class": promoted.classes.short(), "logit_value": promoted.values.float()}


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
