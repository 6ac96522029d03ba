"""Alignment of dictionaries that read elsewhere in one MLP: its own units, a transcoder of them, SAEs of its output."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from tests.workers.stages.tiny_world import TinyWorld, make_tiny_world
from workers.artifacts import Artifact
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder
from workers.dictionaries.store import DictionaryDescription, load_dictionary, write_coders
from workers.stages.configs import AlignDictionariesConfig, ReadFeedForwardConfig
from workers.vision_model import ModelRequest, VisionModel, load_vision_model, register_vision_model, write_vision_model

TINY = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
HIDDEN, IN, OUT = "blocks.1.mlp.hidden", "blocks.1.mlp.in", "blocks.1.mlp.out"
N_TURNED = 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """Its model has a layer scale that is uneven and turns most dimensions about."""
    made = make_tiny_world(tmp_path_factory.mktemp("world"))
    request = ModelRequest("deit3_small_patch16_224", timm_kwargs=TINY)
    model = load_vision_model(register_vision_model(made.store, request))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for block in model.module.blocks:
            block.ls2.gamma.copy_(torch.linspace(-2, 0.7, 16))
            for layer in (block.mlp.fc1, block.mlp.fc2):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / 4)
    return made._replace(vision_model=write_vision_model(made.store, model.module, model.description))


@pytest.fixture(scope="module")
def model(world: TinyWorld) -> VisionModel:
    return load_vision_model(world.vision_model)


@pytest.fixture(scope="module")
def order() -> torch.Tensor:
    """Which unit each latent of the planted transcoder is."""
    return torch.randperm(64, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def units(world: TinyWorld) -> Artifact:
    config = ReadFeedForwardConfig(world.vision_model.digest, world.image_set.digest, k=(0,))
    return world.run("read-feed-forward", config)[0]


@pytest.fixture(scope="module")
def transcoder(world: TinyWorld, model: VisionModel, order: torch.Tensor) -> Artifact:
    """The units of block 1 in another order, without the lower end of GELU; the first latents write the opposite."""
    mlp = model.module.blocks[1].mlp
    shape = CoderShape(16, 64, 64, selection="threshold", normalization="none", is_bias_tied=False)
    coder = SparseCoder(shape).requires_grad_(False)
    coder.W_enc.copy_(mlp.fc1.weight[order])
    coder.b_enc.copy_(mlp.fc1.bias[order])
    coder.W_dec.copy_(mlp.fc2.weight.T[order])
    coder.W_dec[:N_TURNED] *= -1
    return written(world, "transcoder", IN, coder)


def written(world: TinyWorld, kind: str, read: str, coder: SparseCoder) -> Artifact:
    digests = (world.vision_model.digest, world.image_set.digest)
    with world.store.write("dictionary", config={"kind": kind, "read": read}) as writer:
        write_coders(writer, DictionaryDescription(kind, kind, (read,), (OUT,), *digests), {read: coder})
    assert writer.artifact is not None
    return writer.artifact


def aligned(world: TinyWorld, first: Artifact, second: Artifact, **more: Any) -> Artifact:
    return world.run("align-dictionaries", AlignDictionariesConfig(first.digest, second.digest, **more))[0]


def pairs_in(made: Artifact) -> list[dict[str, Any]]:
    return [json.loads(line) for line in made.path("pairs.jsonl").read_text().splitlines()]


def test_units_and_a_transcoder_of_them_are_matched_by_directions_and_by_activations(
    world: TinyWorld, units: Artifact, transcoder: Artifact, order: torch.Tensor
) -> None:
    made = aligned(world, units, transcoder, image_set=world.image_set.digest, n_bins=4, pairs_per_bin=64)
    record, tensors = made.json("alignment.json"), load_file(made.path("nearest.safetensors"))
    assert (record["hookpoints"], record["hookpoints_b"], record["layer_scaled"]) == ([HIDDEN], [IN], ["b"])
    place = order.argsort()  # of each unit in the transcoder
    assert torch.equal(tensors[f"{HIDDEN}/a.nearest"].long(), place)
    assert torch.equal(tensors[f"{HIDDEN}/b.nearest"].long(), order)
    torch.testing.assert_close(tensors[f"{HIDDEN}/a.cosine"], torch.ones(64), atol=1e-5, rtol=0)
    pairs = pairs_in(made)
    assert [pair["bin"] for pair in pairs] == [3] * 64
    for pair in pairs:
        assert (pair["hookpoint"], pair["hookpoint_b"]) == (HIDDEN, IN)
        assert pair["latent_b"] == int(place[pair["latent_a"]])
        assert (pair["pole_a"], pair["pole_b"]) == (-1 if pair["latent_b"] < N_TURNED else 1, 1)
    assert float((tensors[f"{HIDDEN}/a.pearson.nearest"].long() == place).double().mean()) > 0.9
    assert float(tensors[f"{HIDDEN}/a.pearson"].median()) > 0.95
    found = made.json("null.json")[HIDDEN]
    assert found["a_to_b"]["share_above"]["99.9"] == 1
    assert found["activations"]["max Jaccard of top images"]["a_to_b"]["mean"] > 0.9


def test_the_other_way_round_is_the_same(
    world: TinyWorld, units: Artifact, transcoder: Artifact, order: torch.Tensor
) -> None:
    made = aligned(world, transcoder, units, n_bins=4, pairs_per_bin=64)
    assert made.json("alignment.json")["layer_scaled"] == ["a"]
    assert torch.equal(load_file(made.path("nearest.safetensors"))[f"{IN}/a.nearest"].long(), order)
    for pair in pairs_in(made):
        assert (pair["hookpoint"], pair["hookpoint_b"], pair["latent_b"]) == (IN, HIDDEN, int(order[pair["latent_a"]]))
        assert (pair["pole_a"], pair["pole_b"]) == (1, -1 if pair["latent_a"] < N_TURNED else 1)


def test_an_sae_of_what_the_mlp_puts_out_is_compared_as_it_is_with_a_transcoder(
    world: TinyWorld, transcoder: Artifact
) -> None:
    coder = SparseCoder(CoderShape(16, 24, 3)).requires_grad_(False)
    coder.W_dec.copy_(torch.randn(24, 16, generator=torch.Generator().manual_seed(3)))
    coder.W_enc.copy_(coder.W_dec)
    made = aligned(world, written(world, "topk_sae", OUT, coder), transcoder, image_set=world.image_set.digest)
    assert made.json("alignment.json")["layer_scaled"] == [""]
    directions = load_dictionary(transcoder).decoder_directions(IN)
    cosines = F.normalize(coder.W_dec, dim=1) @ F.normalize(directions, dim=1).T
    tensors = load_file(made.path("nearest.safetensors"))
    torch.testing.assert_close(tensors[f"{OUT}/a.cosine"], cosines.amax(1), atol=1e-5, rtol=0)
    assert tensors[f"{OUT}/b.pearson"].shape == (64,)
    assert {pair["hookpoint_b"] for pair in pairs_in(made)} == {IN}


def test_directions_that_do_not_fit_the_model_are_not_scaled(world: TinyWorld) -> None:
    places = {HIDDEN: "blocks.1.mlp.write", IN: OUT}
    found = []
    for read, write in places.items():
        coder = SparseCoder(CoderShape(64 if read == HIDDEN else 16, 8, 2, d_out=12, is_bias_tied=False))
        digests = (world.vision_model.digest, world.image_set.digest)
        with world.store.write("dictionary", config={"narrow": read}) as writer:
            write_coders(writer, DictionaryDescription("transcoder", "n", (read,), (write,), *digests), {read: coder})
        found.append(writer.digest)
    with pytest.raises(ValueError, match=r"writes vectors of width 12 at blocks\.1\.mlp\.write, where its .* has 16"):
        world.run("align-dictionaries", AlignDictionariesConfig(found[0], found[1]))
