"""From images to features by runs: every artefact gets its row, with what people see of it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from PIL import Image

from annotation.domain.controls import available_controls
from annotation.domain.recording import record_artifacts
from annotation.domain.runs import create_run
from annotation.models import Dictionary, ExemplarSet, Feature, ImageSet, Readout, Run, VisionModel
from workers import tasks

pytestmark = pytest.mark.django_db(transaction=True)

TINY_VIT = '{"img_size": 16, "patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 1, "num_classes": 2}'


@pytest.fixture(autouse=True)
def roots(artifact_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("django.conf.settings.DATA_ROOT", tmp_path / "data")
    yield
    connection.close()


@pytest.fixture
def image_set(tmp_path: Path) -> ImageSet:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(16):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{number:02}.png")
    command("import_images", "pets", tmp_path / "pictures")
    return ImageSet.objects.get()


def command(*arguments: object) -> str:
    out = io.StringIO()
    call_command(*[str(argument) for argument in arguments], stdout=out, stderr=io.StringIO())
    return out.getvalue()


def execute(stage: str, **config: object) -> Run:
    run = create_run(stage=stage, config=config, user=None)
    while tasks.execute_next(queue=run.queue):
        continue
    run.refresh_from_db()
    assert (run.state, run.error) == (Run.State.DONE, "")
    return run


def test_images_become_features_and_every_artefact_has_its_row(image_set: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    text = command(
        "register_model", "tiny", "vit_tiny_patch16_224", "--timm", TINY_VIT, "--classes", tmp_path / "classes.txt"
    )
    assert text.startswith("Registered 'tiny': vit_tiny_patch16_224, 2 blocks, width 32, 2 x 2 patches, 1 prefix")
    model, readout = VisionModel.objects.get(), Readout.objects.get()
    assert (readout.vision_model, readout.name) == (model, "own head")

    images = image_set.digest
    trained = execute(
        "train-dictionary", image_set=images, vision_model=model.digest, hookpoints=["blocks.0", "blocks.1"],
        name="pets-sae", n_latents=48, k=4, n_tokens=3000, batch_tokens=128,
    )  # fmt: skip
    dictionary = Dictionary.objects.get()
    assert (dictionary.name, dictionary.kind, dictionary.run) == ("pets-sae", "topk_sae", trained)
    assert dictionary.hookpoints == ["blocks.0", "blocks.1"]
    assert (dictionary.vision_model, dictionary.image_set) == (model, image_set)

    execute("evaluate-dictionary", dictionary=dictionary.digest, image_set=images)
    dictionary.refresh_from_db()
    assert set(dictionary.quality) == {"blocks.0", "blocks.1"}
    assert dictionary.quality["blocks.0"]["n_latents"] == 48

    execute("make-control", dictionary=dictionary.digest, image_set=images, n_tokens=512)
    control = Dictionary.objects.get(kind="random_directions")
    assert (control.control_of, control.is_control) == (dictionary, True)

    both = [dictionary.digest, control.digest]
    collected = execute("collect-exemplars", image_set=images, dictionaries=both, readout=readout.digest)
    assert list(collected.exemplar_sets.order_by("id").values_list("dictionary", flat=True)) == [
        dictionary.pk,
        control.pk,
    ]
    assert Feature.objects.filter(dictionary=dictionary).count() == 96
    assert set(Feature.objects.filter(density__gt=0).values_list("promoted_class", flat=True)) <= {"cat", "dog"}

    n_features = Feature.objects.count()
    record_artifacts(collected)
    assert (Feature.objects.count(), ExemplarSet.objects.count()) == (n_features, 2)


def test_a_trained_model_is_registered_under_the_name_of_its_run(image_set: ImageSet) -> None:
    config = {"image_set": image_set.digest, "image_size": 16, "depth": 1, "width": 32, "n_epochs": 1}
    execute("train-model", name="own", **config)
    execute("train-model", name="own", seed=1, **config)

    assert list(VisionModel.objects.order_by("id").values_list("name", "source")) == [
        ("own", "trained"),
        ("own-2", "trained"),
    ]
    assert list(Readout.objects.values_list("name", flat=True)) == ["own head", "own head"]


def test_the_mlps_of_a_model_and_their_random_transformer_have_rows_and_features(image_set: ImageSet) -> None:
    images = image_set.digest
    execute("train-model", name="own", image_set=images, image_size=16, depth=2, width=32, n_epochs=1)
    model = VisionModel.objects.get()
    execute("read-feed-forward", vision_model=model.digest, image_set=images, name="mlps", k=[0, 4])
    every, strongest = Dictionary.objects.order_by("id")
    assert [(one.name, one.kind_name) for one in (every, strongest)] == [
        ("mlps", "FF-KV"),
        ("mlps, k = 4", "TopK FF-KV"),
    ]
    assert strongest.hookpoints == ["blocks.0.mlp.hidden", "blocks.1.mlp.hidden"]
    assert not strongest.is_trained

    execute("make-control", dictionary=strongest.digest, image_set=images, kind="random_transformer")
    control = Dictionary.objects.get(kind="random_transformer")
    assert (control.control_of, control.is_control) == (strongest, True)
    assert (control.vision_model.source, control.vision_model.name) == ("untrained", "untrained vit_tiny_patch16_224")
    assert control.vision_model.readouts.count() == 1

    execute("collect-exemplars", image_set=images, dictionaries=[control.digest])
    features = Feature.objects.filter(dictionary=control)
    assert sorted(set(features.values_list("hookpoint", "block", "pole"))) == [
        (f"blocks.{block}.mlp.hidden", block, pole) for block in (0, 1) for pole in (-1, 1)
    ]
    assert features.count() == 2 * 2 * 128
    assert available_controls([strongest], ["random_transformer", "random_directions"]) == ["random_transformer"]


def test_a_stage_runs_from_the_command_line_without_a_broker(image_set: ImageSet, tmp_path: Path) -> None:
    settings = tmp_path / "train.yaml"
    settings.write_text(f"image_set: {image_set.digest}\nimage_size: 16\ndepth: 1\nwidth: 32\nn_epochs: 1\n")
    text = command("run_stage", "train-model", "--config", settings, "--set", "name=from-a-file", "--title", "by hand")

    run, model = Run.objects.get(), VisionModel.objects.get()
    assert (run.state, run.title, run.queue) == (Run.State.DONE, "by hand", "command")
    assert model.name == "from-a-file"
    assert f"Artefact: {model.digest}" in text
    assert "time: About 1 s for 32 images" in text
    assert "Nothing was computed" in command(
        "run_stage", "train-model", "--config", settings, "--set", "name=from-a-file"
    )


def test_the_command_line_refuses_in_a_sentence(image_set: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="The setting 'n_epochs' is 'many'; it must be a whole number"):
        command("run_stage", "train-model", "--set", f"image_set={image_set.digest}", "--set", "n_epochs=many")
    with pytest.raises(CommandError, match="'n_epochs' is no setting; write NAME=VALUE"):
        command("run_stage", "train-model", "--set", "n_epochs")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(CommandError, match="must hold settings"):
        command("run_stage", "train-model", "--config", tmp_path / "list.yaml")


def test_a_training_that_diverges_is_not_to_be_resumed(image_set: ImageSet) -> None:
    command("register_model", "tiny", "vit_tiny_patch16_224", "--timm", TINY_VIT)
    arguments = [
        f"image_set={image_set.digest}", "vision_model=tiny", "hookpoints=[blocks.0]", "n_latents=48", "k=4",
        "n_tokens=3000", "batch_tokens=128", "learning_rate=1.0e+30",
    ]  # fmt: skip
    settings = [part for argument in arguments for part in ("--set", argument)]
    with pytest.raises(CommandError, match=r"Take a lower learning rate or clip gradients, and start another run\.$"):
        command("run_stage", "train-dictionary", *settings)


def test_a_stage_that_fails_on_the_command_line_can_be_resumed(image_set: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "pictures").rename(tmp_path / "away")
    arguments = [f"image_set={image_set.digest}", "image_size=16", "depth=1", "width=32", "n_epochs=1"]
    settings = [part for argument in arguments for part in ("--set", argument)]
    with pytest.raises(CommandError, match=r"cannot be read under .* Mend that, then: manage.py run_stage --resume"):
        command("run_stage", "train-model", *settings)

    run = Run.objects.get()
    assert run.state == Run.State.FAILED
    (tmp_path / "away").rename(tmp_path / "pictures")
    command("run_stage", "--resume", run.pk)
    run.refresh_from_db()
    assert run.state == Run.State.DONE
