"""./run bench exemplars: what exemplars cost over the forward pass and the encoders, and whether memory stays flat.

CPU time of one thread, on shapes world and the small ViT that ships with it, one dictionary of random directions at
every block. Targets are those of design.md §12.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import Tensor

from workers.artifacts import ArtifactStore
from workers.benchmarks.report import report, say
from workers.dictionaries.sparse_coder import CoderShape, Codes, SparseCoder, initialize_coder
from workers.exemplars.accumulator import ExemplarAccumulator, ExemplarSettings
from workers.synthetic import shapes_world
from workers.vision_model import ModelRequest, VisionModel, load_vision_model, read_hookpoints, register_vision_model

BATCH = 32
WARM_UP_BATCHES = 16  # the tables fill up first; after that an image rarely enters
FLOOR = 1.15
LARGEST_GROWTH_MB = 8.0
WEIGHTS = Path(shapes_world.__file__).parent / "weights" / "shapes_vit.safetensors"


class Seconds(NamedTuple):
    """CPU time of one batch by part."""

    forward_and_encode: float
    exemplars: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--latents", type=int, default=1024)
    parser.add_argument("--k", type=int, default=16)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        request = ModelRequest(source="checkpoint", checkpoint=WEIGHTS)
        model = load_vision_model(register_vision_model(ArtifactStore(folder), request))
    say(f"{options.images} images, {options.latents} latents at {model.n_blocks} blocks, k = {options.k}, 1 thread")
    timings, memory = measure(model, options.images, options.latents, options.k)
    return judge(timings, memory)


@torch.no_grad()
def measure(model: VisionModel, n_images: int, n_latents: int, k: int) -> tuple[list[Seconds], list[float]]:
    coders, accumulators = make_coders(model, n_latents, k), {}
    for hookpoint in coders:
        settings = ExemplarSettings(n_latents, model.n_patches, model.n_prefix_tokens)
        accumulators[hookpoint] = ExemplarAccumulator(settings)
    timings, memory, first = [], [], 0
    for images in image_tensors(n_images):
        started = time.process_time()
        codes = encode(model, coders, images)
        encoded = time.process_time()
        indices = torch.arange(first, first + len(images))
        for hookpoint, accumulator in accumulators.items():
            accumulator.update(indices, codes[hookpoint])
        timings.append(Seconds(encoded - started, time.process_time() - encoded))
        memory.append(resident_mb())
        first += len(images)
    return timings, memory


def judge(timings: Sequence[Seconds], memory: Sequence[float]) -> int:
    ratios = {"from the first image": timings, "once the tables are full": timings[WARM_UP_BATCHES:]}
    met = []
    for name, part in ratios.items():
        base = sum(seconds.forward_and_encode for seconds in part)
        ratio = 1 + sum(seconds.exemplars for seconds in part) / base
        met.append(ratio <= FLOOR)
        title = f"exemplars over (forward + encoder products + top-k), {name}"
        report(is_met=met[-1], name=title, figure=f"{ratio:.3f}", target=f"<= {FLOOR}")
    growth = memory[-1] - memory[len(memory) // 4]
    met.append(growth <= LARGEST_GROWTH_MB)
    title = "memory grown over the last three quarters of the images"
    report(is_met=met[-1], name=title, figure=f"{growth:.1f} MB", target=f"<= {LARGEST_GROWTH_MB:.0f} MB")
    return 0 if all(met) else 1


def make_coders(model: VisionModel, n_latents: int, k: int) -> dict[str, SparseCoder]:
    coders = {}
    for block in range(model.n_blocks):
        coder = SparseCoder(CoderShape(d_model=model.d_model, n_latents=n_latents, k=k))
        initialize_coder(coder, torch.Generator().manual_seed(block))
        coders[f"blocks.{block}"] = coder
    return coders


def encode(model: VisionModel, coders: dict[str, SparseCoder], images: Tensor) -> dict[str, Codes]:
    with read_hookpoints(model, list(coders)) as read:
        model(images)
    return {hookpoint: coder.encode(read[hookpoint].flatten(0, 1)) for hookpoint, coder in coders.items()}


def image_tensors(n_images: int) -> Iterator[Tensor]:
    """Batches of shapes world, drawn in memory."""
    for block in range(-(-n_images // shapes_world.BLOCK)):
        pictures = shapes_world.draw_block("train", block, 0).pictures
        pixels = torch.from_numpy(pictures.images).permute(0, 3, 1, 2).float() / 255
        for start in range(0, min(shapes_world.BLOCK, n_images - block * shapes_world.BLOCK), BATCH):
            yield (pixels[start : start + BATCH] - 0.5) / 0.25


def resident_mb() -> float:
    """The memory this process holds now, from Linux; 0 elsewhere, where it is not measured."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    raise SystemExit(main())
