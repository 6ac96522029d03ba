"""Training a classifier: it learns, it resumes to the same bytes, and it says how it did by group."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workers.artifacts import ArtifactStore
from workers.images import ImageSetReader, scan_folder, write_image_set
from workers.model_training import (
    ClassifierConfig,
    ClassifierTraining,
    finish_training,
    learning_rate,
    plan_training,
    run_steps,
    set_sine_positions,
    small_vit_settings,
    start_state,
)
from workers.vision_model import create_vit, load_vision_model

CONFIG = ClassifierConfig(
    architecture="vit_tiny_patch16_224",
    timm_kwargs=small_vit_settings(16, 4, depth=1, width=32, n_classes=2),
    n_epochs=5,
    batch_size=8,
    learning_rate=3e-3,
)


def write_set(folder: Path, *, with_split: bool = True) -> ImageSetReader:
    """40 noisy images, bright or dark; the last ten are for testing where there is a split."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(40):
        pixels = rng.integers(0, 120, size=(16, 16, 3)) + 130 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02}.png")
        row = {"path": f"{i:02}.png", "label": ["dark", "bright"][i % 2], "third": i % 3}
        rows.append(row | ({"split": "train" if i < 30 else "test"} if with_split else {}))
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = ArtifactStore(folder.parent / "store")
    artifact = write_image_set(store, scan_folder(folder), name="light", licence="CC0", visibility="public")
    return ImageSetReader(artifact, folder)


@pytest.fixture
def reader(tmp_path: Path) -> ImageSetReader:
    return write_set(tmp_path / "set")


def train(reader: ImageSetReader, folder: Path, chunks: list[int], n_threads: int = 2) -> Path:
    """The last state folder after chunks of so many steps each."""
    start_state(CONFIG, folder / "0")
    training = ClassifierTraining(CONFIG, reader, n_threads)
    for number, n_steps in enumerate(chunks):
        run_steps(training, folder / str(number), folder / str(number + 1), n_steps=n_steps)
    return folder / str(len(chunks))


def test_it_learns_and_reports_by_group(reader: ImageSetReader, tmp_path: Path) -> None:
    plan = plan_training(CONFIG, reader)
    assert (plan.train, plan.test) == (list(range(30)), list(range(30, 40)))
    assert (plan.batch_size, plan.steps_per_epoch, plan.n_steps) == (8, 3, 15)
    store = ArtifactStore(tmp_path / "store")
    artifact = finish_training(store, ClassifierTraining(CONFIG, reader), train(reader, tmp_path / "states", [15]))
    training = artifact.json("training.json")
    assert training["accuracy"]["all"] == {"n": 10, "accuracy": 1.0}
    assert training["accuracy"]["by_attribute"]["third"]["0"] == {"n": 4, "accuracy": 1.0}
    assert artifact.manifest["parents"] == [reader.digest]
    model = load_vision_model(artifact)
    assert (model.classes, model.description.source) == (["bright", "dark"], "trained")
    assert model(torch.stack([model.transform(reader.load(30))])).argmax().item() == 1


def test_chunks_of_any_size_give_the_same_bytes(reader: ImageSetReader, tmp_path: Path) -> None:
    whole = train(reader, tmp_path / "a", [15])
    parts = train(reader, tmp_path / "b", [1, 4, 9, 9], n_threads=4)
    for name in ("state.safetensors", "state.json"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_an_unfinished_training_is_not_written(reader: ImageSetReader, tmp_path: Path) -> None:
    state = train(reader, tmp_path / "states", [3])
    with pytest.raises(ValueError, match="step 3 of 15"):
        finish_training(ArtifactStore(tmp_path / "store"), ClassifierTraining(CONFIG, reader), state)


def test_the_loss_is_told_at_each_step(reader: ImageSetReader, tmp_path: Path) -> None:
    told: list[tuple[str, int, float]] = []
    start_state(CONFIG, tmp_path / "0")
    run_steps(
        ClassifierTraining(CONFIG, reader), tmp_path / "0", tmp_path / "1", n_steps=15,
        on_metric=lambda *metric: told.append(metric),
    )  # fmt: skip
    assert [(name, step) for name, step, _ in told] == [("loss", step) for step in range(15)]
    assert told[-1][2] < told[0][2] / 3


def test_without_a_split_one_image_in_ten_is_held_out(tmp_path: Path) -> None:
    plan = plan_training(CONFIG, write_set(tmp_path / "set", with_split=False))
    assert len(plan.test) == 4
    assert sorted(plan.train + plan.test) == list(range(40))


def test_an_epoch_shows_each_image_at_most_once(reader: ImageSetReader) -> None:
    plan = plan_training(CONFIG, reader)
    epochs = [[i for step in range(3 * e, 3 * e + 3) for i in plan.images_of(step, 0)] for e in range(2)]
    assert [len(set(epoch)) for epoch in epochs] == [24, 24]
    assert epochs[0] != epochs[1]


def test_a_set_of_one_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set/only").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(tmp_path / "set/only/a.png")
    artifact = write_image_set(
        ArtifactStore(tmp_path / "store"), scan_folder(tmp_path / "set"), name="x", licence="", visibility="team"
    )
    with pytest.raises(ValueError, match="fewer than two classes"):
        plan_training(CONFIG, ImageSetReader(artifact, tmp_path / "set"))


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 100, 10, 1.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(0.98, abs=0.01)
    assert rates[50] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)


def test_positions_begin_apart_from_each_other_and_leave_prefix_tokens_alone() -> None:
    module = create_vit("vit_tiny_patch16_224", small_vit_settings(32, 8, depth=1, width=32, n_classes=2))
    prefix = module.pos_embed[:, 0].clone()  # type: ignore[index]
    set_sine_positions(module)
    positions = module.pos_embed[0].detach()  # type: ignore[index]
    assert torch.equal(positions[:1], prefix)
    distances = torch.cdist(positions[1:], positions[1:]) + 99 * torch.eye(16)
    assert distances.min() > 0.5
