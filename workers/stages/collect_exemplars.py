"""Stage collect-exemplars: one pass over the images for every dictionary of one vision model (design.md §7).

The images are dealt out to a few lanes that may run on different hosts. A lane goes chunk by chunk, each chunk taking
up its lane's accumulators, so the disk holds a few partial results and not one per chunk; ``finish`` merges the lanes.
Accumulators merge to the same bytes however the images were dealt out.

A dictionary whose exemplars are there already is passed over; another costs its encoder and its accumulators, the
forward pass being common to all. Where accumulators are large, chunks are longer, so that taking them up and putting
them down stays a small part of the work.
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
from workers.artifacts import Artifact
from workers.dictionaries.feed_forward import block_at, layer_scale
from workers.dictionaries.store import POSITIVE, Dictionary, pole_codes
from workers.exemplars.accumulator import ExemplarAccumulator, ExemplarSettings, load_accumulator, merge_all
from workers.exemplars.activation_counts import BYTES_PER_LATENT as COUNTS_BYTES
from workers.exemplars.logit_lens import promoted_classes
from workers.images import ImageSetReader
from workers.readouts import Readout, class_directions, load_readout
from workers.stages.configs import CollectExemplarsConfig
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.inputs import (
    encoder_flops,
    forward_flops,
    open_dictionaries,
    open_images,
    open_model,
    require_fit,
    units_per_chunk,
)
from workers.stages.memory import OutOfMemoryError, is_out_of_memory
from workers.vision_model import VisionModel

MAX_LANES = 4
DISK_BYTES_PER_SECOND = 3e8  # of a state written and read again; a guess, on the slow side
STATE_SHARE = 0.2  # of a chunk's time that may go into its state
LONGEST_STRETCH = 4  # how many times as long as others a chunk may get for the sake of it
GPU_SHARE = 0.3  # of the free memory of a GPU that accumulators may take; else they stay with the CPU


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
    wanted = [i for i, dictionary in enumerate(dictionaries) if exemplars_of(config, dictionary, context) is None]
    if not wanted:
        return [ChunkPlan(0, {"start": 0, "stop": 0, "previous": -1, "dictionaries": []})]
    model = open_model(dictionaries[0].description.vision_model, context)
    for number in wanted:
        require_fit(dictionaries[number], model)
    n_images = len(open_images(config.image_set, context))
    at_once = images_at_once(config, context, model, [dictionaries[i] for i in wanted])
    starts = range(0, n_images, at_once)
    n_lanes = min(MAX_LANES, len(starts))
    chunks = []
    for chunk, start in enumerate(starts):
        stop = min(start + at_once, n_images)
        payload = {"start": start, "stop": stop, "previous": chunk - n_lanes, "dictionaries": wanted}
        is_last_of_lane = chunk + n_lanes >= len(starts)
        phase = chunk // n_lanes
        chunks.append(ChunkPlan(phase, payload, n_units=stop - start, is_checkpoint=not is_last_of_lane))
    return chunks


def images_at_once(
    config: CollectExemplarsConfig, context: StageContext, model: VisionModel, dictionaries: Sequence[Dictionary]
) -> int:
    """Images of a chunk: whole batches, as many as fit into its time and are worth its state."""
    fitting = units_per_chunk(forward_flops(model) + encoder_flops(model, dictionaries), context)
    state_seconds = 2 * state_bytes(config, model, dictionaries) / DISK_BYTES_PER_SECOND
    stretch = min(max(state_seconds / STATE_SHARE / context.chunk_seconds, 1.0), LONGEST_STRETCH)
    wanted = min(int(fitting * stretch), config.images_per_chunk)
    return max(FORWARD_BATCH, wanted // FORWARD_BATCH * FORWARD_BATCH)


def state_bytes(config: CollectExemplarsConfig, model: VisionModel, dictionaries: Sequence[Dictionary]) -> int:
    """What all accumulators hold, to within a few percent."""
    shown = model.n_patches + torch.int64.itemsize + torch.int32.itemsize + torch.float32.itemsize
    settings = ExemplarSettings(1, model.n_patches, model.n_prefix_tokens, config.n_top)
    ranges = 7 * settings.n_per_range
    per_latent = (config.n_top + ranges) * shown + settings.n_contrast * (shown - model.n_patches)
    n_latents = sum(one.n_latents(read) * len(one.poles) for one in dictionaries for read in one.reads)
    return (per_latent + COUNTS_BYTES) * n_latents


def execute(config: CollectExemplarsConfig, payload: dict[str, Any], context: StageContext) -> None:
    if not payload["dictionaries"]:
        return
    opened = open_dictionaries(config.dictionaries, context)
    dictionaries = {number: opened[number] for number in payload["dictionaries"]}
    model = open_model(opened[0].description.vision_model, context)
    reader = open_images(config.image_set, context)
    images = range(payload["start"], payload["stop"])
    is_lowered = config.precision == "bfloat16" and context.device == "cuda"
    try:
        accumulators = take_up(config, payload["previous"], dictionaries, model, context)
        with torch.autocast(context.device, torch.bfloat16, enabled=is_lowered):
            collect_images(model, reader, images, dictionaries, accumulators, context)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        gigabytes = state_bytes(config, model, list(dictionaries.values())) / 1e9
        raise OutOfMemoryError(
            f"Memory ran out: the tables of exemplars take {gigabytes:,.1f} GB, and the model and {len(dictionaries)} "
            f"dictionaries are applied to {FORWARD_BATCH} images at a time; collect for fewer dictionaries at once, or "
            "keep fewer top images."
        ) from error
    for place, accumulator in accumulators.items():
        accumulator.save(context.chunk_folder / place.part_name)


def finish(config: CollectExemplarsConfig, context: StageContext) -> dict[str, list[str]]:
    dictionaries = open_dictionaries(config.dictionaries, context)
    model = open_model(dictionaries[0].description.vision_model, context)
    digests = []
    for number, dictionary in enumerate(dictionaries):
        if is_collected(number, dictionary, context):
            digests.append(write_exemplars(config, context, number, dictionary, model))
            continue
        found = exemplars_of(config, dictionary, context)
        if found is None:
            raise ValueError(
                f"The exemplars of the dictionary {dictionary.digest[:12]} were removed while the others were "
                "collected; start the run again."
            )
        digests.append(found.digest)
    return {"artifacts": digests}


def is_collected(number: int, dictionary: Dictionary, context: StageContext) -> bool:
    """Whether this run's chunks hold its exemplars; they do not where they were there before."""
    place = next(places_of(number, dictionary))
    return (context.chunk(last_of_lanes(context)[0]) / place.part_name).exists()


def collect_images(
    model: VisionModel,
    reader: ImageSetReader,
    images: range,
    dictionaries: Mapping[int, Dictionary],
    accumulators: Mapping[Place, ExemplarAccumulator],
    context: StageContext,
) -> None:
    """Raises ValueError naming the first image whose activations are not finite."""
    hookpoints = list(dict.fromkeys(read for dictionary in dictionaries.values() for read in dictionary.reads))
    for part in image_activations(model, reader, hookpoints, images, n_threads=context.n_threads):
        require_finite(part.activations, part.indices, reader)
        collect(torch.tensor(part.indices), part.activations, dictionaries, accumulators)
        context.progress(part.indices[-1] + 1 - images.start)
        context.raise_if_cancelled()


def require_finite(activations: Mapping[str, Tensor], images: Sequence[int], reader: ImageSetReader) -> None:
    sums = torch.stack([tokens.sum(dtype=torch.float32) for tokens in activations.values()])
    if bool(sums.isfinite().all()):
        return
    for hookpoint, tokens in activations.items():
        bad = (~tokens.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
        if bad:
            raise ValueError(
                f"The activations at {hookpoint} are not finite for {len(bad)} of {len(images)} images, the first "
                f"'{reader.paths[images[bad[0]]]}'; check the weights and the preprocessing of the vision model."
            )


def places_of(dictionary: int, loaded: Dictionary) -> Iterator[Place]:
    for hookpoint in loaded.reads:
        for pole in loaded.poles:
            yield Place(dictionary, hookpoint, pole)


def collect(
    images: Tensor,
    activations: Mapping[str, Tensor],
    dictionaries: Mapping[int, Dictionary],
    accumulators: Mapping[Place, ExemplarAccumulator],
) -> None:
    """Take one batch of images into every accumulator; each hookpoint is encoded once per dictionary."""
    for number, dictionary in dictionaries.items():
        for hookpoint in dictionary.reads:
            codes = dictionary.encode(hookpoint, activations[hookpoint].flatten(0, 1).float())
            for pole in dictionary.poles:
                accumulators[Place(number, hookpoint, pole)].update(images, pole_codes(codes, pole))


def take_up(
    config: CollectExemplarsConfig,
    previous: int,
    dictionaries: Mapping[int, Dictionary],
    model: VisionModel,
    context: StageContext,
) -> dict[Place, ExemplarAccumulator]:
    """The accumulators the lane's previous chunk left, or fresh ones."""
    places = [place for number, dictionary in dictionaries.items() for place in places_of(number, dictionary)]
    device = device_of_accumulators(state_bytes(config, model, list(dictionaries.values())), context)
    if previous >= 0:
        return {place: load_accumulator(context.chunk(previous) / place.part_name, device) for place in places}
    accumulators = {}
    for place in places:
        settings = ExemplarSettings(
            n_latents=dictionaries[place.dictionary].n_latents(place.hookpoint),
            n_patches=model.n_patches,
            n_prefix_tokens=model.n_prefix_tokens,
            n_top=config.n_top,
            seed=config.seed,
        )
        accumulators[place] = ExemplarAccumulator(settings, device)
    return accumulators


def device_of_accumulators(n_bytes: int, context: StageContext) -> str:
    """Beside the codes where there is room, so that only what is shown ever leaves the GPU."""
    if context.device == "cpu":
        return "cpu"
    free, _ = torch.cuda.mem_get_info()
    return context.device if n_bytes <= GPU_SHARE * free else "cpu"


def last_of_lanes(context: StageContext) -> list[int]:
    """The chunks that end a lane: as many as there are lanes, at the end of the plan."""
    return list(range(context.n_chunks - min(MAX_LANES, context.n_chunks), context.n_chunks))


def asked_of(config: CollectExemplarsConfig, dictionary: Dictionary) -> dict[str, Any]:
    """What the exemplars of one dictionary depend on."""
    return {
        "image_set": config.image_set, "dictionary": dictionary.digest, "readout": config.readout,
        "n_top": config.n_top, "precision": config.precision, "seed": config.seed,
    }  # fmt: skip


def parents_of(config: CollectExemplarsConfig, dictionary: Dictionary) -> list[str]:
    return [config.image_set, dictionary.digest] + ([config.readout] if config.readout else [])


def exemplars_of(config: CollectExemplarsConfig, dictionary: Dictionary, context: StageContext) -> Artifact | None:
    """The exemplars that an earlier run collected with the same settings."""
    asked, parents = asked_of(config, dictionary), parents_of(config, dictionary)
    return context.store.find(context.store.request_key("exemplars", context.stage_revision, asked, parents))


def write_exemplars(
    config: CollectExemplarsConfig, context: StageContext, number: int, dictionary: Dictionary, model: VisionModel
) -> str:
    readout = open_readout(config, context)
    directions = None if readout is None else class_directions(model, readout)
    with context.store.write(
        "exemplars", config=asked_of(config, dictionary), parents=parents_of(config, dictionary),
        stage_revision=context.stage_revision, seed=config.seed,
    ) as writer:  # fmt: skip
        record: dict[str, Any] = {}
        for place in places_of(number, dictionary):
            merged = merge_all(load_accumulator(context.chunk(c) / place.part_name) for c in last_of_lanes(context))
            tensors = merged.finish() | logit_tensors(dictionary, place, model, directions)
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


def logit_tensors(
    dictionary: Dictionary, place: Place, model: VisionModel, directions: Tensor | None
) -> dict[str, Tensor]:
    """The logit lens, where there is a readout and the latents write into the residual stream.

    A cross-layer transcoder's latents are judged by what they write last.
    """
    write = dictionary.writes_of(place.hookpoint)[-1]
    if directions is None or write.endswith((".mlp.in", ".mlp.hidden")):
        return {}
    written = dictionary.decoder_directions(place.hookpoint, write).float().cpu()
    if write.endswith(".mlp.out"):
        written = written * layer_scale(block_at(model, write))
    sign = 1.0 if place.pole == POSITIVE else -1.0
    promoted = promoted_classes(sign * written, directions.cpu())
    return {"logit_class": promoted.classes.short(), "logit_value": promoted.values.float()}


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
