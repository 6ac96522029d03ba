"""Quality as a stage: against one pass over everything, for every kind of dictionary, and in any chunks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.workers.stages.tiny_world import HOOKPOINTS, N_IMAGES, TinyWorld, make_tiny_world
from workers.activations import image_activations
from workers.artifacts import Artifact
from workers.dictionaries.cross_layer import CrossLayerCoder, CrossLayerShape, write_cross_layer
from workers.dictionaries.monosemanticity import monosemanticity
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder
from workers.dictionaries.store import DictionaryDescription, load_dictionary, write_coders
from workers.hookpoints import splice
from workers.images import ImageSetReader, image_batches
from workers.readouts import fit_probe, own_head, write_readout
from workers.stages import evaluate_dictionary
from workers.stages.configs import ConfigError, EmbedImagesConfig, EvaluateDictionaryConfig, ReadFeedForwardConfig
from workers.stages.context import StageContext
from workers.stages.evaluation_chunks import spread_evenly, with_less_memory
from workers.stages.evaluation_splice import labels_of
from workers.stages.memory import OutOfMemoryError
from workers.vision_model import ModelRequest, load_vision_model, register_vision_model


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_tiny_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def dictionary(world: TinyWorld) -> Artifact:
    return rotated_axes(world, HOOKPOINTS)


@pytest.fixture(scope="module")
def embeddings(world: TinyWorld) -> Artifact:
    kwargs = {"img_size": 16, "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2, "num_classes": 0}
    another = register_vision_model(world.store, ModelRequest("vit_tiny_patch16_224", timm_kwargs=kwargs))
    return world.run("embed-images", EmbedImagesConfig(world.image_set.digest, another.digest))[0]


@pytest.fixture(scope="module")
def quality(world: TinyWorld, dictionary: Artifact, embeddings: Artifact) -> Artifact:
    return world.run("evaluate-dictionary", config_of(world, dictionary, embeddings))[0]


def config_of(world: TinyWorld, dictionary: Artifact, embeddings: Artifact | None = None) -> EvaluateDictionaryConfig:
    digest = embeddings.digest if embeddings else ""
    return EvaluateDictionaryConfig(dictionary.digest, world.image_set.digest, embeddings=digest, splice_images=20)


def rotated_axes(world: TinyWorld, hookpoints: tuple[str, ...]) -> Artifact:
    """SAEs whose latents are both ends of sixteen orthogonal axes: the eight strongest rebuild most of a token."""
    coders = {}
    for seed, hookpoint in enumerate(hookpoints):
        coders[hookpoint] = SparseCoder(CoderShape(16, 32, 8))
        axes = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(seed))).Q
        for weight in (coders[hookpoint].W_enc, coders[hookpoint].W_dec):
            weight.data.copy_(torch.cat([axes, -axes]))
    return written(world, DictionaryDescription(
        "topk_sae", "axes", hookpoints, hookpoints, world.vision_model.digest, world.image_set.digest
    ), coders)  # fmt: skip


def written(world: TinyWorld, description: DictionaryDescription, coders: dict[str, SparseCoder]) -> Artifact:
    parents = [description.image_set, description.vision_model]
    with world.store.write("dictionary", config={"name": description.name}, parents=parents) as writer:
        write_coders(writer, description, coders)
    assert writer.artifact is not None
    return writer.artifact


def transcoders(
    world: TinyWorld, reads: tuple[str, ...], writes: tuple[str, ...], kind: str = "transcoder"
) -> Artifact:
    """An untrained dictionary that writes elsewhere than it reads."""
    coders = {}
    for seed, read in enumerate(reads):
        coders[read] = SparseCoder(CoderShape(16, 48, 4, is_bias_tied=False, normalization="none"))
        initialize_coder(coders[read], torch.Generator().manual_seed(seed))
        torch.nn.init.normal_(coders[read].W_dec, generator=torch.Generator().manual_seed(seed + 9))
    description = DictionaryDescription(kind, "tc", reads, writes, world.vision_model.digest, world.image_set.digest)
    return written(world, description, coders)


def cut(world: TinyWorld, config: EvaluateDictionaryConfig, folder: Path) -> dict[str, Any]:
    """The same evaluation in chunks of 32 images and of few rows."""
    smaller = replace(config, images_per_chunk=32)
    roots = {world.image_set.digest: world.root}
    context = StageContext(world.store, folder, folder, image_roots=roots.__getitem__)
    plans = evaluate_dictionary.plan(smaller, context)
    [digest] = world.run_pieces(evaluate_dictionary, config, plans, folder)
    found = world.store.open(digest)
    return {"quality": found.json("quality.json"), "evaluation": found.json("evaluation.json")}


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every number of nested records by its path."""
    if isinstance(value, dict):
        return {key: one for name, inner in value.items() for key, one in flat(inner, f"{path}/{name}").items()}
    if isinstance(value, list):
        return {key: one for name, inner in enumerate(value) for key, one in flat(inner, f"{path}/{name}").items()}
    return {path: value}


def test_images_to_evaluate_are_spread_over_the_set() -> None:
    assert spread_evenly(10, 4) == [0, 2, 5, 7]
    assert spread_evenly(3, 10) == [0, 1, 2]


def test_quality_does_not_depend_on_the_chunks(
    world: TinyWorld, dictionary: Artifact, embeddings: Artifact, quality: Artifact, tmp_path: Path
) -> None:
    found = flat(cut(world, config_of(world, dictionary, embeddings), tmp_path))
    expected = flat({"quality": quality.json("quality.json"), "evaluation": quality.json("evaluation.json")})
    assert found.keys() == expected.keys()
    assert found == {
        key: pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value
        for key, value in expected.items()
    }


def test_every_hookpoint_has_its_splice_and_all_together(quality: Artifact) -> None:
    by_hookpoint, whole = quality.json("quality.json"), quality.json("evaluation.json")
    for hookpoint in HOOKPOINTS:
        splice = by_hookpoint[hookpoint]["splice"]
        assert set(splice["passes"]) == {"clean", "dictionary", "zero", "mean"}
        assert splice["passes"]["clean"] == splice["passes"]["clean"] | {"kl": 0.0, "agreement": 1.0, "n_images": 20}
        assert splice["passes"]["dictionary"]["kl"] > 0
        assert 0 < splice["scores"]["zero"]["cosine_distance"] < 1
        assert splice["passes"]["dictionary"]["cross_entropy"] is None  # these images have no labels
    together = whole["splice_together"]["passes"]
    last = by_hookpoint["blocks.1"]["splice"]["passes"]
    # after the last block nothing of what came before is left
    assert together["zero"]["cosine_distance"] == pytest.approx(last["zero"]["cosine_distance"], rel=1e-4)
    assert whole["n_images_spliced"] == 20


def test_the_mean_baseline_puts_the_mean_of_all_images_there(world: TinyWorld, quality: Artifact) -> None:
    model, reader = load_vision_model(world.vision_model), ImageSetReader(world.image_set, world.root)
    [part] = image_activations(model, reader, HOOKPOINTS, range(N_IMAGES), batch_size=N_IMAGES, n_threads=1)
    chosen = spread_evenly(N_IMAGES, 20)
    [images] = image_batches(reader, model.transform, chosen, 20, 1)
    clean = model.module.forward_features(images)[:, 0]
    for hookpoint in HOOKPOINTS:
        tokens = part.activations[hookpoint]
        means = torch.cat([tokens[:, :1].mean(0), tokens[:, 1:].mean((0, 1)).expand(16, -1)]).expand(20, -1, -1)
        with torch.no_grad(), splice(model, {hookpoint: lambda _, means=means: means}):  # type: ignore[misc]
            altered = model.module.forward_features(images)[:, 0]
        distance = float((1 - torch.nn.functional.cosine_similarity(altered, clean)).mean())
        found = quality.json("quality.json")[hookpoint]["splice"]["passes"]["mean"]
        assert found["cosine_distance"] == pytest.approx(distance, rel=1e-4)


def test_latents_are_scored_by_the_images_that_drive_them(
    world: TinyWorld, dictionary: Artifact, embeddings: Artifact, quality: Artifact
) -> None:
    model, coder = load_vision_model(world.vision_model), load_dictionary(dictionary)
    reader = ImageSetReader(world.image_set, world.root)
    maxima = []
    for part in image_activations(model, reader, ["blocks.0"], range(N_IMAGES), n_threads=1):
        for tokens in part.activations["blocks.0"]:
            codes = coder.encode("blocks.0", tokens)
            maxima.append(torch.zeros(len(tokens), 32).scatter(1, codes.indices, codes.values).amax(0))
    vectors = load_file(embeddings.path("embeddings.safetensors"))["embeddings"].float()
    expected = monosemanticity(torch.stack(maxima), vectors)
    found = load_file(quality.path("monosemanticity.safetensors"))["blocks.0"]
    assert torch.allclose(found, expected, atol=1e-4, equal_nan=True)
    assert quality.json("quality.json")["blocks.0"]["monosemanticity"]["n_latents"] == int((~expected.isnan()).sum())


def test_directions_are_compared_within_and_across_blocks(dictionary: Artifact, quality: Artifact) -> None:
    coder = load_dictionary(dictionary)
    unit = [torch.nn.functional.normalize(coder.decoder_directions(read), dim=1) for read in HOOKPOINTS]
    across = (unit[0] @ unit[1].T).amax(1)
    alive = load_file(quality.path("density.safetensors"))["blocks.0"] > 0
    pairs = quality.json("evaluation.json")["block_pairs"]
    assert pairs["reads"] == list(HOOKPOINTS)
    assert pairs["mean"][0][1] == pytest.approx(float(across[alive].mean()), abs=1e-5)
    own = (unit[0] @ unit[0].T).fill_diagonal_(-1).amax(1)
    assert torch.allclose(load_file(quality.path("nearest.safetensors"))["blocks.0/cosine"], own, atol=1e-6)
    within = quality.json("quality.json")["blocks.0"]["nearest_cosine"]
    assert (within["mean"], within["n"]) == (pytest.approx(float(own[alive].mean()), abs=1e-5), int(alive.sum()))


def test_a_transcoder_is_measured_where_it_writes(world: TinyWorld) -> None:
    reads, writes = ("blocks.0.mlp.in", "blocks.1.mlp.in"), ("blocks.0.mlp.out", "blocks.1.mlp.out")
    made = transcoders(world, reads, writes)
    [artifact] = world.run("evaluate-dictionary", config_of(world, made))
    model, coder = load_vision_model(world.vision_model), load_dictionary(made)
    reader = ImageSetReader(world.image_set, world.root)
    [part, *_] = image_activations(model, reader, [*reads, *writes], range(N_IMAGES), batch_size=N_IMAGES, n_threads=1)
    wanted = part.activations[writes[1]].flatten(0, 1).double()
    rebuilt = coder.reconstruct({read: part.activations[read].flatten(0, 1) for read in reads})[writes[1]].double()
    expected = 1 - float((wanted - rebuilt).square().sum() / (wanted - wanted.mean(0)).square().sum())
    quality = artifact.json("quality.json")
    assert quality[reads[1]]["explained_variance"]["all"] == pytest.approx(expected, rel=1e-4)
    assert quality[reads[1]]["splice"]["passes"]["dictionary"]["n_images"] == 20
    assert artifact.json("evaluation.json")["writes"] == list(writes)


def test_without_a_splice_and_pairs_there_are_none(world: TinyWorld, dictionary: Artifact) -> None:
    config = replace(config_of(world, dictionary), splice_images=0, block_pairs="none", max_images=40)
    [artifact] = world.run("evaluate-dictionary", config)
    assert "splice" not in artifact.json("quality.json")["blocks.0"]
    whole = artifact.json("evaluation.json")
    assert "splice_together" not in whole
    assert whole["block_pairs"]["mean"][0][1] is None
    assert artifact.json("quality.json")["blocks.0"]["n_tokens"]["cls"] == 40


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_tiny_world(tmp_path_factory.mktemp("labeled"), n_classes=2)


def test_labels_are_matched_to_classes_by_name(world: TinyWorld, labeled: TinyWorld) -> None:
    reader = ImageSetReader(labeled.image_set, labeled.root)
    head = own_head(load_vision_model(labeled.vision_model))
    assert head.classes == ["class 0", "class 1", "class 2"]
    assert labels_of(reader, head).tolist() == [0] * 35 + [1] * 35
    assert labels_of(reader, replace(head, classes=["x", "class 0", "class 1"])).tolist() == [1] * 35 + [2] * 35
    assert labels_of(reader, replace(head, classes=["x", "y", "class 1"])).tolist() == [-1] * 35 + [2] * 35
    assert labels_of(reader, None).tolist() == [-1] * N_IMAGES
    unlabeled = ImageSetReader(world.image_set, world.root)
    assert labels_of(unlabeled, head).tolist() == [-1] * N_IMAGES


def test_labeled_images_have_a_cross_entropy_and_another_readout_another_one(labeled: TinyWorld) -> None:
    dictionary = rotated_axes(labeled, ("blocks.0", "blocks.1"))
    model, reader = load_vision_model(labeled.vision_model), ImageSetReader(labeled.image_set, labeled.root)
    probe = write_readout(labeled.store, model, fit_probe(model, reader, range(N_IMAGES), n_threads=1))
    losses = []
    for readout in ("", probe.digest):
        config = replace(config_of(labeled, dictionary), readout=readout, splice_images=1000)
        [made] = labeled.run("evaluate-dictionary", config)
        passes = made.json("quality.json")["blocks.1"]["splice"]["passes"]
        losses.append(passes["clean"]["cross_entropy"])
        assert passes["clean"]["n_labeled"] == N_IMAGES
        assert passes["dictionary"]["cross_entropy"] != passes["clean"]["cross_entropy"]
    labels = labels_of(reader, own_head(model))
    logits = torch.cat([part.logits for part in image_activations(model, reader, [], range(N_IMAGES), n_threads=1)])
    assert losses[0] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5)
    assert losses[1] < losses[0]  # a probe fitted on these images knows them better than an untrained head


def test_a_readout_or_embeddings_of_something_else_are_refused(
    world: TinyWorld, labeled: TinyWorld, dictionary: Artifact, tmp_path: Path
) -> None:
    [embedded] = labeled.run("embed-images", EmbedImagesConfig(labeled.image_set.digest, labeled.vision_model.digest))
    shutil.copytree(embedded.folder, world.store.root / "image-embeddings" / embedded.digest)
    with pytest.raises(ValueError, match="The embeddings are of another image set"):
        world.run("evaluate-dictionary", replace(config_of(world, dictionary), embeddings=embedded.digest))
    [own] = world.run("embed-images", EmbedImagesConfig(world.image_set.digest, world.vision_model.digest))
    with pytest.raises(ConfigError, match="The embeddings are by the very model that the dictionary explains; embed"):
        world.run("evaluate-dictionary", replace(config_of(world, dictionary), embeddings=own.digest))
    model = load_vision_model(world.vision_model)
    model.digest = "f" * 64
    foreign = write_readout(world.store, model, own_head(model))
    with pytest.raises(ValueError, match="The readout belongs to another vision model"):
        world.run("evaluate-dictionary", replace(config_of(world, dictionary), readout=foreign.digest))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="block_pairs is 'some'; it can be all, consecutive, none"):
        EvaluateDictionaryConfig("a", "b", block_pairs="some")
    with pytest.raises(ConfigError, match="splice_images is -1; it must be 0 or more"):
        EvaluateDictionaryConfig("a", "b", splice_images=-1)


def test_a_models_own_mlps_explain_themselves_and_few_of_their_units_matter(world: TinyWorld) -> None:
    every, ten = world.run(
        "read-feed-forward", ReadFeedForwardConfig(world.vision_model.digest, world.image_set.digest)
    )
    [whole] = world.run("evaluate-dictionary", config_of(world, every))
    [few] = world.run("evaluate-dictionary", config_of(world, ten))
    for read, quality in whole.json("quality.json").items():
        assert quality["explained_variance"]["all"] == pytest.approx(1.0, abs=1e-5)
        assert quality["splice"]["passes"]["dictionary"]["cosine_distance"] == pytest.approx(0, abs=1e-5)
        assert quality["l0"] == 64  # GELU is never zero
        assert quality["l0_positive"]["all"] < quality["l0"]
        assert quality["l0_contributing"]["all"] < quality["l0"]
        kept = few.json("quality.json")[read]
        assert kept["l0"] == 10
        assert kept["explained_variance"]["all"] < 1
    assert whole.json("evaluation.json")["writes"] == ["blocks.0.mlp.write", "blocks.1.mlp.write"]


def cross_layer(world: TinyWorld) -> Artifact:
    reads, writes = ("blocks.0.mlp.in", "blocks.1.mlp.in"), ("blocks.0.mlp.out", "blocks.1.mlp.out")
    coder = CrossLayerCoder(CrossLayerShape(16, 16, (32, 32), (4, 4)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in [*coder.W_enc, *coder.W_dec, *coder.b_dec]:
            weight.copy_(torch.randn(weight.shape, generator=generator) / 4)
    description = DictionaryDescription(
        "cross_layer_transcoder", "clt", reads, writes, world.vision_model.digest, world.image_set.digest
    )
    with world.store.write("dictionary", config={"name": "clt"}, parents=[world.vision_model.digest]) as writer:
        write_cross_layer(writer, description, coder)
    assert writer.artifact is not None
    return writer.artifact


def test_a_cross_layer_transcoder_has_contributions_cascades_and_retrieval(labeled: TinyWorld, tmp_path: Path) -> None:
    config = config_of(labeled, cross_layer(labeled))
    [made] = labeled.run("evaluate-dictionary", config)
    facts = made.json("evaluation.json")["cross_layer"]
    for table in facts["contributions"]["scores"].values():
        for column in zip(*table, strict=True):
            assert sum(score for score in column if score is not None) == pytest.approx(1)
    passes = facts["passes"]
    assert {"clean", "cascade/all/0", "zeroed/cls/0", "drop_top/patches", "keep_four/all"} < set(passes)
    # all blocks replaced together is the cascade from the first on
    together = made.json("evaluation.json")["splice_together"]["passes"]["dictionary"]
    assert passes["cascade/all/0"] == pytest.approx(together, rel=1e-4)
    assert facts["retrieval"]["n_images"] == N_IMAGES
    assert set(facts["retrieval"]["same_label"]) == {"cls", "patches"}
    dictionary, model = load_dictionary(labeled.store.open(config.dictionary)), load_vision_model(labeled.vision_model)
    reader = ImageSetReader(labeled.image_set, labeled.root)
    names = [*dictionary.reads, *dictionary.writes]
    [part] = image_activations(model, reader, names, range(N_IMAGES), batch_size=N_IMAGES, n_threads=1)
    rebuilt = dictionary.reconstruct({read: part.activations[read].flatten(0, 1) for read in dictionary.reads})
    wanted = part.activations["blocks.1.mlp.out"].flatten(0, 1).double()
    error = (wanted - rebuilt["blocks.1.mlp.out"].double()).square().sum()
    explained = 1 - float(error / (wanted - wanted.mean(0)).square().sum())
    found = made.json("quality.json")["blocks.1.mlp.in"]["explained_variance"]["all"]
    assert found == pytest.approx(explained, rel=1e-4)  # the latents of both blocks together
    again = flat(cut(labeled, config, tmp_path)["evaluation"])
    expected = flat(made.json("evaluation.json"))
    assert again == {
        key: pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value
        for key, value in expected.items()
    }


def test_a_damaged_dictionary_is_refused_with_a_sentence(world: TinyWorld) -> None:
    reads = ("blocks.0",)
    coders = {"blocks.0": SparseCoder(CoderShape(16, 32, 4))}
    for weight in coders["blocks.0"].parameters():
        weight.data.fill_(torch.nan)
    description = DictionaryDescription(
        "topk_sae", "damaged", reads, reads, world.vision_model.digest, world.image_set.digest
    )
    with pytest.raises(
        ValueError, match=r"The reconstructions at blocks\.0 are NaN or infinite; the weights are damaged"
    ):
        world.run("evaluate-dictionary", config_of(world, written(world, description, coders)))


def test_where_memory_runs_out_half_as_many_images_are_taken_once() -> None:
    tried: list[int] = []
    said: list[str] = []

    def act(batch: int, most: int) -> None:
        tried.append(batch)
        if batch > most:
            raise MemoryError

    with_less_memory(lambda batch: act(batch, 4), 8, said.append)
    assert (tried, said) == ([8, 4], ["Memory ran out with 8 images at once: this chunk is done again with 4."])
    with pytest.raises(OutOfMemoryError, match="Memory ran out with 4 images at once"):
        with_less_memory(lambda batch: act(batch, 2), 8, said.append)
    with pytest.raises(OutOfMemoryError, match="with 1 images at once"):
        with_less_memory(lambda batch: act(batch, 0), 1, said.append)


def test_one_image_alone_can_be_evaluated(world: TinyWorld, dictionary: Artifact, embeddings: Artifact) -> None:
    config = replace(config_of(world, dictionary, embeddings), max_images=1)
    [made] = world.run("evaluate-dictionary", config)
    found = made.json("quality.json")["blocks.0"]
    assert found["n_tokens"] == {"cls": 1, "patches": 16, "all": 17}
    assert (found["monosemanticity"]["floor"], found["monosemanticity"]["mean"]) == (None, None)
