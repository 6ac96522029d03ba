"""What several executors read: models, images and dictionaries by digest, and how much work fits into one chunk.

Weights are hashed before they are read, once by each process as long as their file stays the same: a truncated or
altered file must not pass for the dictionary or the model it was.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from workers.artifacts import Artifact
from workers.dictionaries.store import Dictionary, load_dictionary
from workers.images import ImageSetReader
from workers.stages.configs import ConfigError
from workers.stages.context import StageContext
from workers.vision_model import VisionModel, load_vision_model

CPU_FLOPS = 4e10  # measured on one core, shared
GPU_FLOPS = 1e13
FLOPS_PER_WEIGHT = 2
MOST_CHUNKS = 250_000  # six weeks of chunks of 15 seconds
WEIGHTS_PER_BLOCK = 12  # of a ViT block, in units of d_model²


def open_images(digest: str, context: StageContext) -> ImageSetReader:
    return ImageSetReader(context.store.open(digest, kind="image-set"), context.image_root(digest))


def open_model(digest: str, context: StageContext) -> VisionModel:
    return load_vision_model(verified(context.store.open(digest, kind="vision-model")), context.device)


def open_dictionary(digest: str, context: StageContext) -> Dictionary:
    return load_dictionary(verified(context.store.open(digest, kind="dictionary")), context.device)


def verified(artifact: Artifact) -> Artifact:
    """The same artefact; raises ArtifactError naming the first file that is not the one that was written."""
    stats = [artifact.path(name).stat() for name in artifact.manifest["files"]]
    verify_once(artifact, tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats))
    return artifact


@functools.lru_cache(maxsize=256)
def verify_once(artifact: Artifact, state: tuple[tuple[int, ...], ...]) -> None:
    """Hash every file, unless they were hashed in this state before; errors are not remembered."""
    artifact.verify()


def require_fit(dictionary: Dictionary, model: VisionModel) -> None:
    """Raises ValueError where the dictionary reads or writes other hookpoints or widths than its model has."""
    for read in dictionary.reads:
        width, wanted = dictionary.width_read(read), model.width_of(read)
        if width != wanted:
            raise ConfigError(
                f"The dictionary reads vectors of width {width} at {read}, where its vision model has {wanted}; "
                "it was made for another model."
            )
        for write in dictionary.writes_of(read):
            width, wanted = dictionary.decoder_directions(read, write).shape[1], model.width_of(write)
            if width != wanted:
                raise ConfigError(
                    f"The dictionary writes vectors of width {width} at {write}, where its vision model has {wanted}; "
                    "it was made for another model."
                )


def open_dictionaries(digests: Sequence[str], context: StageContext) -> list[Dictionary]:
    """Dictionaries of one vision model; raises ValueError if they are of several."""
    dictionaries = [open_dictionary(digest, context) for digest in digests]
    models = {dictionary.description.vision_model for dictionary in dictionaries}
    if len(models) > 1:
        raise ConfigError(
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


def require_few_chunks(n_chunks: int, context: StageContext) -> None:
    """Raise ConfigError for a run of so many chunks that the list of them would fill the database."""
    if n_chunks > MOST_CHUNKS:
        raise ConfigError(
            f"The run would be cut into {n_chunks:,} chunks of some {context.chunk_seconds:g} seconds on this machine; "
            f"the most is {MOST_CHUNKS:,}. Take fewer tokens or epochs, a smaller model or dictionary, or a faster "
            "machine."
        )


def units_per_chunk(flops_per_unit: float, context: StageContext) -> int:
    """How many units fit into a chunk on this device; the result of a stage does not depend on it."""
    flops = GPU_FLOPS if context.device == "cuda" else CPU_FLOPS
    return max(1, int(context.chunk_seconds * flops / flops_per_unit))
