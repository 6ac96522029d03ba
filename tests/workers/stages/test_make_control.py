"""Controls of a model's MLPs, and the same kind of dictionary on an untrained copy of the model."""

from __future__ import annotations

import pytest
import torch

from tests.workers.stages.tiny_world import HOOKPOINTS, TinyWorld, make_tiny_world
from workers.activations import image_activations
from workers.artifacts import Artifact
from workers.dictionaries.controls import feature_densities
from workers.dictionaries.feed_forward import FeedForwardDictionary, read_feed_forward
from workers.dictionaries.store import NEGATIVE, POSITIVE, load_dictionary
from workers.images import ImageSetReader
from workers.stages.configs import (
    CollectExemplarsConfig,
    ConfigError,
    MakeControlConfig,
    ReadFeedForwardConfig,
    TrainDictionaryConfig,
)
from workers.vision_model import ModelRequest, VisionModel, load_vision_model, register_vision_model

READS = ("blocks.0.mlp.hidden", "blocks.1.mlp.hidden")
N_TOKENS = 8192


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """The tiny model is given another source, so that an untrained copy of it is another model."""
    world = make_tiny_world(tmp_path_factory.mktemp("world"))
    loaded = load_vision_model(world.vision_model)
    folder = tmp_path_factory.mktemp("weights")
    from safetensors.torch import save_file

    save_file({name: weight + 0.05 for name, weight in loaded.module.state_dict().items()}, folder / "vit.safetensors")
    request = ModelRequest(
        loaded.description.architecture,
        "checkpoint",
        checkpoint=folder / "vit.safetensors",
        timm_kwargs=loaded.description.timm_kwargs,
    )
    return world._replace(vision_model=register_vision_model(world.store, request))


@pytest.fixture(scope="module")
def units(world: TinyWorld) -> Artifact:
    config = ReadFeedForwardConfig(world.vision_model.digest, world.image_set.digest, k=(6,), selection="contribution")
    return world.run("read-feed-forward", config)[0]


def control_of(world: TinyWorld, target: Artifact, kind: str, **more: str) -> list[Artifact]:
    config = MakeControlConfig(target.digest, world.image_set.digest, kind=kind, n_tokens=N_TOKENS, seed=5, **more)
    return world.run("make-control", config)


def tokens_of(world: TinyWorld, model: VisionModel, hookpoint: str) -> torch.Tensor:
    reader = ImageSetReader(world.image_set, world.root)
    parts = image_activations(model, reader, [hookpoint], range(len(reader)), n_threads=1)
    return torch.cat([part.activations[hookpoint].flatten(0, 1) for part in parts])


def test_random_directions_of_hidden_units_fire_as_often_as_the_units(world: TinyWorld, units: Artifact) -> None:
    [artifact] = control_of(world, units, "random_directions")
    control, target = load_dictionary(artifact), load_dictionary(units)
    assert (control.reads, control.writes) == (READS, target.writes)
    assert (target.poles, control.poles) == ((POSITIVE, NEGATIVE), (POSITIVE,))
    assert artifact.json("dictionary.json")["controls"] == units.digest
    assert artifact.json("calibration.json")["n_tokens"] == N_TOKENS
    tokens = tokens_of(world, load_vision_model(world.vision_model), READS[1])
    live = feature_densities(target, READS[1], tokens)
    found = feature_densities(control, READS[1], tokens)
    assert float(found.median()) == pytest.approx(float(live[live > 0].median()), rel=0.3)
    exemplars = world.run("collect-exemplars", CollectExemplarsConfig(world.image_set.digest, (artifact.digest,)))
    assert exemplars[0].json("exemplars.json")["hookpoints"] == list(READS)


@pytest.mark.parametrize("kind", ["transcoder", "cross_layer_transcoder"])
def test_transcoders_have_every_control_where_they_read(world: TinyWorld, kind: str) -> None:
    reads = ("blocks.0.mlp.in", "blocks.1.mlp.in")
    config = TrainDictionaryConfig(
        world.image_set.digest, world.vision_model.digest, reads, kind=kind, n_latents=32, k=3, n_tokens=2048,
        batch_tokens=128,
    )  # fmt: skip
    [target] = world.run("train-dictionary", config)
    controls = [control_of(world, target, one)[0] for one in ("residual_basis", "random_directions")]
    [untrained] = control_of(world, target, "untrained_dictionary")
    loaded = [load_dictionary(artifact) for artifact in (*controls, untrained)]
    assert [one.reads for one in loaded] == [reads] * 3
    assert [one.n_latents(reads[0]) for one in loaded] == [16, 32, 32]
    tokens = tokens_of(world, load_vision_model(world.vision_model), reads[1])
    assert (loaded[2].encode(reads[1], tokens).values > 0).sum(1).unique().tolist() == [3]  # type: ignore[no-untyped-call]
    found, live = (feature_densities(one, reads[1], tokens) for one in (loaded[1], load_dictionary(target)))
    assert float(found.median()) == pytest.approx(float(live[live > 0].median()), rel=0.3)
    made = (target.digest, *(artifact.digest for artifact in (*controls, untrained)))
    exemplars = world.run("collect-exemplars", CollectExemplarsConfig(world.image_set.digest, made, n_top=3))
    assert [one.json("exemplars.json")["dictionary"] for one in exemplars] == list(made)


def test_the_units_of_an_untrained_model_are_a_control(world: TinyWorld, units: Artifact) -> None:
    model, head, artifact = control_of(world, units, "random_transformer", name="chance")
    facts, trained = model.json("model.json"), world.vision_model.json("model.json")
    assert (facts["source"], trained["source"]) == ("untrained", "checkpoint")
    assert {k: v for k, v in facts.items() if k != "source"} == {k: v for k, v in trained.items() if k != "source"}
    assert model.manifest["parents"] == [world.vision_model.digest]
    assert head.kind == "readout"
    control, target = load_dictionary(artifact), load_dictionary(units)
    assert isinstance(control, FeedForwardDictionary)
    assert (control.kind, control.description.form) == ("random_transformer", "topk_ff_kv")
    assert (control.reads, control.writes, control.poles) == (target.reads, target.writes, target.poles)
    assert (control.description.controls, control.description.vision_model) == (units.digest, model.digest)
    untrained = load_vision_model(model)
    expected = read_feed_forward(untrained, READS[1], k=6, selection="contribution")
    tokens = tokens_of(world, untrained, READS[1])
    assert torch.equal(control.encode(READS[1], tokens).values, expected.encode(tokens).values)
    assert control.description.name == "chance"


def test_a_trained_kind_is_trained_on_the_untrained_model_first(world: TinyWorld) -> None:
    target = world.train(0)
    made = control_of(world, target, "random_transformer")
    assert [artifact.kind for artifact in made] == ["vision-model", "readout"]
    settings = TrainDictionaryConfig(
        world.image_set.digest, made[0].digest, HOOKPOINTS, n_latents=64, k=4, n_tokens=1024, batch_tokens=128
    )
    [trained] = world.run("train-dictionary", settings)
    [artifact] = control_of(world, target, "random_transformer", trained=trained.digest)
    control, source = load_dictionary(artifact), load_dictionary(trained)
    assert (control.kind, control.description.form) == ("random_transformer", "topk_sae")
    assert (control.description.controls, control.description.vision_model) == (target.digest, made[0].digest)
    tokens = tokens_of(world, load_vision_model(made[0]), HOOKPOINTS[1])
    assert torch.equal(control.encode(HOOKPOINTS[1], tokens).values, source.encode(HOOKPOINTS[1], tokens).values)
    with pytest.raises(ValueError, match="does not read an untrained copy"):
        control_of(world, target, "random_transformer", trained=world.train(1).digest)
    narrow = TrainDictionaryConfig(
        world.image_set.digest, made[0].digest, HOOKPOINTS, n_latents=32, k=4, n_tokens=1024, batch_tokens=128
    )
    [other] = world.run("train-dictionary", narrow)
    with pytest.raises(ValueError, match="not of the kind, hookpoints and widths"):
        control_of(world, target, "random_transformer", trained=other.digest)


def test_what_cannot_be_controlled_is_refused_with_a_sentence(world: TinyWorld, units: Artifact) -> None:
    with pytest.raises(ValueError, match="take random_directions or random_transformer"):
        control_of(world, units, "residual_basis")
    with pytest.raises(ValueError, match="leave 'trained' empty"):
        control_of(world, units, "random_transformer", trained=units.digest)
    with pytest.raises(ConfigError, match="A control of kind random_directions is not trained"):
        control_of(world, units, "random_directions", trained=units.digest)
    control = control_of(world, units, "random_transformer")[2]
    with pytest.raises(ValueError, match="reads an untrained model already"):
        control_of(world, control, "random_transformer")
