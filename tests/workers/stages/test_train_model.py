"""Train-model as a stage: the same bytes however its chunks are cut, and a readout beside the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.artifacts import Artifact, ArtifactStore
from workers.images import scan_folder, write_image_set
from workers.stages import train_model
from workers.stages.configs import TrainModelConfig
from workers.stages.context import SilentReporter
from workers.stages.local import run_locally


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def image_set(store: ArtifactStore, tmp_path: Path) -> Artifact:
    rng = np.random.default_rng(0)
    for label, brightness in (("dark", 40), ("light", 200)):
        folder = tmp_path / "pictures" / label
        folder.mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(rng.normal(brightness, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return write_image_set(store, scan_folder(tmp_path / "pictures"), name="p", licence="", visibility="public")


def small(image_set: Artifact) -> TrainModelConfig:
    return TrainModelConfig(image_set.digest, image_size=16, patch_size=8, depth=1, width=32, n_epochs=6)


def train(store: ArtifactStore, image_set: Artifact, root: Path) -> list[Artifact]:
    digests = run_locally(
        "train-model",
        small(image_set),
        store,
        {image_set.digest: root},
        reporter=SilentReporter(),
        n_threads=1,
    )
    return [store.open(digest) for digest in digests]


def test_a_model_and_its_head_come_out_and_the_labels_were_learned(
    store: ArtifactStore, image_set: Artifact, tmp_path: Path
) -> None:
    model, head = train(store, image_set, tmp_path / "pictures")

    assert (model.kind, head.kind) == ("vision-model", "readout")
    assert model.json("model.json")["source"] == "trained"
    assert model.json("model.json")["classes"] == ["dark", "light"]
    assert model.json("training.json")["accuracy"]["all"] == {"n": 4, "accuracy": 1.0}
    assert head.manifest["parents"][0] == model.digest


def test_where_chunks_end_changes_no_byte(
    store: ArtifactStore, image_set: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(store, image_set, tmp_path / "pictures")

    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    (elsewhere.root / "image-set").mkdir(parents=True)
    image_set.folder.rename(elsewhere.root / "image-set" / image_set.digest)
    monkeypatch.setattr(train_model, "OVERHEAD", 1e12)  # one step per chunk
    moved = elsewhere.open(image_set.digest)
    in_steps = train(elsewhere, moved, tmp_path / "pictures")
    assert [artifact.digest for artifact in in_steps] == [artifact.digest for artifact in whole]
