"""The training stage: every kind, several dictionaries at once, and what happens when memory or the disk runs out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.workers.counting_stage import largest_file
from tests.workers.stages.tiny_world import HOOKPOINTS, TinyWorld, make_tiny_world
from workers.activations import ActivationError
from workers.artifacts import Artifact
from workers.dictionaries.store import load_dictionary
from workers.stages import train_dictionary
from workers.stages.configs import TrainDictionaryConfig
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.disk import is_disk_full
from workers.stages.local import run_locally
from workers.stages.memory import OutOfMemoryError
from workers.stages.probe import probe_training
from workers.vision_model import load_vision_model, write_vision_model

MLP_INPUTS = ("blocks.0.mlp.in", "blocks.1.mlp.in")
KINDS = {
    "topk_sae": HOOKPOINTS, "batch_topk_sae": HOOKPOINTS, "jumprelu_sae": HOOKPOINTS, "relu_sae": HOOKPOINTS,
    "transcoder": MLP_INPUTS, "cross_layer_transcoder": MLP_INPUTS,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_tiny_world(tmp_path_factory.mktemp("world"))


def config_of(world: TinyWorld, **changes: Any) -> TrainDictionaryConfig:
    plain = TrainDictionaryConfig(
        world.image_set.digest, world.vision_model.digest, HOOKPOINTS, n_latents=64, k=4, n_tokens=6000,
        batch_tokens=128, learning_rate=3e-3,
    )  # fmt: skip
    return replace(plain, **changes)


class Listener:
    """Keeps what a stage reports."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.metrics: dict[tuple[str, int], float] = {}

    def progress(self, n_units_done: int) -> None:
        """Not of interest here."""

    def metric(self, name: str, step: int, value: float) -> None:
        self.metrics[name, step] = value

    def log(self, text: str) -> None:
        self.lines.append(text)

    def is_cancelled(self) -> bool:
        return False


def context_of(world: TinyWorld, folder: Path, listener: Listener | None = None) -> StageContext:
    context = StageContext(world.store, folder, folder, image_roots=lambda digest: world.root)
    context.reporter = listener or Listener()
    return context


def cut_in_three(world: TinyWorld, config: TrainDictionaryConfig, folder: Path) -> list[str]:
    planned = train_dictionary.plan(config, context_of(world, folder))
    n_blocks = sum(plan.payload["n_blocks"] for plan in planned)
    starts = [0, 1, 3, n_blocks]
    pieces = [
        ChunkPlan(i, {"first_block": first, "n_blocks": stop - first, "previous": i - 1})
        for i, (first, stop) in enumerate(pairwise(starts))
    ]
    return world.run_pieces(train_dictionary, config, pieces, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_trained_whole_or_in_pieces_to_the_same_bytes(world: TinyWorld, tmp_path: Path, kind: str) -> None:
    config = config_of(world, kind=kind, hookpoints=KINDS[kind], name=kind)
    [artifact] = world.run("train-dictionary", config)
    assert cut_in_three(world, config, tmp_path) == [artifact.digest]

    dictionary = load_dictionary(artifact)
    assert (dictionary.kind, dictionary.reads, dictionary.writes) == (kind, config.hookpoints, config.writes)
    tokens = {name: torch.randn(20, 16, generator=torch.Generator().manual_seed(1)) for name in config.hookpoints}
    written = dictionary.reconstruct(tokens)
    assert sorted(written) == sorted(config.writes)
    assert all(bool(values.isfinite().all()) for values in written.values())


def test_dictionaries_trained_together_are_those_trained_alone(world: TinyWorld, tmp_path: Path) -> None:
    variants = ("kind=batch_topk_sae name=batch", "k=8 n_latents=32", "hookpoints=blocks.1 n_latents_each=48")
    config = config_of(world, variants=variants)
    made = world.run("train-dictionary", config)
    names = ["topk-sae", "batch", "topk-sae k=8 n_latents=32", "topk-sae hookpoints=blocks.1 n_latents_each=48"]
    assert [artifact.config["name"] for artifact in made] == names
    alone = [world.run("train-dictionary", one)[0].digest for one in config.dictionaries()]
    assert [artifact.digest for artifact in made] == alone
    assert len(set(alone)) == 4
    assert cut_in_three(world, config, tmp_path) == alone
    sizes = [load_dictionary(artifact).n_latents("blocks.1") for artifact in made]
    assert sizes == [64, 64, 32, 48]


def test_each_hookpoint_may_have_its_own_width_and_k(world: TinyWorld) -> None:
    [artifact] = world.run("train-dictionary", config_of(world, n_latents_each=(32, 16), k_each=(8, 1)))
    dictionary = load_dictionary(artifact)
    assert [dictionary.n_latents(name) for name in HOOKPOINTS] == [32, 16]
    codes = {name: dictionary.encode(name, torch.randn(50, 16)) for name in HOOKPOINTS}
    assert [codes[name].values.shape[1] for name in HOOKPOINTS] == [8, 1]


def test_a_batch_topk_coder_keeps_the_density_it_was_trained_at_by_one_threshold(world: TinyWorld) -> None:
    [artifact] = world.run("train-dictionary", config_of(world, kind="batch_topk_sae", n_tokens=30_000))
    quality = world.run("evaluate-dictionary", evaluation(artifact, world))[0].json("quality.json")
    for hookpoint in HOOKPOINTS:
        assert quality[hookpoint]["l0"] == pytest.approx(4, rel=0.15)
    coder = load_dictionary(artifact).coders["blocks.0"]  # type: ignore[attr-defined]
    assert len(coder.threshold.unique()) == 1
    assert float(coder.threshold[0]) > 0


def evaluation(artifact: Artifact, world: TinyWorld) -> Any:
    from workers.stages.configs import EvaluateDictionaryConfig

    return EvaluateDictionaryConfig(artifact.digest, world.image_set.digest)


def test_metrics_are_told_by_dictionary_and_hookpoint(world: TinyWorld, tmp_path: Path) -> None:
    listener = Listener()
    config = config_of(world, n_tokens=128, variants=("k=8",))
    context = context_of(world, tmp_path, listener)
    train_dictionary.execute(config, {"first_block": 0, "n_blocks": 1, "previous": -1}, context)
    losses = {name for name, _ in listener.metrics if name.startswith("loss/")}
    assert losses == {"loss/0/blocks.0", "loss/0/blocks.1", "loss/1/blocks.0", "loss/1/blocks.1"}
    assert {name.split("/")[0] for name, _ in listener.metrics} == {
        "loss", "auxiliary_loss", "explained_variance", "l0", "dead_share",
    }  # fmt: skip


def test_a_preset_for_another_model_is_refused_before_anything_runs(world: TinyWorld, tmp_path: Path) -> None:
    config = config_of(world, hookpoints=(), preset="rrm-vit-b16", n_latents=1024, k=16, learning_rate=1e-3)
    with pytest.raises(ValueError, match="The preset rrm-vit-b16 is for ViT-B/16, whose width is 768; it is 16 here"):
        train_dictionary.plan(config, context_of(world, tmp_path))


def test_activations_of_a_broken_model_fail_the_run_and_leave_nothing(world: TinyWorld, tmp_path: Path) -> None:
    model = load_vision_model(world.vision_model)
    with torch.no_grad():
        model.module.blocks[1].attn.qkv.weight[0, 0] = float("inf")
    broken = write_vision_model(world.store, model.module, model.description)
    config = config_of(world, vision_model=broken.digest)
    sentence = r"The activations at blocks\.1 are NaN or infinite at [\d,]+ tokens of image block 0, first of the image"
    with pytest.raises(ActivationError, match=sentence):
        run_locally(
            "train-dictionary", config, world.store, lambda digest: world.root, reporter=Listener(),
            work_folder=tmp_path,
        )  # fmt: skip
    assert not list((world.store.root / "unfinished").iterdir())
    assert world.run("train-dictionary", config_of(world))


@pytest.mark.parametrize("kind", ["topk_sae", "transcoder", "cross_layer_transcoder"])
def test_a_training_that_diverges_fails_and_leaves_no_dictionary(world: TinyWorld, tmp_path: Path, kind: str) -> None:
    config = config_of(world, kind=kind, hookpoints=KINDS[kind], learning_rate=1e30)
    before = sorted((world.store.root / "dictionary").glob("*"))
    with pytest.raises(train_dictionary.DivergedError, match=r"^The training of blocks\.0\S* has diverged: after \d+ "):
        world.run("train-dictionary", config)
    assert sorted((world.store.root / "dictionary").glob("*")) == before
    listener = Listener()
    with pytest.raises(train_dictionary.DivergedError):
        train_dictionary.execute(config, FIRST, context_of(world, tmp_path, listener))
    assert listener.metrics
    assert all(isfinite(value) for (name, _), value in listener.metrics.items() if name.startswith("loss/"))


def test_weights_that_went_to_infinity_between_two_reports_are_not_handed_on(world: TinyWorld, tmp_path: Path) -> None:
    config = config_of(world, variants=("k=8",))
    state = train_dictionary.take_up(config, -1, load_vision_model(world.vision_model), context_of(world, tmp_path))
    train_dictionary.require_finite_weights(state)
    state.trainings["1/blocks.1"].trainable.parameters()["W_enc"].data[3, 2] = float("inf")
    with pytest.raises(train_dictionary.DivergedError, match=r"The training of 1/blocks\.1 has diverged"):
        train_dictionary.require_finite_weights(state)


class SmallDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """An allocator that refuses tensors above a size, as a full device would."""

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = most

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.numel() > self.most:
                raise torch.OutOfMemoryError(f"Tried to allocate {tensor.numel()} numbers.")
        return out


WIDE = {"n_latents": 512, "batch_tokens": 512, "n_tokens": 4096}
FIRST = {"first_block": 0, "n_blocks": 1, "previous": -1}


def test_when_memory_runs_out_batches_are_cut_in_two_and_the_training_goes_on(world: TinyWorld, tmp_path: Path) -> None:
    config, listener = config_of(world, **WIDE), Listener()
    context = context_of(world, tmp_path, listener)
    context.chunk_folder = context.chunk(0)
    context.chunk_folder.mkdir(parents=True)
    with SmallDevice(200_000):  # between the 512 and the 256 rows of 512 latents
        train_dictionary.execute(config, FIRST, context)
    assert listener.lines == [
        "Memory ran out with batches of 512 tokens: from here on each is trained in two steps of 256."
    ]
    state = train_dictionary.take_up(config, 0, load_vision_model(world.vision_model), context)
    assert (state.step, state.n_tokens, state.n_parts) == (8, 4096, 2)


def test_when_half_a_batch_does_not_fit_either_the_one_that_would_is_named(world: TinyWorld, tmp_path: Path) -> None:
    config = config_of(world, **WIDE)
    with SmallDevice(100_000), pytest.raises(OutOfMemoryError) as caught:
        train_dictionary.execute(config, FIRST, context_of(world, tmp_path))
    assert str(caught.value) == (
        "Memory ran out with batches of 512 tokens and of half as many. A batch of 128 tokens fits: clone the run with "
        "that."
    )
    assert list(tmp_path.iterdir()) == []
    with SmallDevice(12_000), pytest.raises(OutOfMemoryError, match="even with batches of 64 tokens"):
        train_dictionary.execute(config, FIRST, context_of(world, tmp_path))
    with SmallDevice(100_000), pytest.raises(OutOfMemoryError, match="Memory runs out with batches of 512 tokens"):
        probe_training(config, context_of(world, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_finds_the_disk_full_fails_and_the_next_run_is_unharmed(
    world: TinyWorld, tmp_path: Path
) -> None:
    config = config_of(world, name="full", n_tokens=1024)
    with largest_file(1000), pytest.raises(Exception, match="File too large") as caught:
        run_locally(
            "train-dictionary", config, world.store, lambda digest: world.root, reporter=Listener(),
            work_folder=tmp_path,
        )  # fmt: skip
    assert is_disk_full(caught.value)
    assert not list((tmp_path / "chunks").glob("*"))
    [artifact] = world.run("train-dictionary", config)
    artifact.verify()


def test_an_artefact_that_finds_the_disk_full_is_not_there_at_all(world: TinyWorld, tmp_path: Path) -> None:
    config = config_of(world, name="also full", n_tokens=1024)
    context = context_of(world, tmp_path)
    context.n_chunks, context.chunk_folder = 1, context.chunk(0)
    context.chunk_folder.mkdir(parents=True)
    train_dictionary.execute(config, {"first_block": 0, "n_blocks": 1, "previous": -1}, context)
    before = sorted((world.store.root / "dictionary").glob("*"))
    with largest_file(1000), pytest.raises(Exception, match="File too large") as caught:
        train_dictionary.finish(config, context)
    assert is_disk_full(caught.value)
    assert not list((world.store.root / "unfinished").iterdir())
    assert sorted((world.store.root / "dictionary").glob("*")) == before
    [digest] = train_dictionary.finish(config, context)["artifacts"]
    world.store.open(digest).verify()


def test_a_probe_measures_and_leaves_nothing(world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.stages import probe

    monkeypatch.setattr(probe, "READING_SECONDS", 0.2)
    monkeypatch.setattr(probe, "STEPPING_SECONDS", 0.2)
    before = sorted(path for path in world.store.root.rglob("*"))
    config = config_of(world, variants=("k=8",), n_tokens=1_000_000)
    found = probe_training(config, context_of(world, tmp_path))
    assert found.rates.n_steps >= 2
    assert found.rates.n_images % 8 == 0  # 8 images of 17 tokens fill a batch of 128
    weights = 2 * 2 * (2 * 64 * 16 + 16 + 64) * 4  # two dictionaries at two hookpoints
    assert 2.5 * weights < found.saved_bytes < 4 * weights
    assert found.disk_bytes == 2 * found.saved_bytes
    assert 0 < found.reading_share < 1
    assert found.seconds > 1_000_000 / 128 * found.rates.per_step
    assert sorted(path for path in world.store.root.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []
