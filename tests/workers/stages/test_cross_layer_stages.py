"""Cross-layer transcoders from images to quality: trained by the stage, resumed exactly, evaluated on a tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.workers.stages.tiny_world import N_IMAGES, TinyWorld, make_tiny_world
from workers.artifacts import Artifact
from workers.dictionaries.cross_layer import CrossLayerDictionary
from workers.dictionaries.store import NEGATIVE, POSITIVE, load_dictionary
from workers.stages import evaluate_dictionary, train_dictionary
from workers.stages.configs import CollectExemplarsConfig, ConfigError, EvaluateDictionaryConfig, TrainDictionaryConfig
from workers.stages.context import ChunkPlan, StageContext

READS = ("blocks.0.mlp.in", "blocks.1.mlp.in")
WRITES = ("blocks.0.mlp.out", "blocks.1.mlp.out")
N_TOKENS = 79 * 128  # whole batches that reach 10,000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_tiny_world(tmp_path_factory.mktemp("world"), n_classes=3)


def config_of(world: TinyWorld) -> TrainDictionaryConfig:
    return TrainDictionaryConfig(
        world.image_set.digest, world.vision_model.digest, READS, kind="cross_layer_transcoder", name="clt",
        n_latents=64, k=4, n_tokens=10_000, batch_tokens=128, learning_rate=3e-3, clip_norm=1.0,
        variants=("activation=jumprelu name=jump", "activation=abs_topk name=signed"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(world: TinyWorld) -> list[Artifact]:
    return world.run("train-dictionary", config_of(world))


def test_each_activation_becomes_a_dictionary_that_explains(world: TinyWorld, trained: list[Artifact]) -> None:
    assert len(trained) == 3
    for artifact, name in zip(trained, ("clt", "jump", "signed"), strict=True):
        dictionary = load_dictionary(artifact)
        assert isinstance(dictionary, CrossLayerDictionary)
        assert (dictionary.kind, dictionary.description.name) == ("cross_layer_transcoder", name)
        assert (dictionary.reads, dictionary.writes) == (READS, WRITES)
        assert dictionary.poles == ((POSITIVE, NEGATIVE) if name == "signed" else (POSITIVE,))
        assert dictionary.description.n_trained_tokens == N_TOKENS
        quality = evaluate(world, artifact).json("quality.json")
        for read in READS:
            assert quality[read]["explained_variance"]["all"] > 0.3
            assert quality[read]["n_tokens"]["patches"] == 16 * N_IMAGES


def evaluate(world: TinyWorld, dictionary: Artifact) -> Artifact:
    config = EvaluateDictionaryConfig(dictionary.digest, world.image_set.digest, splice_images=12)
    return world.run("evaluate-dictionary", config)[0]


def test_a_training_cut_into_other_chunks_gives_the_same_dictionaries(
    world: TinyWorld, trained: list[Artifact], tmp_path: Path
) -> None:
    roots = {world.image_set.digest: world.root}
    context = StageContext(world.store, tmp_path, tmp_path, image_roots=roots.__getitem__)
    n_blocks = sum(plan.payload["n_blocks"] for plan in train_dictionary.plan(config_of(world), context))
    assert n_blocks > 2
    pieces, first = [], 0
    for number, n in enumerate((1, 1, n_blocks - 2)):
        pieces.append(ChunkPlan(number, {"first_block": first, "n_blocks": n, "previous": number - 1}))
        first += n
    found = world.run_pieces(train_dictionary, config_of(world), pieces, tmp_path)
    assert found == [artifact.digest for artifact in trained]


def test_quality_has_contributions_and_altered_passes(
    world: TinyWorld, trained: list[Artifact], tmp_path: Path
) -> None:
    artifact = evaluate(world, trained[0])
    facts = artifact.json("evaluation.json")["cross_layer"]
    scores = facts["contributions"]["scores"]
    assert facts["contributions"]["sources"] == [*READS, "bias"]
    for group in ("cls", "patches", "all"):
        for target in range(2):
            column = [row[target] for row in scores[group]]
            assert sum(score for score in column if score is not None) == pytest.approx(1)
    assert set(facts["passes"]) == {"clean"} | {
        key
        for group in ("cls", "patches", "all")
        for key in (
            *(f"{name}/{group}/{block}" for name in ("cascade", "zeroed") for block in (0, 1)),
            *(f"{name}/{group}" for name in ("all_terms", "drop_top", "keep_four")),
        )
    }
    assert facts["passes"]["clean"]["kl"] == 0
    assert facts["passes"]["all_terms/all"] == facts["passes"]["keep_four/all"]  # there are but two terms
    assert facts["passes"]["cascade/all/0"]["kl"] > 0
    assert all(one["n_images"] == 12 for one in facts["passes"].values())
    assert facts["retrieval"]["blocks"] == list(WRITES)
    assert facts["retrieval"]["n_images"] == N_IMAGES
    assert all(0 <= share <= 1 for share in facts["retrieval"]["same_label"]["patches"]["reconstruction"])
    assert "shallow sums" in facts["warning"]
    assert cut(world, trained[0], tmp_path)["passes"].keys() == facts["passes"].keys()


def cut(world: TinyWorld, dictionary: Artifact, folder: Path) -> dict[str, dict[str, object]]:
    config = EvaluateDictionaryConfig(dictionary.digest, world.image_set.digest, splice_images=12)
    roots = {world.image_set.digest: world.root}
    context = StageContext(world.store, folder, folder, image_roots=roots.__getitem__)
    plans = evaluate_dictionary.plan(replace(config, images_per_chunk=32), context)
    assert len(plans) > 3
    [digest] = world.run_pieces(evaluate_dictionary, config, plans, folder)
    facts: dict[str, dict[str, object]] = world.store.open(digest).json("evaluation.json")["cross_layer"]
    return facts


def test_exemplars_are_collected_for_the_latents_of_every_block(world: TinyWorld, trained: list[Artifact]) -> None:
    [artifact] = world.run("collect-exemplars", CollectExemplarsConfig(world.image_set.digest, (trained[2].digest,)))
    assert artifact.kind == "exemplars"
    assert artifact.manifest["parents"] == [world.image_set.digest, trained[2].digest]


def test_hookpoints_out_of_order_are_refused(world: TinyWorld) -> None:
    with pytest.raises(ConfigError, match="in the order of the blocks"):
        replace(config_of(world), hookpoints=READS[::-1], variants=())
