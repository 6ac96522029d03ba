"""Image sets: every layout, every pixel format, every way in which a file or folder can be bad."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from workers.artifacts import ArtifactStore
from workers.image_decoding import ImageImportError, load_image
from workers.image_scan import Scan, parse_cache, scan_folder
from workers.images import ImageSetReader, check_root, image_batches, write_image_set

GRADIENT = np.linspace(0, 255, 12 * 8 * 3).reshape(8, 12, 3).astype(np.uint8)


def save(path: Path, seed: int = 0, size: tuple[int, int] = (12, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@contextmanager
def closed(*folders: Path) -> Iterator[None]:
    """These folders, side by side below open ones, without permissions, seen by a user for whom those count."""
    outside = [p for p in folders[0].parent.parents if p.stat().st_mode & 0o055 != 0o055] if os.geteuid() == 0 else []
    modes = {p: p.stat().st_mode for p in (*outside, *folders)}
    for path in modes:
        path.chmod(0 if path in folders else 0o755)
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(os.getuid())
        for path, mode in modes.items():
            path.chmod(mode)


def class_folder(root: Path) -> Path:
    for seed, name in enumerate(["cat/1.png", "cat/2.jpg", "dog/deep/1.webp", "dog/2.jpeg"]):
        save(root / name, seed)
    (root / "README.md").write_text("notes are no images")
    (root / "cat" / ".hidden").write_text("")
    return root


def sentence(root: Path, **options: object) -> str:
    with pytest.raises(ImageImportError) as caught:
        scan_folder(root, **options)  # type: ignore[arg-type]
    return str(caught.value)


def write_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


class TestLayouts:
    def test_class_subfolders_give_labels_in_sorted_order(self, tmp_path: Path) -> None:
        scan = scan_folder(class_folder(tmp_path))
        assert scan.classes == ["cat", "dog"]
        assert [(r.path, r.label, r.label_index) for r in scan.records] == [
            ("cat/1.png", "cat", 0),
            ("cat/2.jpg", "cat", 0),
            ("dog/2.jpeg", "dog", 1),
            ("dog/deep/1.webp", "dog", 1),
        ]
        assert (scan.records[0].width, scan.records[0].height) == (12, 8)

    def test_splits_above_the_classes_become_an_attribute(self, tmp_path: Path) -> None:
        save(tmp_path / "train/cat/1.png")
        save(tmp_path / "val/cat/2.png", 1)
        scan = scan_folder(tmp_path)
        assert scan.classes == ["cat"]
        assert [r.attributes for r in scan.records] == [{"split": "train"}, {"split": "val"}]

    def test_ilsvrc_training_folders_get_readable_names(self, tmp_path: Path) -> None:
        for folder in ("n01440764", "n02012849", "n03126707"):
            save(tmp_path / folder / f"{folder}_1.JPEG")
        assert scan_folder(tmp_path).classes == ["tench", "crane (n02012849)", "crane (n03126707)"]

    def test_a_mapping_above_the_folder_gives_all_classes_in_its_order(self, tmp_path: Path) -> None:
        train = tmp_path / "Data/CLS-LOC/train"
        save(train / "n01443537/a.JPEG")
        lines = ["n01440764 tench, Tinca tinca", "n01443537 goldfish, Carassius auratus"]
        (tmp_path / "LOC_synset_mapping.txt").write_text("\n".join(lines))
        scan = scan_folder(train)
        assert scan.classes == ["tench", "goldfish"]
        assert (scan.records[0].label, scan.records[0].label_index) == ("goldfish", 1)

    def test_ilsvrc_validation_solution_labels_a_flat_folder(self, tmp_path: Path) -> None:
        for number in (1, 2):
            save(tmp_path / f"ILSVRC2012_val_0000000{number}.JPEG", number)
        rows = ["ImageId,PredictionString", "ILSVRC2012_val_00000002,n01440764 1 2 3 4",
                "ILSVRC2012_val_00000001,n01443537 1 2 3 4 n01443537 5 6 7 8"]  # fmt: skip
        (tmp_path / "LOC_val_solution.csv").write_text("\n".join(rows))
        assert [r.label for r in scan_folder(tmp_path).records] == ["goldfish", "tench"]

    def test_ilsvrc_numbered_truth_is_explained_by_the_devkit(self, tmp_path: Path) -> None:
        for number in (1, 2):
            save(tmp_path / f"ILSVRC2012_val_0000000{number}.JPEG", number)
        (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("490\n1\n")
        assert "map_clsloc.txt" in sentence(tmp_path)
        (tmp_path / "map_clsloc.txt").write_text("n02119789 1 kit_fox\nn01440764 490 tench\n")
        assert [r.label for r in scan_folder(tmp_path).records] == ["tench", "kit fox"]

    def test_listed_truth_by_position_among_the_sorted_synsets(self, tmp_path: Path) -> None:
        save(tmp_path / "ILSVRC2012_val_00000001.JPEG")
        (tmp_path / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG 1\n")
        assert scan_folder(tmp_path).records[0].label == "goldfish"

    @pytest.mark.parametrize(
        ("name", "content"),
        [("LOC_val_solution.csv", b"a,b\n1,2\n"), ("val.txt", b"\xff\xfe"),
         ("ILSVRC2012_validation_ground_truth.txt", b"one\n")],
    )  # fmt: skip
    def test_a_side_file_of_another_form_is_named(self, tmp_path: Path, name: str, content: bytes) -> None:
        save(tmp_path / "ILSVRC2012_val_00000001.JPEG")
        (tmp_path / name).write_bytes(content)
        (tmp_path / "map_clsloc.txt").write_text("n02119789 1 kit_fox\n")
        assert f"{name}' is not of the form" in sentence(tmp_path)

    @pytest.mark.parametrize(
        ("name", "content", "part"),
        [("classes.txt", b"\xff", "is not of the form"), ("classes.json", b"{", "is no JSON"),
         ("classes.json", b"3", "must hold a list"), ("classes.json", b'{"cat": "Felis"}', "'dog' has no name"),
         ("classes.txt", b"a\nb\nc\n", "lists 3 classes"), ("classes.txt", b"a\na\n", "'a' stands twice")],
    )  # fmt: skip
    def test_wrong_class_names_are_named(self, tmp_path: Path, name: str, content: bytes, part: str) -> None:
        class_folder(tmp_path)
        (tmp_path / name).write_bytes(content)
        assert part in sentence(tmp_path)

    def test_a_flat_folder_without_truth_has_no_labels(self, tmp_path: Path) -> None:
        save(tmp_path / "a.png")
        scan = scan_folder(tmp_path)
        assert (scan.classes, scan.records[0].label, scan.records[0].label_index) == ([], None, -1)

    @pytest.mark.parametrize(
        ("name", "text"),
        [("classes.json", '{"cat": "Felis", "dog": "Canis"}'), ("classes.txt", "cat Felis\ndog Canis\n"),
         ("classes.json", '["Felis", "Canis"]')],
    )  # fmt: skip
    def test_class_names_beside_the_folders(self, tmp_path: Path, name: str, text: str) -> None:
        class_folder(tmp_path)
        (tmp_path / name).write_text(text)
        assert scan_folder(tmp_path).classes == ["Felis", "Canis"]

    def test_numbered_classes_are_in_order_of_number_and_a_link_upwards_is_not_followed(self, tmp_path: Path) -> None:
        for name in ("10", "9", "x"):
            save(tmp_path / name / "a.png")
        (tmp_path / "9/loop").symlink_to(tmp_path, target_is_directory=True)
        scan = scan_folder(tmp_path)
        assert scan.classes == ["9", "10", "x"]
        assert len(scan.records) == 3


class TestMetadata:
    def test_csv_with_labels_masks_and_typed_attributes(self, tmp_path: Path) -> None:
        save(tmp_path / "images/a.png")
        save(tmp_path / "images/b.png", 1)
        mask = np.zeros((8, 12), dtype=np.uint8)
        mask[2:4, 3:5] = 255
        Image.fromarray(mask).save(tmp_path / "a-mask.png")
        write_csv(tmp_path / "metadata.csv", [
            {"path": "images/b.png", "label": "ring", "mask": "", "x": "1.5", "n": "2", "code": "007", "is": "true"},
            {"path": "images/a.png", "label": "disk", "mask": "a-mask.png", "x": "2", "n": "3", "code": "1", "is": ""},
        ])  # fmt: skip
        scan = scan_folder(tmp_path)
        assert scan.classes == ["disk", "ring"]
        assert [(r.path, r.label_index) for r in scan.records] == [("images/b.png", 1), ("images/a.png", 0)]
        assert scan.records[0].attributes == {"x": 1.5, "n": 2, "code": "007", "is": True}
        assert scan.records[1].attributes == {"x": 2.0, "n": 3, "code": "1", "is": None}
        artifact = write(tmp_path, scan)
        read = ImageSetReader(artifact, tmp_path).mask(1)
        assert read is not None
        assert np.array_equal(read, mask > 0)
        assert ImageSetReader(artifact, tmp_path).mask(0) is None

    def test_json_lines_elsewhere(self, tmp_path: Path) -> None:
        save(tmp_path / "set/a.png")
        rows = tmp_path / "rows.jsonl"
        rows.write_text(json.dumps({"file_name": "a.png", "label": 3, "size": "large"}) + "\n")
        scan = scan_folder(tmp_path / "set", metadata=rows)
        assert (scan.classes, scan.records[0].attributes) == (["3"], {"size": "large"})

    @pytest.mark.parametrize(
        ("rows", "part"),
        [
            ("path,label\nimages/gone.png,cat\n", "no image 'images/gone.png'"),
            ("path,mask\na.png,gone.png\n", "no mask 'gone.png'"),
            ("path,mask\na.png,b.png\n", "mask 'b.png' is 5 x 5 pixels"),
            ("label\ncat\n", "has no path"),
            ("path\na.png\na.png\n", "'a.png' stands twice"),
            ("path\n../a.png\n", "'../a.png'"),
            ("path,label\na.png,cat,more\n", "Line 2"),
            ("path\n", "has no rows"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path: Path, rows: str, part: str) -> None:
        save(tmp_path / "a.png")
        save(tmp_path / "b.png", size=(5, 5))
        (tmp_path / "metadata.csv").write_text(rows)
        assert part in sentence(tmp_path)


class TestBadFiles:
    def test_each_kind_is_named_and_can_be_skipped(self, tmp_path: Path) -> None:
        class_folder(tmp_path)
        whole = save(tmp_path / "cat/3.jpg", 9, (64, 64)).read_bytes()
        for name, content, part in (
            ("cat/3.jpg", whole[: len(whole) // 2], "'cat/3.jpg' is truncated or damaged"),
            ("cat/3.jpg", b"plain text, no image", "'cat/3.jpg' is no image"),
            ("cat/3.jpg", b"", "'cat/3.jpg' is empty"),
        ):
            (tmp_path / name).write_bytes(content)
            assert part in sentence(tmp_path)
            scan = scan_folder(tmp_path, skip_bad=True)
            assert [r.path for r in scan.records] == ["cat/1.png", "cat/2.jpg", "dog/2.jpeg", "dog/deep/1.webp"]
            assert [part in text for text in scan.skipped] == [True]

    def test_a_truncated_png_and_webp(self, tmp_path: Path) -> None:
        for name in ("a.png", "a.webp"):
            path = save(tmp_path / name.replace(".", "/x."), size=(64, 64))
            path.write_bytes(path.read_bytes()[:-400])
            assert f"'{path.relative_to(tmp_path)}' is truncated or damaged" in sentence(tmp_path)
            path.unlink()

    def test_another_format_under_a_false_name_or_its_own(self, tmp_path: Path) -> None:
        Image.fromarray(GRADIENT).save(tmp_path / "a.gif")
        assert "'a.gif' is no JPEG, PNG or WebP" in sentence(tmp_path)
        (tmp_path / "a.gif").rename(tmp_path / "a.png")
        assert "'a.png' is of format GIF" in sentence(tmp_path)

    @pytest.mark.parametrize("side", [9_400, 14_000])
    def test_a_decompression_bomb(self, tmp_path: Path, side: int) -> None:
        Image.new("1", (side, side)).save(tmp_path / "bomb.png")
        assert "'bomb.png' has more than 80 million pixels" in sentence(tmp_path)

    def test_all_bad_is_an_error_even_when_skipping(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_text("no")
        (tmp_path / "b.png").write_text("no")
        assert sentence(tmp_path, skip_bad=True).startswith("The file 'a.png' is no image")

    def test_a_folder_without_permission(self, tmp_path: Path) -> None:
        root, inner = tmp_path / "sets/closed", tmp_path / "sets/open/closed"
        save(root / "a.png")
        save(inner / "a.png")
        with closed(root, inner):
            assert f"'{root}' cannot be read (Permission denied)" in sentence(root)
            assert f"'{inner}' cannot be read (Permission denied)" in sentence(inner.parent)

    def test_folders(self, tmp_path: Path) -> None:
        assert "does not exist" in sentence(tmp_path / "gone")
        assert "holds no images" in sentence(tmp_path)
        assert "is a file, not a folder" in sentence(save(tmp_path / "a.png"))
        save(tmp_path / "cat/b.png")
        assert "'a.png' is beside them" in sentence(tmp_path)


class TestDecoding:
    def test_exif_orientation(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6  # to be turned a quarter clockwise
        Image.fromarray(GRADIENT).save(tmp_path / "a.png", exif=exif)
        assert np.array_equal(np.asarray(load_image(tmp_path / "a.png")), np.rot90(GRADIENT, -1))
        assert [(r.width, r.height) for r in scan_folder(tmp_path).records] == [(8, 12)]

    def test_transparency_lies_on_white(self, tmp_path: Path) -> None:
        Image.fromarray(np.array([[[255, 0, 0, 128], [9, 9, 9, 0]]], dtype=np.uint8)).save(tmp_path / "a.png")
        assert np.asarray(load_image(tmp_path / "a.png")).tolist() == [[[255, 127, 127], [255, 255, 255]]]

    def test_sixteen_bits_keep_the_top_eight(self, tmp_path: Path) -> None:
        Image.fromarray(np.array([[0, 257, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
        assert np.asarray(load_image(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 1, 128, 255]

    def test_grey_palette_and_cmyk(self, tmp_path: Path) -> None:
        Image.new("L", (2, 2), 77).save(tmp_path / "grey.png")
        Image.new("RGB", (2, 2), (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
        Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
        pixels = {p.name: np.asarray(load_image(p))[0, 0].tolist() for p in sorted(tmp_path.iterdir())}
        assert pixels["grey.png"] == [77, 77, 77]
        assert pixels["p.png"] == [10, 200, 30]
        assert np.abs(np.array(pixels["cmyk.jpg"]) - [255, 0, 0]).max() <= 3


class TestResuming:
    def test_a_second_try_takes_from_the_cache_what_did_not_change(self, tmp_path: Path) -> None:
        class_folder(tmp_path / "set")
        cache = tmp_path / "cache.jsonl"
        (tmp_path / "set/dog/bad.png").write_text("no")
        assert "'dog/bad.png' is no image" in sentence(tmp_path / "set", cache_path=cache)
        (tmp_path / "set/dog/bad.png").unlink()
        with cache.open("a") as file:
            file.write('["cut off by a ki')
        known = dict(parse_cache(cache.read_text()))
        assert len(known) == 4
        planted = {key: found for key, found in known.items() if key.startswith("cat/1.png")}
        line = json.dumps([next(iter(planted)), {"sha256": "planted", "width": 1, "height": 1}])
        with cache.open("a") as file:
            file.write("\n" + line + "\n")
        scan = scan_folder(tmp_path / "set", cache_path=cache)
        assert [r.sha256 == "planted" for r in scan.records] == [True, False, False, False]
        save(tmp_path / "set/cat/1.png", 99, (30, 30))
        assert scan_folder(tmp_path / "set", cache_path=cache).records[0].width == 30

    def test_progress_counts_every_file_once(self, tmp_path: Path) -> None:
        seen: list[tuple[int, int]] = []
        scan_folder(class_folder(tmp_path), progress=lambda done, total: seen.append((done, total)))
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def write(folder: Path, scan: Scan):  # type: ignore[no-untyped-def]
    store = ArtifactStore(folder.parent / (folder.name + "-store"))
    return write_image_set(store, scan, name="pets", licence="CC0", visibility="public")


class TestReader:
    def test_round_trip(self, tmp_path: Path) -> None:
        root = class_folder(tmp_path / "set")
        artifact = write(root, scan_folder(root))
        reader = ImageSetReader(artifact, root)
        assert artifact.config == {"name": "pets", "licence": "CC0", "visibility": "public"}
        assert (len(reader), reader.classes, reader.labels) == (4, ["cat", "dog"], ["cat", "cat", "dog", "dog"])
        assert reader.label_indices.tolist() == [0, 0, 1, 1]
        assert np.array_equal(np.asarray(reader.load(0)), np.asarray(Image.open(root / "cat/1.png")))
        assert write(root, scan_folder(root)).digest == artifact.digest

    def test_a_moved_folder_is_relinked_and_a_changed_file_refused(self, tmp_path: Path) -> None:
        root = class_folder(tmp_path / "set")
        artifact = write(root, scan_folder(root))
        root.rename(tmp_path / "moved")
        with pytest.raises(ImageImportError, match="no folder"):
            check_root(artifact, root)
        assert check_root(artifact, tmp_path / "moved") == 4
        assert check_root(artifact, tmp_path / "moved", n_sampled=2) == 2
        save(tmp_path / "moved/dog/2.jpeg", 50)
        with pytest.raises(ImageImportError, match=r"'dog/2.jpeg' .* is not the one"):
            check_root(artifact, tmp_path / "moved")

    def test_batches_come_in_order_whatever_the_threads(self, tmp_path: Path) -> None:
        root = class_folder(tmp_path / "set")
        reader = ImageSetReader(write(root, scan_folder(root)), root)

        def transform(image: Image.Image) -> torch.Tensor:
            return torch.from_numpy(np.array(image)).float().mean().reshape(1)

        expected = torch.stack([transform(reader.load(i)) for i in (3, 0, 2)])
        for n_threads in (1, 4):
            batches = list(image_batches(reader, transform, [3, 0, 2], 2, n_threads))
            assert [len(batch) for batch in batches] == [2, 1]
            assert torch.equal(torch.cat(batches), expected)

    def test_an_unknown_visibility_is_refused(self, tmp_path: Path) -> None:
        save(tmp_path / "set/a.png")
        with pytest.raises(ValueError, match="public, signed-in, team"):
            write_image_set(
                ArtifactStore(tmp_path), scan_folder(tmp_path / "set"), name="x", licence="", visibility="secret"
            )
