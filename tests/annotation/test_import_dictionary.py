"""Dictionaries that leave by command and come back: catalog row, page, form, and what the site does not read."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from PIL import Image as Picture

from annotation.domain.runs import create_run
from annotation.models import Dictionary, ImageSet, Role, Run, User, VisionModel
from workers.artifacts import ArtifactStore
from workers.stages.configs import ConfigError

pytestmark = pytest.mark.django_db
TINY = '{"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}'


@pytest.fixture(autouse=True)
def root(artifact_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("django.conf.settings.DATA_ROOT", tmp_path / "data")
    folder = tmp_path / "to-import"
    folder.mkdir()
    monkeypatch.setattr("django.conf.settings.IMPORT_ROOT", folder)
    return folder


@pytest.fixture
def trained(tmp_path: Path) -> Dictionary:
    """A small SAE of a small model, by the commands a person would use."""
    rng = np.random.default_rng(0)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(30):
        pixels = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        Picture.fromarray(pixels).save(pictures / f"{number:03d}.png")
    command("import_images", "tiles", pictures)
    command("register_model", "small", "vit_tiny_patch16_224", "--timm", TINY)
    settings = {
        "image_set": "tiles", "vision_model": "small", "hookpoints": "[blocks.1]", "name": "own", "n_latents": 64,
        "k": 4, "n_tokens": 10_000, "batch_tokens": 128, "learning_rate": 0.003,
    }  # fmt: skip
    command("run_stage", "train-dictionary", *[f"--set={name}={value}" for name, value in settings.items()])
    return Dictionary.objects.get(name="own")


def command(*arguments: object) -> str:
    out = io.StringIO()
    call_command(*[str(argument) for argument in arguments], stdout=out, stderr=out)
    return out.getvalue()


def import_it(*arguments: object) -> str:
    return command("import_dictionary", *arguments, "--model", "small", "--image-set", "tiles")


def test_a_dictionary_leaves_and_comes_back(trained: Dictionary, root: Path, client: Client) -> None:
    text = command("export_dictionary", "own", "--format", "saelens", "--to", root / "borrowed")
    assert text == f"Written for saelens: {root / 'borrowed'}\n"
    text = import_it("borrowed", "--images", 12)
    assert "Dictionary: borrowed (topk_sae, blocks.1)" in text
    imported = Dictionary.objects.get(name="borrowed")
    assert (imported.vision_model.name, imported.image_set.name, imported.control_of) == ("small", "tiles", None)
    assert imported.run is not None
    assert "explained variance" in imported.run.log_lines.get().text
    client.force_login(User.objects.create_user("rhea", role=Role.RESEARCHER))
    page = client.get(reverse("dictionary", args=[imported.pk])).content.decode()
    assert "SAELens: borrowed" in page
    assert "Checked on" in page
    assert "Trained on" not in page
    assert "export_dictionary" in page


def test_the_same_files_again_compute_nothing_and_others_do(trained: Dictionary, root: Path) -> None:
    command("export_dictionary", "own", "--format", "saelens", "--to", root / "borrowed")
    import_it("borrowed")
    assert "Nothing was computed" in import_it("borrowed")
    config = root / "borrowed" / "cfg.json"
    config.write_text(config.read_text() + "\n")
    assert "Nothing was computed" not in import_it("borrowed")
    assert Dictionary.objects.filter(name="borrowed").count() == 1  # the same content is the same dictionary


def test_a_wrong_one_is_refused_by_command_unless_forced(trained: Dictionary, root: Path) -> None:
    command("export_dictionary", "own", "--format", "saelens", "--to", root / "borrowed")
    config = root / "borrowed" / "cfg.json"
    config.write_text(config.read_text().replace("blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"))
    with pytest.raises(CommandError, match="wrong hookpoint, wrong normalization or wrong model"):
        import_it("borrowed")
    assert Run.objects.latest("id").state == Run.State.FAILED
    assert not Dictionary.objects.filter(name="borrowed").exists()
    assert "Dictionary: borrowed (topk_sae, blocks.1.mlp.out)" in import_it("borrowed", "--force")


def test_commands_say_what_is_missing(trained: Dictionary, root: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="Name the files, a vision model and an image set"):
        command("import_dictionary", "borrowed")
    with pytest.raises(CommandError, match="lies outside of the folder for imports"):
        import_it("../pictures")
    with pytest.raises(CommandError, match="There is no 'borrowed' in the folder for imports"):
        import_it("borrowed")
    with pytest.raises(CommandError, match="There are 0 dictionaries called 'unknown'"):
        command("export_dictionary", "unknown", "--format", "saelens", "--to", tmp_path / "out")
    with pytest.raises(CommandError, match="holds transcoders, not dictionaries of one hookpoint"):
        command("export_dictionary", "own", "--format", "circuit-tracer", "--to", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CommandError, match=r"could not be exported to .*/file/out .*/file: File exists"):
        command("export_dictionary", "own", "--format", "saelens", "--to", tmp_path / "file" / "out")


@pytest.fixture
def rhea(client: Client) -> User:
    user = User.objects.create_user("rhea", role=Role.RESEARCHER)
    client.force_login(user)
    return user


@pytest.fixture
def parts(artifact_root: Path) -> tuple[ImageSet, VisionModel]:
    digests = []
    for kind in ("image-set", "vision-model"):
        with ArtifactStore(artifact_root).write(kind, config={"name": kind}) as writer:
            writer.write_json("about.json", kind)
        digests.append(writer.digest)
    image_set = ImageSet.objects.create(name="pets", digest=digests[0], n_images=100)
    shape = {"n_blocks": 2, "d_model": 32, "n_prefix_tokens": 1, "grid_height": 4, "grid_width": 4}
    model = VisionModel.objects.create(name="small", digest=digests[1], architecture="vit", source="untrained", **shape)
    return image_set, model


def test_the_form_says_what_there_is_and_refuses_what_is_elsewhere(
    client: Client, rhea: User, root: Path, parts: tuple[ImageSet, VisionModel]
) -> None:
    image_set, model = parts
    (root / "some-sae").mkdir()
    address = reverse("run-new") + "?stage=import-dictionary"
    page = client.get(address + f"&vision_model={model.digest}").content.decode()
    assert "which holds some-sae." in page
    assert 'name="files"' not in page
    assert re.findall(r"<input[^>]*\bchecked\b", page) == []  # neither a hookpoint nor the force is chosen beforehand
    values = {"image_set": image_set.digest, "vision_model": model.digest, "format": "auto", "k": 0, "n_images": 24}
    answer = client.post(address, values | {"path": "../secrets"})
    assert "lies outside of the folder for imports" in answer.content.decode()
    assert not Run.objects.exists()
    answer = client.post(address, values | {"path": "some-sae", "is_forced": "on"})
    run = Run.objects.get()
    assert answer.headers["Location"] == reverse("run", args=[run.pk])
    assert (run.config["is_forced"], run.config["hookpoints"], len(run.config["files"])) == (True, [], 64)


def test_an_import_always_names_the_files_it_was_asked_for(
    root: Path, rhea: User, parts: tuple[ImageSet, VisionModel]
) -> None:
    image_set, model = parts
    config = {"path": "missing", "image_set": image_set.digest, "vision_model": model.digest, "files": "0" * 64}
    with pytest.raises(ConfigError, match="There is no 'missing'"):
        create_run(stage="import-dictionary", config=config, user=rhea)
    (root / "missing").write_text("now it is there")
    run = create_run(stage="import-dictionary", config=config, user=rhea)
    assert run.config["files"] != "0" * 64
