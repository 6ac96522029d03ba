"""What several executors read: models, images and dictionaries by digest, and how much work fits into one chunk."""

from __future__ import annotations

from collections.abc import Sequence

from workers.dictionaries.store import Dictionary, load_dictionary
from workers.images import ImageSetReader
from workers.stages.context import StageContext
from workers.vision_model import VisionModel, load_vision_model

CPU_FLOPS = 4e10  # measured on one core, shared
GPU_FLOPS = 1e13
FLOPS_PER_WEIGHT = 2
WEIGHTS_PER_BLOCK = 12  # of a ViT block, in units of d_model²


def open_images(digest: str, context: StageContext) -> ImageSetReader:
    return ImageSetReader(context.store.open(digest, kind="image-set"), context.image_root(digest))


def open_model(digest: str, context: StageContext) -> VisionModel:
    return load_vision_model(context.store.open(digest, kind="vision-model"), context.device)


def open_dictionary(digest: str, context: StageContext) -> Dictionary:
    return load_dictionary(context.store.open(digest, kind="dictionary"), context.device)


def open_dictionaries(digests: Sequence[str], context: StageContext) -> list[Dictionary]:
    """Dictionaries of one vision model; raises ValueError if they are of several."""
    dictionaries = [open_dictionary(digest, context) for digest in digests]
    models = {dictionary.description.vision_model for dictionary in dictionaries}
    if len(models) > 1:
        raise ValueError(
            f"The dictionaries belong to {len(models)} vision models; collect for those of one model at a time."
        )
    return dictionaries


def hookpoints_read(dictionaries: Sequence[Dictionary]) -> list[str]:
    """Every hookpoint that some dictionary reads or writes, each once, in order of appearance."""
    names = [name for dictionary in dictionaries for name in (*dictionary.reads, *dictionary.writes)]
    return list(dict.fromkeys(names))


def forward_flops(model: VisionModel) -> float:
    """Operations of one image's forward pass, attention's own products left out."""
    weights = WEIGHTS_PER_BLOCK * model.n_blocks * model.d_model**2
    return float(FLOPS_PER_WEIGHT * model.n_tokens * weights)


def encoder_flops(model: VisionModel, dictionaries: Sequence[Dictionary]) -> float:
    """Operations of encoding one image with every dictionary."""
    weights = sum(one.n_encoder_weights(hookpoint) for one in dictionaries for hookpoint in one.reads)
    return float(FLOPS_PER_WEIGHT * model.n_tokens * weights)


def units_per_chunk(flops_per_unit: float, context: StageContext) -> int:
    """How many units fit into a chunk on this device; the result of a stage does not depend on it."""
    flops = GPU_FLOPS if context.device == "cuda" else CPU_FLOPS
    return max(1, int(context.chunk_seconds * flops / flops_per_unit))
