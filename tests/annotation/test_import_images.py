"""Image sets imported by command: all rows or none, and folders that moved."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image as Picture

from annotation.domain.storage import image_path
from annotation.models import Image, ImageRoot, ImageSet

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def roots(artifact_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.conf.settings.DATA_ROOT", tmp_path / "data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
            Picture.fromarray(pixels).save(tmp_path / "pictures" / label / f"{number}.png")
    return tmp_path / "pictures"


def command(*arguments: object) -> str:
    out = io.StringIO()
    call_command(*[str(argument) for argument in arguments], stdout=out, stderr=out)
    return out.getvalue()


def test_a_folder_becomes_a_set_with_a_row_per_image(folder: Path) -> None:
    text = command("import_images", "pets", folder, "--licence", "CC BY 4.0", "--visibility", "public")

    image_set = ImageSet.objects.get(name="pets")
    assert text.startswith("Imported 6 images as 'pets', 2 classes.")
    assert (image_set.n_images, image_set.classes) == (6, ["cat", "dog"])
    assert (image_set.licence, image_set.visibility) == ("CC BY 4.0", "public")
    assert list(image_set.images.values_list("index", "path", "label"))[:2] == [
        (0, "cat/0.png", "cat"),
        (1, "cat/1.png", "cat"),
    ]
    assert image_path(image_set.images.get(index=4)) == folder / "dog" / "1.png"


def test_attributes_of_a_metadata_file_are_kept(folder: Path, tmp_path: Path) -> None:
    metadata = tmp_path / "rows.jsonl"
    rows = [{"path": f"cat/{n}.png", "label": "cat", "age": n} for n in range(2)]
    metadata.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command("import_images", "cats", folder, "--metadata", metadata)

    image_set = ImageSet.objects.get(name="cats")
    assert image_set.attribute_names == ["age"]
    assert [image.attributes["age"] for image in image_set.images.all()] == [0, 1]


def test_a_damaged_file_is_named_and_nothing_is_imported(folder: Path) -> None:
    (folder / "dog" / "9.png").write_bytes((folder / "dog" / "1.png").read_bytes()[:60])

    with pytest.raises(CommandError, match=r"dog/9\.png"):
        command("import_images", "pets", folder)
    assert (ImageSet.objects.count(), Image.objects.count(), ImageRoot.objects.count()) == (0, 0, 0)

    assert "1 left out" in command("import_images", "pets", folder, "--skip-bad")
    assert ImageSet.objects.get(name="pets").n_images == 6


def test_a_taken_name_is_refused_before_anything_is_read(folder: Path) -> None:
    command("import_images", "pets", folder)

    with pytest.raises(CommandError, match="There is an image set 'pets' already"):
        command("import_images", "pets", folder / "nowhere")


def test_the_same_images_are_not_registered_twice(folder: Path) -> None:
    command("import_images", "pets", folder)

    with pytest.raises(CommandError, match="registered already, as 'pets'"):
        command("import_images", "other", folder)


def test_a_moved_folder_is_relinked_once_its_hashes_agree(folder: Path, tmp_path: Path) -> None:
    command("import_images", "pets", folder)
    moved = folder.rename(tmp_path / "moved")
    command("relink_images", "pets", moved)
    image = Image.objects.get(index=0)
    assert image_path(image) == moved / "cat" / "0.png"

    Picture.new("RGB", (10, 8)).save(moved / "dog" / "2.png")
    with pytest.raises(CommandError, match=r"dog/2\.png.* is not the one that was imported.*Nothing was changed"):
        command("relink_images", "pets", moved, "--host", "other")
    assert ImageRoot.objects.count() == 1


def test_relinking_an_unknown_set_names_the_known_ones(folder: Path) -> None:
    command("import_images", "pets", folder)

    with pytest.raises(CommandError, match="There is no image set 'cats'; the sets are: pets"):
        command("relink_images", "cats", folder)


@pytest.mark.parametrize("n_sampled", ["0", "-3"])
def test_a_folder_is_not_believed_without_a_look(folder: Path, tmp_path: Path, n_sampled: str) -> None:
    command("import_images", "pets", folder)
    with pytest.raises(CommandError, match="must be at least 1"):
        command("relink_images", "pets", tmp_path, "--sample", n_sampled)
    assert ImageRoot.objects.get().path == str(folder)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("empty.csv", "", "has no rows"),
        ("nan.jsonl", '{"path": "cat/0.png", "size": NaN}', "NaN is no number"),
        ("infinite.jsonl", '{"path": "cat/0.png", "size": Infinity}', "Infinity is no number"),
    ],
)
def test_metadata_that_cannot_be_kept_is_refused(
    folder: Path, tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CommandError, match=sentence):
        command("import_images", "pets", folder, "--metadata", tmp_path / name)
    assert not ImageSet.objects.exists()


def test_a_name_longer_than_its_column_is_refused(folder: Path) -> None:
    with pytest.raises(CommandError, match="longer than 80 characters"):
        command("import_images", "n" * 81, folder)
