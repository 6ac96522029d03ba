"""Stage embed-images: one unit vector per image, so that the silent image that looks most like another can be found.

The vector is [CLS; mean patch] of the final tokens (the mean patch alone where there is no CLS), of norm 1 and kept in
half precision: cosines are then right to about 1e-3.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.activations import FORWARD_BATCH
from workers.readouts import cls_and_mean_patch, final_tokens
from workers.stages.configs import EmbedImagesConfig, parent_digests
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.inputs import forward_flops, open_images, open_model, units_per_chunk
from workers.vision_model import VisionModel

FILE = "embeddings.safetensors"
NAME = "embeddings"


def plan(config: EmbedImagesConfig, context: StageContext) -> list[ChunkPlan]:
    model = open_model(config.vision_model, context)
    n_images = len(open_images(config.image_set, context))
    fitting = min(units_per_chunk(forward_flops(model), context), config.images_per_chunk)
    at_once = max(FORWARD_BATCH, fitting // FORWARD_BATCH * FORWARD_BATCH)
    spans = [(start, min(start + at_once, n_images)) for start in range(0, n_images, at_once)]
    return [ChunkPlan(0, {"start": start, "stop": stop}, n_units=stop - start) for start, stop in spans]


def execute(config: EmbedImagesConfig, payload: dict[str, Any], context: StageContext) -> None:
    model = open_model(config.vision_model, context)
    reader = open_images(config.image_set, context)
    parts: list[Tensor] = []
    n_done = 0
    for tokens in final_tokens(model, reader, range(payload["start"], payload["stop"]), context.n_threads):
        parts.append(embedded(model, tokens).cpu())
        n_done += tokens.shape[0]
        context.progress(n_done)
        context.raise_if_cancelled()
    save_file({NAME: torch.cat(parts).contiguous()}, context.chunk_folder / FILE)


def embedded(model: VisionModel, tokens: Float[Tensor, "image token d_model"]) -> Float[Tensor, "image width"]:
    pooled = cls_and_mean_patch(model, tokens) if model.n_prefix_tokens else tokens.mean(dim=1)
    return F.normalize(pooled.float(), dim=1).half()


def finish(config: EmbedImagesConfig, context: StageContext) -> dict[str, list[str]]:
    parts = [load_file(context.chunk(index) / FILE)[NAME] for index in range(context.n_chunks)]
    embeddings = torch.cat(parts).contiguous()
    with context.store.write(
        "image-embeddings",
        config={"image_set": config.image_set, "vision_model": config.vision_model},
        parents=parent_digests(config),
        stage_revision=context.stage_revision,
        device=context.device,
    ) as writer:
        save_file({NAME: embeddings}, writer.folder / FILE)
        facts = {"image_set": config.image_set, "vision_model": config.vision_model}
        writer.write_json("embeddings.json", facts | {"shape": list(embeddings.shape)})
    return {"artifacts": [writer.digest]}
