"""What stages open: damaged and misfitting dictionaries and models are refused with a sentence, by every stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.workers.stages.tiny_world import TinyWorld, make_tiny_world
from workers.artifacts import Artifact, ArtifactError
from workers.dictionaries.cross_layer import CrossLayerCoder, CrossLayerDictionary, CrossLayerShape
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder
from workers.dictionaries.store import CoderDictionary, Dictionary, DictionaryDescription, write_coders
from workers.stages import train_dictionary
from workers.stages.configs import (
    AlignDictionariesConfig,
    CollectExemplarsConfig,
    ConfigError,
    EvaluateDictionaryConfig,
    MakeControlConfig,
    StageConfig,
    TrainDictionaryConfig,
)
from workers.stages.context import StageContext
from workers.stages.inputs import require_fit
from workers.vision_model import load_vision_model

READS = ("blocks.0.mlp.in",)
WRITES = ("blocks.0.mlp.out",)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_tiny_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def weights(world: TinyWorld) -> Iterator[Path]:
    """The weights of a dictionary that a test may spoil; whole again afterwards."""
    path = coder_of(world, "sae", CoderShape(16, 32, 4), ("blocks.0",)).path("weights.safetensors")
    content = path.read_bytes()
    yield path
    path.write_bytes(content)


def coder_of(world: TinyWorld, name: str, shape: CoderShape, places: tuple[str, ...]) -> Artifact:
    """A dictionary with random weights at one hookpoint."""
    coder = SparseCoder(shape)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in coder.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    parents = [world.image_set.digest, world.vision_model.digest]
    with world.store.write("dictionary", config={"name": name}, parents=parents) as writer:
        write_coders(writer, description_of(world, name, places, places), {places[0]: coder})
    assert writer.artifact is not None
    return writer.artifact


def description_of(
    world: TinyWorld, kind: str, reads: tuple[str, ...], writes: tuple[str, ...]
) -> DictionaryDescription:
    known = kind if kind in ("transcoder", "cross_layer_transcoder") else "topk_sae"
    return DictionaryDescription(known, kind, reads, writes, world.vision_model.digest, world.image_set.digest)


def requests(world: TinyWorld, dictionary: str) -> dict[str, StageConfig]:
    images = world.image_set.digest
    other = coder_of(world, "other", CoderShape(16, 48, 4), ("blocks.0",)).digest
    return {
        "collect-exemplars": CollectExemplarsConfig(images, (dictionary,)),
        "evaluate-dictionary": EvaluateDictionaryConfig(dictionary, images),
        "make-control": MakeControlConfig(dictionary, images, kind="random_directions"),
        "align-dictionaries": AlignDictionariesConfig(dictionary, other, image_set=images),
    }


@pytest.mark.parametrize("spoil", ["truncated", "altered"])
def test_a_damaged_dictionary_is_refused_by_every_stage_and_taken_once_it_is_whole(
    world: TinyWorld, weights: Path, spoil: str
) -> None:
    content = weights.read_bytes()
    digest = weights.parent.name
    assert world.run("collect-exemplars", CollectExemplarsConfig(world.image_set.digest, (digest,), n_top=3))
    weights.write_bytes(content[:-100] if spoil == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    for stage, config in requests(world, digest).items():
        with pytest.raises(ArtifactError, match=r"'weights\.safetensors' of the dictionary artefact .* was altered"):
            world.run(stage, config)
    weights.write_bytes(content)
    assert len(world.run("collect-exemplars", CollectExemplarsConfig(world.image_set.digest, (digest,), n_top=4))) == 1


def test_a_damaged_model_is_refused(world: TinyWorld, weights: Path) -> None:
    model = world.vision_model.path("model.safetensors")
    content = model.read_bytes()
    model.write_bytes(content[:-4] + b"\x00\x00\xc0\x7f")  # the last weight becomes NaN
    config = EvaluateDictionaryConfig(weights.parent.name, world.image_set.digest)
    with pytest.raises(ArtifactError, match=r"'model\.safetensors' of the vision-model artefact .* was altered"):
        world.run("evaluate-dictionary", config)
    model.write_bytes(content)
    assert world.run("evaluate-dictionary", config)


def test_a_dictionary_of_another_width_is_refused_by_every_stage(world: TinyWorld) -> None:
    narrow = coder_of(world, "narrow", CoderShape(8, 32, 4), ("blocks.0",)).digest
    asked = requests(world, narrow)
    alignment = asked.pop("align-dictionaries")
    for stage, config in asked.items():
        with pytest.raises(ValueError, match=r"reads vectors of width 8 at blocks\.0, where its vision model has 16"):
            world.run(stage, config)
    with pytest.raises(ValueError, match=r"write vectors of width 8 in the first dictionary, .* width 16 in the sec"):
        world.run("align-dictionaries", alignment)


def test_a_dictionary_that_writes_another_width_is_refused(world: TinyWorld) -> None:
    model = load_vision_model(world.vision_model)
    coder = SparseCoder(CoderShape(16, 32, 4, d_out=12, is_bias_tied=False))
    transcoder = CoderDictionary(description_of(world, "transcoder", READS, WRITES), {READS[0]: coder})
    shape = CrossLayerShape(16, 12, (32,), (4,))
    description = description_of(world, "cross_layer_transcoder", READS, WRITES)
    across: Dictionary = CrossLayerDictionary(description, CrossLayerCoder(shape))
    for dictionary in (transcoder, across):
        with pytest.raises(ValueError, match=r"writes vectors of width 12 at blocks\.0\.mlp\.out, where its .* has 16"):
            require_fit(dictionary, model)


def test_a_run_of_more_chunks_than_a_database_should_hold_is_refused_while_it_is_planned(
    world: TinyWorld, tmp_path: Path
) -> None:
    context = StageContext(world.store, tmp_path, tmp_path, chunk_seconds=1e-9)  # a chunk for every block of images
    config = TrainDictionaryConfig(
        world.image_set.digest, world.vision_model.digest, ("blocks.0",), n_latents=32, k=4, batch_tokens=64
    )
    assert len(train_dictionary.plan(replace(config, n_tokens=50_000), context)) > 1
    with pytest.raises(ConfigError, match=r"cut into [\d,]+ chunks of some 1e-09 seconds .* the most is 250,000\."):
        train_dictionary.plan(replace(config, n_tokens=10**11), context)
