"""The stage that makes dictionaries of a model's MLPs, end to end on a tiny ViT: artefacts, quality, exemplars."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.workers.stages.tiny_world import N_IMAGES, TinyWorld, make_tiny_world
from workers.activations import image_activations
from workers.dictionaries.store import NEGATIVE, POSITIVE, load_dictionary
from workers.images import ImageSetReader
from workers.stages.configs import (
    CollectExemplarsConfig,
    ConfigError,
    EvaluateDictionaryConfig,
    ReadFeedForwardConfig,
    config_from_dict,
)
from workers.vision_model import load_vision_model

READS = ("blocks.0.mlp.hidden", "blocks.1.mlp.hidden")
WRITES = ("blocks.0.mlp.write", "blocks.1.mlp.write")
D_HIDDEN = 64


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_tiny_world(tmp_path_factory.mktemp("world"))


def asked(world: TinyWorld, **settings: object) -> ReadFeedForwardConfig:
    values = {"vision_model": world.vision_model.digest, "image_set": world.image_set.digest} | settings
    config = config_from_dict("read-feed-forward", values)
    assert isinstance(config, ReadFeedForwardConfig)
    return config


def test_a_sweep_over_k_makes_a_dictionary_for_each(world: TinyWorld) -> None:
    artifacts = world.run("read-feed-forward", asked(world, k=[0, 4, 32], name="mlps"))
    loaded = [load_dictionary(artifact) for artifact in artifacts]
    assert [one.kind for one in loaded] == ["ff_kv", "topk_ff_kv", "topk_ff_kv"]
    assert [one.description.name for one in loaded] == ["mlps", "mlps, k = 4", "mlps, k = 32"]
    assert [artifact.config["name"] for artifact in artifacts] == ["mlps", "mlps, k = 4", "mlps, k = 32"]
    assert {(one.reads, one.writes, one.poles) for one in loaded} == {(READS, WRITES, (POSITIVE, NEGATIVE))}
    assert [one.n_latents(READS[0]) for one in loaded] == [D_HIDDEN] * 3
    preprocessing = world.vision_model.json("model.json")["preprocessing"]
    assert loaded[1].description.preprocessing == preprocessing
    assert artifacts[0].manifest["parents"] == [world.vision_model.digest, world.image_set.digest]


def test_quality_rises_with_k_up_to_all(world: TinyWorld) -> None:
    explained, l0 = [], []
    for artifact in world.run("read-feed-forward", asked(world, k=[4, 32, 0])):
        config = EvaluateDictionaryConfig(artifact.digest, world.image_set.digest)
        [quality] = world.run("evaluate-dictionary", config)
        figures = quality.json("quality.json")[READS[1]]
        explained.append(figures["explained_variance"]["all"])
        l0.append(figures["l0"])
    assert explained[0] < explained[1] < explained[2]
    assert explained[2] == pytest.approx(1, abs=1e-6)
    assert l0 == [4, 32, D_HIDDEN]


def test_exemplars_rank_both_poles_of_every_unit(world: TinyWorld) -> None:
    [artifact] = world.run("read-feed-forward", asked(world, k=[0]))
    config = CollectExemplarsConfig(world.image_set.digest, (artifact.digest,), n_top=3)
    [exemplars] = world.run("collect-exemplars", config)
    model, reader = load_vision_model(world.vision_model), ImageSetReader(world.image_set, world.root)
    parts = image_activations(model, reader, [READS[0]], range(N_IMAGES), n_threads=1)
    hidden = torch.cat([part.activations[READS[0]] for part in parts])
    for name, signed in ((f"{READS[0]}.safetensors", hidden), (f"{READS[0]}.negative.safetensors", -hidden)):
        best = signed.amax(1).T.sort(dim=1, descending=True, stable=True)
        tensors = load_file(exemplars.path(name))
        fires = best.values[:, :3] > 0
        assert torch.equal(tensors["top_image"], torch.where(fires, best.indices[:, :3], -1).int())
        expected = (signed > 0).double().mean((0, 1)).float()
        torch.testing.assert_close(tensors["density"], expected)


def test_the_largest_values_have_one_pole(world: TinyWorld) -> None:
    by_value, positive = (
        load_dictionary(world.run("read-feed-forward", asked(world, k=[4], **more))[0])
        for more in ({"selection": "value"}, {"poles": "positive"})
    )
    assert by_value.poles == positive.poles == (POSITIVE,)


def test_normalized_value_vectors_have_norm_one(world: TinyWorld) -> None:
    config = asked(world, hookpoints=[READS[1]], k=[8], scaling="normalized")
    dictionary = load_dictionary(world.run("read-feed-forward", config)[0])
    assert dictionary.reads == (READS[1],)
    torch.testing.assert_close(dictionary.decoder_directions(READS[1]).norm(dim=1), torch.ones(D_HIDDEN))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"k": [100]}, "k is 100; it must lie between 0 and the number of hidden units, 64"),
        ({"hookpoints": ["blocks.0"]}, "'blocks.0' is not the hidden layer of an MLP"),
        ({"hookpoints": ["blocks.9.mlp.hidden"]}, "There is no 'blocks.9.mlp.hidden'"),
    ],
)
def test_what_the_model_lacks_is_refused_before_anything_is_written(
    world: TinyWorld, settings: dict[str, object], sentence: str
) -> None:
    before = list(Path(world.store.root).rglob("*"))
    with pytest.raises(ValueError, match=sentence):
        world.run("read-feed-forward", asked(world, **settings))
    assert list(Path(world.store.root).rglob("*")) == before


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"k": []}, "Name at least one k"),
        ({"k": [3, 3]}, "Name each k once"),
        ({"k": [-1]}, "k is -1"),
        ({"k": ["3"]}, "it must be a list of whole numbers"),
        ({"selection": "biggest"}, "The selection 'biggest' is unknown; it can be absolute, value, contribution"),
        ({"scaling": "unit"}, "The scaling 'unit' is unknown"),
        ({"poles": "north"}, "The poles 'north' is unknown"),
    ],
)
def test_wrong_settings_are_refused(world: TinyWorld, settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        asked(world, **settings)
