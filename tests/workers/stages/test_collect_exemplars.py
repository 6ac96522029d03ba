"""The stage collect-exemplars: every kind of dictionary, what was collected before, and images or weights gone bad."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.workers.stages.tiny_world import N_IMAGES, TinyWorld, make_tiny_world
from workers.activations import image_activations
from workers.artifacts import Artifact
from workers.benchmarks.exemplar_reference import compare_with_reference
from workers.dictionaries.cross_layer import CrossLayerCoder, CrossLayerShape, initialize_cross_layer, write_cross_layer
from workers.dictionaries.feed_forward import layer_scale
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder
from workers.dictionaries.store import Dictionary, DictionaryDescription, load_dictionary, pole_codes, write_coders
from workers.exemplars.accumulator import ExemplarSettings
from workers.images import ImageImportError, ImageSetReader
from workers.readouts import class_directions, load_readout, own_head, write_readout
from workers.stages import collect_exemplars
from workers.stages.configs import STAGES, CollectExemplarsConfig, ConfigError, ReadFeedForwardConfig
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.memory import OutOfMemoryError
from workers.vision_model import (
    ModelRequest,
    load_vision_model,
    register_vision_model,
    write_vision_model,
)

READS, OUTS = ("blocks.0.mlp.in", "blocks.1.mlp.in"), ("blocks.0.mlp.out", "blocks.1.mlp.out")
SCALED = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_tiny_world(tmp_path_factory.mktemp("world"))


def random_weights(module: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)


def describe(world: TinyWorld, kind: str, reads: tuple[str, ...], writes: tuple[str, ...]) -> DictionaryDescription:
    poles = ("positive", "negative") if kind == "transcoder" else ("positive",)
    return DictionaryDescription(
        kind, kind, reads, writes, world.vision_model.digest, world.image_set.digest, poles=poles
    )


def make_sae(world: TinyWorld, seed: int, model: Artifact | None = None) -> Artifact:
    coder = SparseCoder(CoderShape(d_model=16, n_latents=24, k=3))
    initialize_coder(coder, torch.Generator().manual_seed(seed))
    reads = ("blocks.1",)
    description = DictionaryDescription(
        "topk_sae", "sae", reads, reads, (model or world.vision_model).digest, world.image_set.digest
    )
    with world.store.write("dictionary", config={"seed": seed}) as writer:
        write_coders(writer, description, {"blocks.1": coder})
    return world.store.open(writer.digest)


def make_transcoder(world: TinyWorld) -> Artifact:
    shape = CoderShape(d_model=16, n_latents=20, k=4, selection="abs_topk", normalization="none", is_bias_tied=False)
    coders = {read: SparseCoder(shape) for read in READS}
    for seed, coder in enumerate(coders.values()):
        random_weights(coder, seed)
    with world.store.write("dictionary", config={"kind": "transcoder"}) as writer:
        write_coders(writer, describe(world, "transcoder", READS, OUTS), coders)
    return world.store.open(writer.digest)


def make_cross_layer(world: TinyWorld) -> Artifact:
    coder = CrossLayerCoder(CrossLayerShape(d_model=16, d_out=16, n_latents=(12, 20), k=(2, 4)))
    initialize_cross_layer(coder, torch.Generator().manual_seed(0))
    random_weights(coder, 5)
    with world.store.write("dictionary", config={"kind": "clt"}) as writer:
        write_cross_layer(writer, describe(world, "cross_layer_transcoder", READS, OUTS), coder)
    return world.store.open(writer.digest)


@pytest.fixture(scope="module")
def readout(world: TinyWorld) -> Artifact:
    model = load_vision_model(world.vision_model)
    return write_readout(world.store, model, own_head(model))


@pytest.fixture(scope="module")
def kinds(world: TinyWorld) -> dict[str, Artifact]:
    units = world.run(
        "read-feed-forward", ReadFeedForwardConfig(world.vision_model.digest, world.image_set.digest, k=(0, 4))
    )
    return {
        "sae": make_sae(world, 0), "transcoder": make_transcoder(world), "clt": make_cross_layer(world),
        "ff_kv": units[0], "topk_ff_kv": units[1],
    }  # fmt: skip


@pytest.fixture(scope="module")
def collected(world: TinyWorld, kinds: dict[str, Artifact], readout: Artifact) -> dict[str, Artifact]:
    """All kinds in one pass."""
    digests = tuple(artifact.digest for artifact in kinds.values())
    config = CollectExemplarsConfig(world.image_set.digest, digests, readout.digest, n_top=6)
    return dict(zip(kinds, world.run("collect-exemplars", config), strict=True))


def dense_values(world: TinyWorld, dictionary: Dictionary, hookpoint: str, pole: str) -> Tensor:
    """[image, token, latent]"""
    model, reader = load_vision_model(world.vision_model), ImageSetReader(world.image_set, world.root)
    parts = []
    for part in image_activations(model, reader, [hookpoint], range(N_IMAGES), n_threads=1):
        codes = pole_codes(dictionary.encode(hookpoint, part.activations[hookpoint].flatten(0, 1)), pole)
        values = torch.zeros(codes.values.shape[0], dictionary.n_latents(hookpoint))
        parts.append(values.scatter_add_(1, codes.indices, codes.values).view(len(part.indices), model.n_tokens, -1))
    return torch.cat(parts)


@pytest.mark.parametrize("kind", ["sae", "transcoder", "clt", "ff_kv", "topk_ff_kv"])
def test_every_kind_has_the_exemplars_of_the_reference(
    world: TinyWorld, kinds: dict[str, Artifact], collected: dict[str, Artifact], kind: str
) -> None:
    dictionary = load_dictionary(kinds[kind])
    settings = ExemplarSettings(**collected[kind].json("exemplars.json")["settings"])
    n_files = 0
    for place in collect_exemplars.places_of(0, dictionary):
        tensors = load_file(collected[kind].path(place.file_name))
        dense = dense_values(world, dictionary, place.hookpoint, place.pole)
        assert compare_with_reference(tensors, dense, settings) == []
        n_files += 1
    assert n_files == {"sae": 1, "transcoder": 4, "clt": 2, "ff_kv": 4, "topk_ff_kv": 4}[kind]


def test_latents_are_judged_by_what_they_write_last_into_the_stream(
    world: TinyWorld, kinds: dict[str, Artifact], collected: dict[str, Artifact], readout: Artifact
) -> None:
    model = load_vision_model(world.vision_model)
    directions = class_directions(model, load_readout(readout))
    dictionary = load_dictionary(kinds["clt"])
    tensors = load_file(collected["clt"].path("blocks.0.mlp.in.safetensors"))
    logits = dictionary.decoder_directions("blocks.0.mlp.in", "blocks.1.mlp.out") @ directions.T
    torch.testing.assert_close(tensors["logit_value"], logits.sort(dim=1, descending=True).values)
    assert torch.equal(tensors["logit_class"].long(), logits.argsort(dim=1, descending=True))
    weak = load_file(collected["transcoder"].path("blocks.1.mlp.in.negative.safetensors"))
    written = load_dictionary(kinds["transcoder"]).decoder_directions("blocks.1.mlp.in")
    assert torch.equal(weak["logit_class"][:, 0].long(), (-written @ directions.T).argmax(1))


def test_a_transcoders_directions_are_scaled_as_the_block_scales_them(world: TinyWorld, readout: Artifact) -> None:
    scaled = register_vision_model(world.store, ModelRequest("deit3_small_patch16_224", timm_kwargs=SCALED))
    model = load_vision_model(scaled)
    with torch.no_grad():
        for block in model.module.blocks:
            block.ls2.gamma.copy_(torch.linspace(-1, 2, 16))
    dictionary, place = load_dictionary(make_transcoder(world)), collect_exemplars.Place(0, READS[0], "positive")
    directions = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    found = collect_exemplars.logit_tensors(dictionary, place, model, directions)
    scale = layer_scale(model.module.blocks[0])
    assert float((scale - 1).abs().max()) > 1
    expected = (dictionary.decoder_directions(READS[0]) * scale) @ directions.T
    torch.testing.assert_close(found["logit_value"][:, 0], expected.max(dim=1).values)


def test_what_is_written_before_a_norm_is_not_judged(world: TinyWorld) -> None:
    coder = SparseCoder(CoderShape(d_model=16, n_latents=8, k=2))
    dictionary_at = {}
    for hookpoint in ("blocks.0", "blocks.0.mlp.in"):
        with world.store.write("dictionary", config={"at": hookpoint}) as writer:
            write_coders(writer, describe(world, "topk_sae", (hookpoint,), (hookpoint,)), {hookpoint: coder})
        dictionary_at[hookpoint] = load_dictionary(world.store.open(writer.digest))
    model = load_vision_model(world.vision_model)
    judged = {}
    for at, one in dictionary_at.items():
        place = collect_exemplars.Place(0, at, "positive")
        judged[at] = bool(collect_exemplars.logit_tensors(one, place, model, torch.eye(3, 16)))
    assert judged == {"blocks.0": True, "blocks.0.mlp.in": False}


def plan_of(world: TinyWorld, config: CollectExemplarsConfig, folder: Path) -> list[ChunkPlan]:
    roots = {world.image_set.digest: world.root}
    revision = STAGES["collect-exemplars"].revision
    context = StageContext(world.store, folder, folder, image_roots=roots.__getitem__, stage_revision=revision)
    return collect_exemplars.plan(config, context)


def test_a_second_dictionary_is_collected_without_the_first(world: TinyWorld, tmp_path: Path) -> None:
    first, second = make_sae(world, 1), make_sae(world, 2)
    [exemplars] = world.run("collect-exemplars", CollectExemplarsConfig(world.image_set.digest, (first.digest,)))
    both = CollectExemplarsConfig(world.image_set.digest, (first.digest, second.digest))
    [chunk] = plan_of(world, both, tmp_path)
    assert chunk.payload["dictionaries"] == [1]
    found = world.run("collect-exemplars", both)
    assert found[0].digest == exemplars.digest
    assert found[1].json("exemplars.json")["dictionary"] == second.digest
    swapped = CollectExemplarsConfig(world.image_set.digest, (second.digest, first.digest))
    assert [plan.payload["dictionaries"] for plan in plan_of(world, swapped, tmp_path)] == [[]]
    assert [one.digest for one in world.run("collect-exemplars", swapped)] == [found[1].digest, found[0].digest]


def test_other_settings_are_collected_anew(world: TinyWorld, tmp_path: Path) -> None:
    dictionary = make_sae(world, 1)
    world.run("collect-exemplars", CollectExemplarsConfig(world.image_set.digest, (dictionary.digest,), n_top=3))
    config = CollectExemplarsConfig(world.image_set.digest, (dictionary.digest,), n_top=4)
    assert plan_of(world, config, tmp_path)[0].payload["dictionaries"] == [0]


def with_top_images(config: CollectExemplarsConfig, n_top: int) -> CollectExemplarsConfig:
    """More than a config takes: a tiny dictionary then has the tables of a huge one."""
    object.__setattr__(config, "n_top", n_top)
    return config


def test_chunks_are_longer_where_accumulators_are_large(world: TinyWorld, tmp_path: Path) -> None:
    dictionary = load_dictionary(make_sae(world, 1))
    model = load_vision_model(world.vision_model)
    context = StageContext(world.store, tmp_path, tmp_path, chunk_seconds=5e-3)
    sizes = []
    for n_top in (1, 100_000):
        config = with_top_images(CollectExemplarsConfig(world.image_set.digest, (dictionary.digest,)), n_top)
        sizes.append(collect_exemplars.images_at_once(config, context, model, [dictionary]))
    assert sizes[1] == pytest.approx(sizes[0] * collect_exemplars.LONGEST_STRETCH, rel=0.3)


def test_the_state_is_as_large_as_the_plan_says(world: TinyWorld, tmp_path: Path) -> None:
    artifact = make_sae(world, 1)
    dictionary, model = load_dictionary(artifact), load_vision_model(world.vision_model)
    config = CollectExemplarsConfig(world.image_set.digest, (artifact.digest,))
    said = collect_exemplars.state_bytes(config, model, [dictionary])
    context = StageContext(world.store, tmp_path, tmp_path)
    [accumulator] = collect_exemplars.take_up(config, -1, {0: dictionary}, model, context).values()
    accumulator.save(tmp_path / "state")
    assert (tmp_path / "state").stat().st_size == pytest.approx(said, rel=0.2)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="The precision 'half' is unknown; it can be float32, bfloat16"):
        CollectExemplarsConfig("0" * 64, ("1" * 64,), precision="half")


@pytest.fixture
def damaged(world: TinyWorld) -> Iterator[Path]:
    """A file in the middle of the set that a test may spoil; put back afterwards."""
    path = world.root / "041.png"
    content = path.read_bytes()
    yield path
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", ["truncated", "altered", "gone"])
def test_a_file_that_changed_is_named_and_harms_nothing(world: TinyWorld, damaged: Path, spoil: str) -> None:
    dictionary = make_sae(world, sum(spoil.encode()))
    config = CollectExemplarsConfig(world.image_set.digest, (dictionary.digest,))
    content = damaged.read_bytes()
    before = names_of(world, "exemplars")
    if spoil == "gone":
        damaged.unlink()
    else:
        damaged.write_bytes(content[:-30] if spoil == "truncated" else (world.root / "040.png").read_bytes())
    with pytest.raises(ImageImportError, match=r"'041\.png' .*(is not the one that was imported|cannot be read)"):
        world.run("collect-exemplars", config)
    assert names_of(world, "exemplars") == before
    assert names_of(world, "unfinished") == []
    damaged.write_bytes(content)
    [exemplars] = world.run("collect-exemplars", config)
    exemplars.verify()


def names_of(world: TinyWorld, folder: str) -> list[str]:
    return sorted(path.name for path in (world.store.root / folder).glob("*"))


def test_activations_that_are_not_finite_stop_the_run_with_the_image(world: TinyWorld) -> None:
    good = load_vision_model(world.vision_model)
    good.module.blocks[1].mlp.fc2.weight[3, 5] = float("nan")
    broken = write_vision_model(world.store, good.module, good.description)
    config = CollectExemplarsConfig(world.image_set.digest, (make_sae(world, 8, broken).digest,))
    before = names_of(world, "exemplars")
    with pytest.raises(ValueError, match=r"at blocks\.1 are not finite for 32 of 32 images, the first '000\.png'"):
        world.run("collect-exemplars", config)
    assert names_of(world, "exemplars") == before
    healthy = CollectExemplarsConfig(world.image_set.digest, (make_sae(world, 8).digest,))
    assert len(world.run("collect-exemplars", healthy)) == 1


def test_large_finite_activations_are_not_taken_for_broken_ones(world: TinyWorld) -> None:
    reader = ImageSetReader(world.image_set, world.root)
    tokens = torch.full((2, 3, 4), 1e38)
    collect_exemplars.require_finite({"blocks.0": tokens}, [4, 5], reader)
    tokens[1, 0, 0] = float("inf")
    with pytest.raises(ValueError, match=r"for 1 of 2 images, the first '005\.png'"):
        collect_exemplars.require_finite({"blocks.0": tokens}, [4, 5], reader)


def test_tables_that_do_not_fit_into_memory_are_told_with_their_size(world: TinyWorld) -> None:
    config = with_top_images(CollectExemplarsConfig(world.image_set.digest, (make_sae(world, 9).digest,)), 10**11)
    with pytest.raises(OutOfMemoryError, match=r"take 76,800\.0 GB.* collect for fewer dictionaries at once"):
        world.run("collect-exemplars", config)
    assert names_of(world, "unfinished") == []
