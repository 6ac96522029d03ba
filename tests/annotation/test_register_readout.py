"""Models and their readouts registered by command."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from django.core.management import CommandError, call_command
from PIL import Image as Picture
from safetensors.torch import save_file

from annotation.models import Readout, VisionModel
from workers.artifacts import ArtifactStore
from workers.readouts import load_readout

pytestmark = pytest.mark.django_db
TINY = '{"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 2, "num_classes": %d}'


@pytest.fixture(autouse=True)
def store(artifact_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    monkeypatch.setattr("django.conf.settings.DATA_ROOT", tmp_path / "data")
    return ArtifactStore(artifact_root)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(20):
        place = tmp_path / "pictures" / ["dark", "bright"][number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 120, (16, 16, 3)) + 130 * (number % 2)
        Picture.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return tmp_path / "pictures"


def command(*arguments: object) -> str:
    out = io.StringIO()
    call_command(*[str(argument) for argument in arguments], stdout=out, stderr=out)
    return out.getvalue()


def test_a_model_comes_with_its_own_head(store: ArtifactStore) -> None:
    text = command("register_model", "small", "vit_tiny_patch16_224", "--timm", TINY % 3)
    model = VisionModel.objects.get(name="small")
    assert (model.n_blocks, model.d_model, model.n_prefix_tokens, model.grid_height) == (1, 32, 1, 4)
    assert "4 x 4 patches, 1 prefix tokens (untrained)" in text
    readout = model.readouts.get()
    assert (readout.name, readout.classes) == ("own head", ["class 0", "class 1", "class 2"])


def test_a_probe_gives_a_model_without_head_its_classes(store: ArtifactStore, folder: Path) -> None:
    command("import_images", "light", folder)
    command("register_model", "headless", "vit_small_patch14_reg4_dinov2", "--timm", TINY % 0)
    model = VisionModel.objects.get(name="headless")
    assert not model.readouts.exists()
    assert "Readout 'linear probe' of 'headless' with 2 classes." in command(
        "register_readout", "headless", "--probe", "light"
    )
    readout = load_readout(store.open(model.readouts.get().digest))
    assert (readout.pooling, readout.weight.shape, readout.classes) == ("cls_mean_patch", (2, 64), ["bright", "dark"])


def test_text_embeddings_need_names_and_the_right_width(store: ArtifactStore, tmp_path: Path) -> None:
    command("register_model", "tower", "vit_base_patch16_clip_224", "--timm", TINY % 8)
    embeddings, names = tmp_path / "classes.safetensors", tmp_path / "classes.txt"
    save_file({"text": torch.eye(2, 8)}, embeddings)
    names.write_text("cat\ndog\n")
    with pytest.raises(CommandError, match="--classes"):
        command("register_readout", "tower", "--text-embeddings", embeddings)
    command("register_readout", "tower", "--text-embeddings", embeddings, "--classes", names)
    assert Readout.objects.get(name="text embeddings").classes == ["cat", "dog"]
    save_file({"text": torch.eye(2, 9)}, embeddings)
    with pytest.raises(CommandError, match="width 8"):
        command("register_readout", "tower", "--text-embeddings", embeddings, "--classes", names)
    embeddings.write_bytes(b"none")
    with pytest.raises(CommandError, match="cannot be read as safetensors"):
        command("register_readout", "tower", "--text-embeddings", embeddings, "--classes", names)


def test_unknown_names_are_named_with_those_that_exist(store: ArtifactStore, folder: Path) -> None:
    with pytest.raises(CommandError, match="no vision model 'gone'; there are: there are none yet"):
        command("register_readout", "gone", "--probe", "light")
    command("register_model", "small", "vit_tiny_patch16_224", "--timm", TINY % 3)
    with pytest.raises(CommandError, match="no image set 'light'"):
        command("register_readout", "small", "--probe", "light")


@pytest.mark.parametrize("json", ["{", "[]"])
def test_arguments_for_timm_must_be_an_object(store: ArtifactStore, json: str) -> None:
    with pytest.raises(CommandError):
        command("register_model", "small", "vit_tiny_patch16_224", "--timm", json)
    assert not VisionModel.objects.exists()
