"""The stages from images to exemplars on a tiny model: what they write, and that no cutting into chunks shows in it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from workers.activations import image_activations
from workers.artifacts import Artifact, ArtifactStore
from workers.dictionaries.controls import feature_densities
from workers.dictionaries.store import load_dictionary
from workers.image_scan import scan_folder
from workers.images import ImageSetReader, write_image_set
from workers.readouts import class_directions, load_readout, own_head, write_readout
from workers.stages import collect_exemplars, train_dictionary
from workers.stages.configs import (
    CollectExemplarsConfig,
    EvaluateDictionaryConfig,
    MakeControlConfig,
    StageConfig,
    TrainDictionaryConfig,
)
from workers.stages.context import ChunkPlan, SilentReporter, StageContext
from workers.stages.local import run_locally
from workers.vision_model import ModelRequest, load_vision_model, register_vision_model

N_IMAGES = 70
HOOKPOINTS = ("blocks.0", "blocks.1")
SILENT = SilentReporter()


class World(NamedTuple):
    """Images, a model and a dictionary trained on them."""

    store: ArtifactStore
    root: Path
    image_set: Artifact
    vision_model: Artifact
    config: TrainDictionaryConfig
    dictionary: Artifact

    @property
    def roots(self) -> dict[str, Path]:
        return {self.image_set.digest: self.root}

    def run(self, stage: str, config: StageConfig) -> list[Artifact]:
        digests = run_locally(stage, config, self.store, self.roots, reporter=SILENT, n_threads=1)
        return [self.store.open(digest) for digest in digests]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder, store = tmp_path_factory.mktemp("images"), ArtifactStore(tmp_path_factory.mktemp("store"))
    rng = np.random.default_rng(0)
    for i in range(N_IMAGES):
        pixels = np.kron(rng.integers(0, 256, size=(4, 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    image_set = write_image_set(store, scan_folder(folder), name="tiles", licence="CC0", visibility="public")
    kwargs = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
    model = register_vision_model(store, ModelRequest("vit_tiny_patch16_224", timm_kwargs=kwargs))
    config = TrainDictionaryConfig(
        image_set=image_set.digest,
        vision_model=model.digest,
        hookpoints=HOOKPOINTS,
        n_latents=64,
        k=4,
        n_tokens=20_000,
        batch_tokens=128,
        learning_rate=3e-3,
    )
    roots = {image_set.digest: folder}
    digests = run_locally("train-dictionary", config, store, roots, reporter=SILENT, n_threads=1)
    return World(store, folder, image_set, model, config, store.open(digests[0]))


def run_pieces(world: World, executor: Any, config: StageConfig, plans: list[ChunkPlan], folder: Path) -> list[str]:
    """Execute hand-made chunks, each twice as after a kill, and finish."""
    context = StageContext(world.store, folder, folder, n_chunks=len(plans), image_roots=world.roots.__getitem__)
    for index, plan in enumerate(plans):
        for _attempt in range(2):
            context.chunk_folder = context.chunk(index)
            context.chunk_folder.mkdir(parents=True, exist_ok=True)
            executor.execute(config, plan.payload, context)
    digests: list[str] = executor.finish(config, context)["artifacts"]
    return digests


def plan_of(world: World, executor: ModuleType, config: StageConfig, folder: Path) -> list[ChunkPlan]:
    context = StageContext(world.store, folder, folder, image_roots=world.roots.__getitem__)
    plans: list[ChunkPlan] = executor.plan(config, context)
    return plans


def test_a_trained_dictionary_names_what_it_came_from(world: World) -> None:
    dictionary = load_dictionary(world.dictionary)
    assert dictionary.kind == "topk_sae"
    assert dictionary.reads == HOOKPOINTS
    assert dictionary.description.vision_model == world.vision_model.digest
    assert dictionary.description.image_set == world.image_set.digest
    assert dictionary.description.n_trained_tokens == 157 * 128  # whole batches that reach 20,000 tokens
    assert dictionary.description.preprocessing == world.vision_model.json("model.json")["preprocessing"]
    assert world.dictionary.manifest["parents"] == [world.image_set.digest, world.vision_model.digest]


def test_a_training_cut_into_other_chunks_gives_the_same_dictionary(world: World, tmp_path: Path) -> None:
    planned = plan_of(world, train_dictionary, world.config, tmp_path)
    assert sum(plan.n_units for plan in planned) == 157 * 128
    n_blocks = sum(plan.payload["n_blocks"] for plan in planned)
    assert n_blocks > 2
    pieces, first = [], 0
    for number, n in enumerate((1, 2, n_blocks - 3)):
        pieces.append(ChunkPlan(number, {"first_block": first, "n_blocks": n, "previous": number - 1}))
        first += n
    assert run_pieces(world, train_dictionary, world.config, pieces, tmp_path) == [world.dictionary.digest]


def test_quality_counts_every_token_and_beats_an_untrained_dictionary(world: World) -> None:
    config = MakeControlConfig(world.dictionary.digest, world.image_set.digest, kind="untrained_dictionary")
    [control] = world.run("make-control", config)
    figures = []
    for dictionary in (world.dictionary, control):
        [quality] = world.run(
            "evaluate-dictionary", EvaluateDictionaryConfig(dictionary.digest, world.image_set.digest)
        )
        figures.append(quality.json("quality.json"))
    for hookpoint in HOOKPOINTS:
        trained, untrained = figures[0][hookpoint], figures[1][hookpoint]
        assert trained["n_tokens"] == {"cls": N_IMAGES, "patches": 16 * N_IMAGES, "all": 17 * N_IMAGES}
        assert trained["explained_variance"]["all"] > untrained["explained_variance"]["all"] + 0.1
        assert 0 < trained["l0"] <= 4
        assert untrained["l0"] == 4


def test_exemplars_are_the_same_however_the_images_are_dealt_out(world: World, tmp_path: Path) -> None:
    [control] = world.run(
        "make-control", MakeControlConfig(world.dictionary.digest, world.image_set.digest, n_tokens=8192)
    )
    config = CollectExemplarsConfig(world.image_set.digest, (world.dictionary.digest, control.digest), n_top=5)
    exemplars = world.run("collect-exemplars", config)
    planned = plan_of(
        world,
        collect_exemplars,
        CollectExemplarsConfig(world.image_set.digest, config.dictionaries, n_top=5, images_per_chunk=32),
        tmp_path,
    )
    assert [plan.payload for plan in planned] == [
        {"start": 0, "stop": 32, "previous": -3, "dictionaries": [0, 1]},
        {"start": 32, "stop": 64, "previous": -2, "dictionaries": [0, 1]},
        {"start": 64, "stop": 70, "previous": -1, "dictionaries": [0, 1]},
    ]
    assert [plan.phase for plan in planned] == [0, 0, 0]
    assert run_pieces(world, collect_exemplars, config, planned, tmp_path) == [a.digest for a in exemplars]
    assert [a.json("exemplars.json")["dictionary"] for a in exemplars] == list(config.dictionaries)
    lane = [ChunkPlan(i, plan.payload | {"previous": i - 1}) for i, plan in enumerate(planned)]
    context = StageContext(world.store, tmp_path / "lane", tmp_path, image_roots=world.roots.__getitem__)
    for index, plan in enumerate(lane):
        context.chunk_folder = context.chunk(index)
        context.chunk_folder.mkdir(parents=True)
        collect_exemplars.execute(config, plan.payload, context)
    context.n_chunks = 1
    context.chunk(2).rename(tmp_path / "last")
    for index in (0, 1):
        (context.chunk(index)).rename(tmp_path / f"spent{index}")
    (tmp_path / "last").rename(context.chunk(0))
    assert collect_exemplars.finish(config, context)["artifacts"] == [a.digest for a in exemplars]


def test_exemplars_show_the_strongest_images_of_each_latent(world: World) -> None:
    [exemplars] = world.run(
        "collect-exemplars", CollectExemplarsConfig(world.image_set.digest, (world.dictionary.digest,), n_top=5)
    )
    model, reader = load_vision_model(world.vision_model), ImageSetReader(world.image_set, world.root)
    dictionary = load_dictionary(world.dictionary)
    parts = image_activations(model, reader, HOOKPOINTS, range(N_IMAGES), n_threads=1)
    maxima = []
    for part in parts:
        codes = dictionary.encode("blocks.1", part.activations["blocks.1"].flatten(0, 1))
        dense = torch.zeros(codes.values.shape[0], 64).scatter_add(1, codes.indices, codes.values)
        maxima.append(dense.view(len(part.indices), 17, 64).amax(1))
    best = torch.cat(maxima).T.sort(dim=1, descending=True, stable=True)
    tensors = load_file(exemplars.path("blocks.1.safetensors"))
    fires = best.values[:, :5] > 0
    assert torch.equal(tensors["top_image"], torch.where(fires, best.indices[:, :5], -1).int())
    assert torch.equal(tensors["top_value"], best.values[:, :5])
    assert tensors["top_map"].shape == (64, 5, 16)
    assert "logit_class" not in tensors
    record = exemplars.json("exemplars.json")
    assert (record["grid"], record["n_prefix_tokens"], record["n_images"]) == ([4, 4], 1, N_IMAGES)


def test_a_readout_gives_each_latent_the_classes_it_promotes(world: World) -> None:
    model = load_vision_model(world.vision_model)
    readout = write_readout(world.store, model, own_head(model))
    config = CollectExemplarsConfig(world.image_set.digest, (world.dictionary.digest,), readout.digest)
    [exemplars] = world.run("collect-exemplars", config)
    tensors = load_file(exemplars.path("blocks.0.safetensors"))
    decoder = load_dictionary(world.dictionary).decoder_directions("blocks.0")
    logits = decoder @ class_directions(model, load_readout(readout)).T
    assert tensors["logit_class"].shape == (64, 3)
    assert torch.equal(tensors["logit_class"][:, 0].long(), logits.argmax(1))
    assert exemplars.json("exemplars.json")["classes"] == model.classes
    assert exemplars.manifest["parents"] == [world.image_set.digest, world.dictionary.digest, readout.digest]


def test_a_control_fires_as_often_as_its_target(world: World) -> None:
    [control] = world.run(
        "make-control", MakeControlConfig(world.dictionary.digest, world.image_set.digest, n_tokens=20_000)
    )
    model, reader = load_vision_model(world.vision_model), ImageSetReader(world.image_set, world.root)
    parts = image_activations(model, reader, HOOKPOINTS, range(N_IMAGES), n_threads=1)
    tokens = torch.cat([part.activations["blocks.0"].flatten(0, 1) for part in parts])
    densities = [feature_densities(load_dictionary(a), "blocks.0", tokens) for a in (world.dictionary, control)]
    live = densities[0][densities[0] > 0]
    assert float(densities[1].median()) == pytest.approx(float(live.median()), rel=0.1)
    assert control.json("dictionary.json")["controls"] == world.dictionary.digest
    assert control.json("calibration.json")["n_tokens"] == 16384


def test_dictionaries_of_two_models_are_not_collected_together(world: World) -> None:
    kwargs = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
    other = register_vision_model(world.store, ModelRequest("vit_tiny_patch16_224", timm_kwargs=kwargs, seed=1))
    config = TrainDictionaryConfig(
        world.image_set.digest, other.digest, ("blocks.0",), n_latents=16, k=2, n_tokens=256, batch_tokens=64
    )
    [second] = world.run("train-dictionary", config)
    both = CollectExemplarsConfig(world.image_set.digest, (world.dictionary.digest, second.digest))
    with pytest.raises(ValueError, match="belong to 2 vision models"):
        world.run("collect-exemplars", both)


def test_a_hookpoint_the_model_lacks_is_named_before_anything_runs(world: World, tmp_path: Path) -> None:
    config = TrainDictionaryConfig(world.image_set.digest, world.vision_model.digest, ("blocks.9",))
    with pytest.raises(ValueError, match=r"There is no 'blocks\.9'"):
        plan_of(world, train_dictionary, config, tmp_path)
