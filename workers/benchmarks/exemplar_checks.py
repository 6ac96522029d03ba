"""The parts of ./run bench exemplars that check and do not time: memory, the reference, shards."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file

from workers.activations import image_activations
from workers.benchmarks.exemplar_reference import compare_with_reference
from workers.benchmarks.exemplar_world import (
    World,
    answer_of,
    collect_whole,
    make_world,
    merge_shards,
    run_process,
)
from workers.benchmarks.report import report, say
from workers.dictionaries.store import load_dictionary
from workers.exemplars.accumulator import ExemplarSettings
from workers.images import ImageSetReader
from workers.vision_model import load_vision_model

FEW, MANY = 1_000, 20_000
MOST_GROWTH = 0.05
N_SHARDS = 2


def measure_memory(few: int = FEW, many: int = MANY) -> bool:
    """Peak memory of the whole stage, in a process of its own for each image set; k is large, to fill buffers soon."""
    with TemporaryDirectory() as folder:
        world = make_world(Path(folder), (few, many), n_latents=2048, k=64)
        peaks = {n: answer_of(run_process(world, "whole", "--images", str(n)))["peak_mb"] for n in (few, many)}
    return judge_growth(peaks[few], peaks[many], few, many)


def judge_growth(before: float, after: float, few: int, many: int) -> bool:
    growth = after / before - 1
    is_met = growth <= MOST_GROWTH
    name = f"growth of the stage's peak memory from {few:,} to {many:,} images"
    report(is_met=is_met, name=name, figure=f"{growth:+.1%}", target=f"<= {MOST_GROWTH:.0%}")
    say(f"{'':13} {before:.0f} MB and {after:.0f} MB")
    return is_met


def measure_reference(n_images: int = 150) -> bool:
    """The stage's files beside brute force on a dense latent axis."""
    with TemporaryDirectory() as folder:
        world = make_world(Path(folder), (n_images,), n_latents=96, k=6)
        [digest] = collect_whole(world, n_images)
        differences = [
            line for hookpoint in ("blocks.0", "blocks.1") for line in differ(world, n_images, digest, hookpoint)
        ]
    for line in differences[:5]:
        say(f"{'':13} {line}")
    name = f"exemplars equal to brute force, {n_images} images, 96 latents"
    report(is_met=not differences, name=name, figure=f"{len(differences)} differ", target="0 differ")
    return not differences


def differ(world: World, n_images: int, digest: str, hookpoint: str) -> list[str]:
    exemplars, dictionary = world.store.open(digest), load_dictionary(world.store.open(world.dictionaries[0]))
    model = load_vision_model(world.store.open(dictionary.description.vision_model))
    reader = ImageSetReader(world.store.open(world.image_sets[n_images]), world.folder / f"images-{n_images}")
    dense = []
    for part in image_activations(model, reader, [hookpoint], range(n_images), n_threads=1):
        codes = dictionary.encode(hookpoint, part.activations[hookpoint].flatten(0, 1))
        values = torch.zeros(codes.values.shape[0], dictionary.n_latents(hookpoint))
        dense.append(values.scatter_add_(1, codes.indices, codes.values).view(len(part.indices), model.n_tokens, -1))
    settings = ExemplarSettings(**exemplars.json("exemplars.json")["settings"])
    return compare_with_reference(load_file(exemplars.path(f"{hookpoint}.safetensors")), torch.cat(dense), settings)


def measure_shards(n_images: int = 1_000) -> bool:
    """Two processes at the same time, half of the images each, merged; and one process with all of them."""
    with TemporaryDirectory() as folder:
        world = make_world(Path(folder), (n_images,), n_latents=1024, k=16)
        run_folder = Path(folder) / "run"
        job = ("shard", "--images", str(n_images), "--run", str(run_folder), "--shard")
        processes = [run_process(world, *job, str(shard), str(N_SHARDS)) for shard in range(N_SHARDS)]
        for process in processes:
            answer_of(process)
        merged = merge_shards(world, n_images, run_folder, N_SHARDS)
        whole: list[str] = answer_of(run_process(world, "whole", "--images", str(n_images)))["digests"]
    name = f"{N_SHARDS} workers on {N_SHARDS} shards equal to one, to the byte"
    report(is_met=merged == whole, name=name, figure=merged[0][:12], target=whole[0][:12])
    return merged == whole
