"""Exemplars on a GPU: ViT-B/16 with twelve TopK dictionaries (x16, k = 64) in bf16, from JPEG files on.

One pass gives images per second, nothing waiting for anything; a second one waits after each part and gives their
shares. Without a GPU the rows say NOT MEASURED; the same code runs at any size on a CPU.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from workers.artifacts import ArtifactStore
from workers.benchmarks.decoding import jpegs
from workers.benchmarks.report import report
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder
from workers.exemplars.accumulator import ExemplarAccumulator, ExemplarSettings
from workers.image_scan import scan_folder
from workers.images import ImageSetReader, image_batches, write_image_set
from workers.vision_model import ModelRequest, VisionModel, load_vision_model, read_hookpoints, register_vision_model

PARTS = ("waiting for decoded images", "model", "encoders", "accumulators")


class Load(NamedTuple):
    """What is measured: a model, a dictionary at every block, so many images from so many files."""

    request: ModelRequest
    expansion: int = 16
    k: int = 64
    n_images: int = 8192
    n_files: int = 256
    batch_size: int = 32
    n_threads: int = 16


class Throughput(NamedTuple):
    images_per_second: float
    shares: dict[str, float]


VIT_B = Load(ModelRequest("vit_base_patch16_224"))


def measure_gpu() -> bool:
    tell(measure_load(VIT_B, "cuda") if torch.cuda.is_available() else None)
    return True


def tell(
    found: Throughput | None,
    name: str = "ViT-B/16, 12 TopK dictionaries x16, k = 64, bf16: images/s",
    parts: tuple[str, ...] = PARTS,
) -> None:
    """No floor is set; without a GPU nothing is measured."""
    figure = "-" if found is None else f"{found.images_per_second:,.0f}"
    report(is_met=None if found is None else True, name=name, figure=figure, target="no floor")
    for part in parts:
        figure = "-" if found is None else f"{found.shares[part]:.1%}"
        report(is_met=None if found is None else True, name=f"  share of time: {part}", figure=figure, target="")


@contextmanager
def loaded(load: Load, device: str) -> Iterator[tuple[VisionModel, ImageSetReader]]:
    """The model on its device, and JPEG files to read."""
    with TemporaryDirectory() as folder:
        store, root = ArtifactStore(Path(folder) / "artifacts"), Path(folder) / "images"
        root.mkdir()
        for number, content in enumerate(jpegs(load.n_files)):
            (root / f"{number:05}.jpg").write_bytes(content)
        image_set = write_image_set(store, scan_folder(root), name="jpeg", licence="CC0", visibility="public")
        model = load_vision_model(register_vision_model(store, load.request), device)
        yield model, ImageSetReader(image_set, root)


def measure_load(load: Load, device: str) -> Throughput:
    with loaded(load, device) as (model, reader):
        coders = make_coders(model, load, device)
        run_load(load, model, reader, coders, n_images=4 * load.batch_size, is_waiting=False)  # kernels are chosen
        seconds = sum(run_load(load, model, reader, coders, n_images=load.n_images, is_waiting=False).values())
        parts = run_load(load, model, reader, coders, n_images=load.n_images // 4, is_waiting=True)
    return Throughput(load.n_images / seconds, {part: parts[part] / sum(parts.values()) for part in PARTS})


def make_coders(model: VisionModel, load: Load, device: str) -> dict[str, SparseCoder]:
    coders = {}
    for block in range(model.n_blocks):
        coder = SparseCoder(CoderShape(d_model=model.d_model, n_latents=load.expansion * model.d_model, k=load.k))
        initialize_coder(coder, torch.Generator().manual_seed(block))
        coders[f"blocks.{block}"] = coder.to(device)
    return coders


@torch.no_grad()
def run_load(
    load: Load,
    model: VisionModel,
    reader: ImageSetReader,
    coders: dict[str, SparseCoder],
    *,
    n_images: int,
    is_waiting: bool,
) -> dict[str, float]:
    """Seconds by part; a part is told from the next only where it is waited for."""
    device = model.device
    settings = {
        hookpoint: ExemplarSettings(coder.n_latents, model.n_patches, model.n_prefix_tokens, n_top=24)
        for hookpoint, coder in coders.items()
    }
    accumulators = {hookpoint: ExemplarAccumulator(setting, device) for hookpoint, setting in settings.items()}
    files = [number % len(reader) for number in range(n_images)]
    batches = image_batches(
        reader, model.transform, files, load.batch_size, load.n_threads, is_pinned=device.type == "cuda"
    )
    clock, first = Clock(device, PARTS, is_waiting), 0
    with torch.autocast(device.type, torch.bfloat16):
        while True:
            with clock.part(PARTS[0]):
                images = next(batches, None)
            if images is None:
                break
            with clock.part(PARTS[1]), read_hookpoints(model, list(coders)) as read:
                model(images.to(device, non_blocking=True))
            with clock.part(PARTS[2]):
                codes = {hookpoint: coder.encode(read[hookpoint].flatten(0, 1)) for hookpoint, coder in coders.items()}
            with clock.part(PARTS[3]):
                for hookpoint, accumulator in accumulators.items():
                    accumulator.update(torch.arange(first, first + len(images)), codes[hookpoint])
            first += len(images)
    with clock.part(PARTS[3]):
        for accumulator in accumulators.values():
            accumulator.flush()
        clock.wait()
    return clock.seconds


class Clock:
    """Adds up wall time by part, waiting for the device at the end of each if it is told to."""

    def __init__(self, device: torch.device, parts: tuple[str, ...], is_waiting: bool) -> None:
        self.device, self.is_waiting = device, is_waiting
        self.seconds = dict.fromkeys(parts, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        if self.is_waiting:
            self.wait()
        self.seconds[name] += time.perf_counter() - started

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
