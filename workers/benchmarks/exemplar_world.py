"""Image files, a small ViT and dictionaries for ./run bench exemplars, and the stage run by processes of its own.

``python -m workers.benchmarks.exemplar_world WORLD JOB`` is one process: it executes what JOB says with the same
executor as a worker, and says what memory it took at most. So memory is that of nothing else, and shards are shards.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from workers.artifacts import ArtifactStore
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder
from workers.dictionaries.store import DictionaryDescription, write_coders
from workers.image_scan import scan_folder
from workers.images import write_image_set
from workers.stages import collect_exemplars
from workers.stages.configs import CollectExemplarsConfig
from workers.stages.context import SilentReporter, StageContext, attempt_folder, publish_chunk
from workers.stages.local import run_locally
from workers.vision_model import ModelRequest, register_vision_model

SMALL_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2, "num_classes": 4}
HOOKPOINTS = ("blocks.0", "blocks.1")
MEGABYTE = 1024


class World(NamedTuple):
    """Where everything lies, and the digests of an image set of each size and of the dictionaries."""

    folder: Path
    image_sets: dict[int, str]
    dictionaries: tuple[str, ...]

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.folder / "artifacts")

    def config(self, n_images: int, dictionaries: Sequence[str] = ()) -> CollectExemplarsConfig:
        return CollectExemplarsConfig(self.image_sets[n_images], tuple(dictionaries) or self.dictionaries)

    def save(self) -> None:
        record = {"image_sets": self.image_sets, "dictionaries": self.dictionaries}
        (self.folder / "world.json").write_text(json.dumps(record))


def load_world(folder: Path) -> World:
    record = json.loads((folder / "world.json").read_text())
    image_sets = {int(n_images): digest for n_images, digest in record["image_sets"].items()}
    return World(folder, image_sets, tuple(record["dictionaries"]))


def make_world(folder: Path, sizes: Sequence[int], *, n_latents: int, k: int) -> World:
    """Images of tiles; each image set is the first so many of them."""
    store = ArtifactStore(folder / "artifacts")
    rng = np.random.default_rng(0)
    image_sets: dict[int, str] = {}
    for size in sorted(sizes):
        root = folder / f"images-{size}"
        root.mkdir(parents=True)
        for number in range(size):
            tiles = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(tiles.repeat(8, 0).repeat(8, 1)).save(root / f"{number:06}.png", compress_level=1)
        image_set = write_image_set(store, scan_folder(root), name=str(size), licence="CC0", visibility="public")
        image_sets[size] = image_set.digest
    model = register_vision_model(store, ModelRequest("vit_tiny_patch16_224", timm_kwargs=SMALL_VIT))
    world = World(folder, image_sets, (write_dictionary(store, model.digest, n_latents, k, image_sets[min(sizes)]),))
    world.save()
    return world


def write_dictionary(store: ArtifactStore, model: str, n_latents: int, k: int, image_set: str) -> str:
    description = DictionaryDescription("topk_sae", "random", HOOKPOINTS, HOOKPOINTS, model, image_set)
    coders = {}
    for number, hookpoint in enumerate(HOOKPOINTS):
        coders[hookpoint] = SparseCoder(CoderShape(d_model=SMALL_VIT["embed_dim"], n_latents=n_latents, k=k))
        initialize_coder(coders[hookpoint], torch.Generator().manual_seed(number))
    with store.write("dictionary", config={"k": k, "n_latents": n_latents}, parents=[model]) as writer:
        write_coders(writer, description, coders)
    return writer.digest


def run_process(world: World, *job: str) -> subprocess.Popen[str]:
    """Start one process; ``answer_of`` waits for it."""
    command = [sys.executable, "-m", "workers.benchmarks.exemplar_world", str(world.folder), *job]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def answer_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"A process of the benchmark ended with {process.returncode}: {' '.join(process.args)}")  # type: ignore[arg-type]
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


def collect_whole(world: World, n_images: int) -> list[str]:
    """The stage from plan to finish in this process."""
    root = world.folder / f"images-{n_images}"
    config, silent = world.config(n_images), SilentReporter()
    return run_locally("collect-exemplars", config, world.store, lambda _: root, reporter=silent, n_threads=1)


def context_of(world: World, n_images: int, run_folder: Path, n_chunks: int) -> StageContext:
    root = world.folder / f"images-{n_images}"
    context = StageContext(world.store, run_folder, run_folder, n_chunks=n_chunks, image_roots=lambda _: root)
    context.stage_revision = -1  # so that no other measurement's result is found in its place
    return context


def collect_shard(world: World, n_images: int, run_folder: Path, shard: int, n_shards: int) -> None:
    """One worker's part: its range of the images."""
    context = context_of(world, n_images, run_folder, n_shards)
    context.chunk_folder = attempt_folder(run_folder, f"work-{shard}", 1)
    bounds = [n_images * number // n_shards for number in range(n_shards + 1)]
    payload = {"start": bounds[shard], "stop": bounds[shard + 1], "previous": -1, "dictionaries": [0]}
    collect_exemplars.execute(world.config(n_images), payload, context)
    publish_chunk(context.chunk_folder, context.chunk(shard))


def merge_shards(world: World, n_images: int, run_folder: Path, n_shards: int) -> list[str]:
    context = context_of(world, n_images, run_folder, n_shards)
    return collect_exemplars.finish(world.config(n_images), context)["artifacts"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", type=Path)
    parser.add_argument("job", choices=("whole", "shard"))
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--shard", type=int, nargs=2)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    world = load_world(options.world)
    digests: list[str] = []
    if options.job == "whole":
        digests = collect_whole(world, options.images)
    else:
        collect_shard(world, options.images, options.run, *options.shard)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE
    sys.stdout.write(json.dumps({"digests": digests, "peak_mb": peak}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
