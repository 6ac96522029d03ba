"""Seventy tiled images and a tiny ViT, for the tests of stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from workers.artifacts import Artifact, ArtifactStore
from workers.image_scan import scan_folder
from workers.images import write_image_set
from workers.stages.configs import StageConfig, TrainDictionaryConfig
from workers.stages.context import ChunkPlan, SilentReporter, StageContext
from workers.stages.local import run_locally
from workers.vision_model import ModelRequest, register_vision_model

N_IMAGES = 70
HOOKPOINTS = ("blocks.0", "blocks.1")


class TinyWorld(NamedTuple):
    store: ArtifactStore
    root: Path
    image_set: Artifact
    vision_model: Artifact

    def run(self, stage: str, config: StageConfig) -> list[Artifact]:
        roots = {self.image_set.digest: self.root}
        digests = run_locally(stage, config, self.store, roots, reporter=SilentReporter(), n_threads=1)
        return [self.store.open(digest) for digest in digests]

    def train(self, seed: int, *, hookpoints: tuple[str, ...] = HOOKPOINTS, n_latents: int = 64) -> Artifact:
        config = TrainDictionaryConfig(
            self.image_set.digest, self.vision_model.digest, hookpoints, name=f"sae-{seed}", n_latents=n_latents, k=4,
            n_tokens=20_000, batch_tokens=128, learning_rate=3e-3, seed=seed,
        )  # fmt: skip
        return self.run("train-dictionary", config)[0]

    def run_pieces(self, executor: Any, config: StageConfig, plans: list[ChunkPlan], folder: Path) -> list[str]:
        """Execute hand-made chunks, each twice as after a kill, and finish."""
        roots = {self.image_set.digest: self.root}
        context = StageContext(self.store, folder, folder, n_chunks=len(plans), image_roots=roots.__getitem__)
        for index, plan in enumerate(plans):
            for _attempt in range(2):
                context.chunk_folder = context.chunk(index)
                context.chunk_folder.mkdir(parents=True, exist_ok=True)
                executor.execute(config, plan.payload, context)
        digests: list[str] = executor.finish(config, context)["artifacts"]
        return digests


def make_tiny_world(folder: Path, *, n_classes: int = 0) -> TinyWorld:
    """With classes, the images are dealt out to folders named as the outputs of the model are."""
    images, store = folder / "images", ArtifactStore(folder / "store")
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(N_IMAGES):
        pixels = np.kron(rng.integers(0, 256, size=(4, 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        place = images / f"class {i % n_classes}" if n_classes else images
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place / f"{i:03d}.png")
    image_set = write_image_set(store, scan_folder(images), name="tiles", licence="CC0", visibility="public")
    kwargs = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
    model = register_vision_model(store, ModelRequest("vit_tiny_patch16_224", timm_kwargs=kwargs))
    return TinyWorld(store, images, image_set, model)
