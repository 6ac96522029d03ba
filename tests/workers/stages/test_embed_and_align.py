"""Embeddings of images and alignment of dictionaries as stages: against the plain computation, and in any chunks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from tests.workers.stages.tiny_world import HOOKPOINTS, N_IMAGES, TinyWorld, make_tiny_world
from workers.activations import image_activations
from workers.artifacts import Artifact
from workers.dictionaries.alignment import nearest_both_ways
from workers.dictionaries.store import load_dictionary
from workers.images import ImageSetReader
from workers.readouts import cls_and_mean_patch, final_tokens
from workers.stages import align_dictionaries, embed_images
from workers.stages.configs import (
    AlignDictionariesConfig,
    ConfigError,
    EmbedImagesConfig,
    MakeControlConfig,
    ReadFeedForwardConfig,
)
from workers.stages.context import ChunkPlan, RunCancelledError, SilentReporter, StageContext
from workers.vision_model import load_vision_model


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_tiny_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def dictionary(world: TinyWorld) -> Artifact:
    return world.train(0)


@pytest.fixture(scope="module")
def control(world: TinyWorld, dictionary: Artifact) -> Artifact:
    config = MakeControlConfig(dictionary.digest, world.image_set.digest, kind="random_directions", n_tokens=4096)
    return world.run("make-control", config)[0]


class Stopped(SilentReporter):
    def is_cancelled(self) -> bool:
        return True


def test_embeddings_are_unit_vectors_of_the_final_tokens(world: TinyWorld) -> None:
    [made] = world.run("embed-images", EmbedImagesConfig(world.image_set.digest, world.vision_model.digest))
    embeddings = load_file(made.path("embeddings.safetensors"))["embeddings"]
    model = load_vision_model(world.vision_model)
    tokens = torch.cat(list(final_tokens(model, ImageSetReader(world.image_set, world.root), range(N_IMAGES), 1)))
    expected = F.normalize(cls_and_mean_patch(model, tokens), dim=1)
    assert (embeddings.shape, embeddings.dtype) == ((N_IMAGES, 32), torch.float16)
    assert torch.allclose(embeddings.float(), expected, atol=1e-3)
    assert made.json("embeddings.json") == {
        "image_set": world.image_set.digest, "vision_model": world.vision_model.digest, "shape": [N_IMAGES, 32],
    }  # fmt: skip
    assert made.manifest["parents"] == [world.image_set.digest, world.vision_model.digest]


def test_embeddings_are_the_same_in_any_chunks(world: TinyWorld, tmp_path: Path) -> None:
    config = EmbedImagesConfig(world.image_set.digest, world.vision_model.digest)
    [made] = world.run("embed-images", config)
    pieces = [ChunkPlan(0, {"start": start, "stop": min(start + 32, N_IMAGES)}) for start in (0, 32, 64)]
    assert world.run_pieces(embed_images, config, pieces, tmp_path) == [made.digest]


def test_embedding_stops_when_it_is_cancelled(world: TinyWorld, tmp_path: Path) -> None:
    config = EmbedImagesConfig(world.image_set.digest, world.vision_model.digest)
    roots = {world.image_set.digest: world.root}
    context = StageContext(world.store, tmp_path, tmp_path, image_roots=roots.__getitem__, reporter=Stopped())
    with pytest.raises(RunCancelledError):
        embed_images.execute(config, {"start": 0, "stop": N_IMAGES}, context)
    assert list(tmp_path.iterdir()) == []


def test_an_alignment_has_the_nearest_of_every_latent_and_pairs_from_every_bin(
    world: TinyWorld, dictionary: Artifact, control: Artifact
) -> None:
    config = AlignDictionariesConfig(dictionary.digest, control.digest, n_bins=20, pairs_per_bin=3)
    [made] = world.run("align-dictionaries", config)
    tensors, nulls = load_file(made.path("nearest.safetensors")), made.json("null.json")
    pairs = [json.loads(line) for line in made.path("pairs.jsonl").read_text().splitlines()]
    assert made.json("alignment.json")["dictionary_a"] == dictionary.digest
    assert made.json("alignment.json")["dictionary_b"] == control.digest
    for hookpoint in HOOKPOINTS:
        first, second = (load_dictionary(one).decoder_directions(hookpoint) for one in (dictionary, control))
        expected = nearest_both_ways(first, second)
        assert torch.equal(tensors[f"{hookpoint}/a.nearest"].long(), expected.rows.latent)
        assert torch.equal(tensors[f"{hookpoint}/b.nearest"].long(), expected.columns.latent)
        here = [pair for pair in pairs if pair["hookpoint"] == hookpoint]
        n_in_bin = nulls[hookpoint]["a_to_b"]["n_in_bin"]
        assert [sum(pair["bin"] == b for pair in here) for b in range(20)] == [min(n, 3) for n in n_in_bin]
        for pair in here:
            assert pair["latent_b"] == int(expected.rows.latent[pair["latent_a"]])
            assert pair["mcs"] == pytest.approx(float(expected.rows.cosine[pair["latent_a"]]), abs=1e-5)
            assert 0 <= pair["null_percentile"] <= 100


def test_random_directions_do_not_lie_above_their_null(
    world: TinyWorld, dictionary: Artifact, control: Artifact
) -> None:
    [made] = world.run("align-dictionaries", AlignDictionariesConfig(dictionary.digest, control.digest))
    found = made.json("null.json")["blocks.0"]["b_to_a"]
    assert found["share_above"]["99"] < 0.15
    assert found["null_percentiles"]["50"] < found["null_percentiles"]["95"] < found["null_percentiles"]["99.9"] < 1


def test_an_alignment_is_the_same_in_any_chunks(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(align_dictionaries, "ROWS_AT_ONCE", 16)
    first, second = world.train(1, hookpoints=("blocks.0",)), world.train(2, hookpoints=("blocks.0",))
    config = AlignDictionariesConfig(first.digest, second.digest, pairs_per_bin=4)
    [made] = world.run("align-dictionaries", config)
    spans = [(0, 16), (16, 48), (48, 64)]
    pieces = [ChunkPlan(0, {"hookpoint": "blocks.0", "start": a, "stop": b}) for a, b in spans]
    assert world.run_pieces(align_dictionaries, config, pieces, tmp_path) == [made.digest]


def test_given_images_latents_are_matched_by_what_they_do(
    world: TinyWorld, dictionary: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = world.train(5)
    images = world.image_set.digest
    config = AlignDictionariesConfig(dictionary.digest, other.digest, image_set=images, n_tokens=17 * N_IMAGES)
    [made] = world.run("align-dictionaries", config)
    tensors, nulls = load_file(made.path("nearest.safetensors")), made.json("null.json")
    first, second = load_dictionary(dictionary), load_dictionary(other)
    model, reader = load_vision_model(world.vision_model), ImageSetReader(world.image_set, world.root)
    dense: list[list[torch.Tensor]] = [[], []]
    for part in image_activations(model, reader, ["blocks.0"], range(N_IMAGES), n_threads=1):
        tokens = part.activations["blocks.0"].flatten(0, 1)
        for kept, one in zip(dense, (first, second), strict=True):
            codes = one.encode("blocks.0", tokens)
            kept.append(torch.zeros(len(tokens), 64).scatter(1, codes.indices, codes.values).view(-1, 17, 64))
    # sixteen of the seventeen tokens of each image were looked at: correlations of all of them come close
    flat = [torch.cat(one).flatten(0, 1).double() for one in dense]
    whole = torch.corrcoef(torch.cat(flat, 1).T)[:64, 64:].nan_to_num(-1)
    live = flat[0].count_nonzero(0) > 40
    assert torch.allclose(tensors["blocks.0/a.pearson"][live].double(), whole.amax(1)[live], atol=0.05)
    top = [torch.cat(one).amax(1).topk(10, dim=0) for one in dense]
    sets = [[set(one.indices[one.values[:, f] > 0, f].tolist()) for f in range(64)] for one in top]
    best = [max((len(a & b) / len(a | b) for b in sets[1] if b), default=-1) if a else -1 for a in sets[0]]
    close = (tensors["blocks.0/a.jaccard"].double() - torch.tensor(best).double()).abs() < 1e-6
    assert float(close.double().mean()) > 0.9  # but for images that share the tenth place
    for name in ("max Pearson correlation of activations", "max Jaccard of top images"):
        found = nulls["blocks.0"]["activations"][name]["a_to_b"]
        assert found["mean"] > found["null_mean"]
        assert sum(found["n_in_bin"]) == found["n_latents"] <= 64
    monkeypatch.setattr(align_dictionaries, "MATCHED_AT_ONCE", 24)
    roots = {images: world.root}
    context = StageContext(world.store, tmp_path, tmp_path, image_roots=roots.__getitem__)
    plans = align_dictionaries.plan(config, context)
    assert sum(plan.payload.get("what") == "match" for plan in plans) == 6
    [cut] = world.run_pieces(align_dictionaries, config, plans, tmp_path)
    again = load_file(world.store.open(cut).path("nearest.safetensors"))
    assert again.keys() == tensors.keys()
    for key, expected in tensors.items():
        if not key.endswith("nearest"):  # a tile of another size rounds otherwise
            assert torch.allclose(again[key], expected, atol=1e-5), key


def test_with_two_poles_a_direction_lies_near_its_opposite(world: TinyWorld) -> None:
    images = world.image_set.digest
    [every] = world.run("read-feed-forward", ReadFeedForwardConfig(world.vision_model.digest, images, k=(0,)))
    [random] = world.run("make-control", MakeControlConfig(every.digest, images, n_tokens=4096))
    assert [load_dictionary(one).poles for one in (every, random)] == [("positive", "negative"), ("positive",)]
    for one, other, turned in ((every, random, "pole_a"), (random, every, "pole_b")):
        [made] = world.run("align-dictionaries", AlignDictionariesConfig(one.digest, other.digest, n_bins=1))
        first, second = (load_dictionary(each).decoder_directions("blocks.0.mlp.hidden") for each in (one, other))
        cosines = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T
        tensors = load_file(made.path("nearest.safetensors"))
        assert torch.allclose(tensors["blocks.0.mlp.hidden/a.cosine"], cosines.abs().amax(1), atol=1e-6)
        lines = [json.loads(line) for line in made.path("pairs.jsonl").read_text().splitlines()]
        here = [pair for pair in lines if pair["hookpoint"] == "blocks.0.mlp.hidden"]
        assert {pair[turned] for pair in here} == {1, -1}
        for pair in here:
            sign = float(cosines[pair["latent_a"], pair["latent_b"]])
            assert pair[turned] == (1 if sign > 0 else -1)
            assert pair["mcs"] == pytest.approx(abs(sign), abs=1e-5)


def test_dictionaries_without_a_common_hookpoint_are_not_aligned(world: TinyWorld, dictionary: Artifact) -> None:
    other = world.train(3, hookpoints=("blocks.1",))
    asked = AlignDictionariesConfig(dictionary.digest, other.digest, ("blocks.0",))
    with pytest.raises(ValueError, match=r"do not both read blocks\.0 .*; the first reads blocks\.0, blocks\.1"):
        world.run("align-dictionaries", asked)
    alone = world.train(4, hookpoints=("blocks.0",))
    with pytest.raises(ValueError, match="share no hookpoint"):
        world.run("align-dictionaries", AlignDictionariesConfig(alone.digest, other.digest))


def test_a_dictionary_is_not_aligned_with_itself() -> None:
    with pytest.raises(ConfigError, match="two different dictionaries"):
        AlignDictionariesConfig("a", "a")
