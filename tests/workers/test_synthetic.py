"""Shapes world: the files say what is drawn, attributes are independent, and the shipped model does as it says."""

from __future__ import annotations

import csv
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workers.artifacts import ArtifactStore
from workers.images import ImageSetReader, scan_folder, write_image_set
from workers.synthetic import shapes, train_weights
from workers.synthetic.photographs import PhotographsError, write_photographs
from workers.synthetic.shapes_world import BLOCK, draw_block, main, write_folder
from workers.vision_model import ModelRequest, load_vision_model, register_vision_model

CATEGORIES = ("shape", "color", "texture", "curvature", "size", "row", "column")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    write_folder(root, n_train=300, n_test=40, seed=1)
    return root


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class TestFiles:
    def test_they_are_imported_with_their_attributes(self, folder: Path, tmp_path: Path) -> None:
        scan = scan_folder(folder)
        assert scan.classes == list(shapes.SHAPES)
        assert len(scan.records) == 340
        attributes = scan.records[0].attributes
        assert attributes["split"] == "train"
        assert attributes["background_agrees"] in (True, False)
        assert isinstance(attributes["x"], float)
        artifact = write_image_set(ArtifactStore(tmp_path), scan, name="shapes", licence="CC0", visibility="public")
        reader = ImageSetReader(artifact, folder)
        drawn = draw_block("train", 1, seed=1)
        assert np.array_equal(np.asarray(reader.load(BLOCK + 3)), drawn.pictures.images[3])
        mask = reader.mask(BLOCK + 3)
        assert mask is not None
        assert np.array_equal(mask, drawn.pictures.masks[3])
        assert reader.labels[BLOCK + 3] == shapes.SHAPES[drawn.attributes.shape[3]]
        assert reader.attributes(BLOCK + 3)["color"] == shapes.COLORS[drawn.attributes.color[3]]

    def test_the_same_seed_gives_the_same_bytes_and_more_images_only_add(self, folder: Path, tmp_path: Path) -> None:
        main([str(tmp_path), "--train", "10", "--test", "2", "--seed", "1"])
        few, many = read_rows(tmp_path), read_rows(folder)
        assert few == many[:10] + many[300:302]
        for row in few:
            assert (tmp_path / row["path"]).read_bytes() == (folder / row["path"]).read_bytes()
        write_folder(tmp_path, n_train=1, n_test=1, seed=2)
        assert (tmp_path / few[0]["path"]).read_bytes() != (folder / few[0]["path"]).read_bytes()

    def test_masks_lie_where_the_position_says(self, folder: Path) -> None:
        for row in read_rows(folder)[:60]:
            mask = np.asarray(Image.open(folder / row["mask"]))
            rows, columns = np.nonzero(mask)
            assert abs(columns.mean() - float(row["x"])) < 4, row["path"]
            assert abs(rows.mean() - float(row["y"])) < 6, row["path"]
            assert len(rows) > 150, row["path"]


class TestAttributes:
    def test_all_pairs_are_independent(self) -> None:
        drawn = shapes.draw_attributes(20_000, 0.95, np.random.default_rng(0))
        for left, right in combinations(CATEGORIES, 2):
            a, b = getattr(drawn, left), getattr(drawn, right)
            counts = np.zeros((a.max() + 1, b.max() + 1))
            np.add.at(counts, (a, b), 1)
            expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
            freedom = (counts.shape[0] - 1) * (counts.shape[1] - 1)
            chi_squared = ((counts - expected) ** 2 / expected).sum()
            assert chi_squared < freedom + 4.5 * np.sqrt(2 * freedom), (left, right)

    @pytest.mark.parametrize(("split", "share"), [("train", 0.95), ("test", 0.5)])
    def test_the_ground_goes_with_the_class_as_often_as_said(self, split: str, share: float) -> None:
        agrees = [
            (block.attributes.background == block.attributes.shape).mean()
            for block in (draw_block(split, number, seed=0) for number in range(4))
        ]
        assert np.mean(agrees) == pytest.approx(share, abs=0.05)

    def test_each_shape_is_drawn_in_its_color_on_its_ground(self) -> None:
        drawn = draw_block("test", 0, seed=0)
        solid = drawn.attributes.texture == shapes.TEXTURES.index("solid")
        for i in np.flatnonzero(solid)[:40]:
            image, mask = drawn.pictures.images[i].astype(float), drawn.pictures.masks[i]
            assert np.abs(np.median(image[mask], axis=0) - shapes.RGB[drawn.attributes.color[i]]).max() < 8
            ground = shapes.GROUND[drawn.attributes.background[i]]
            assert np.abs(image[~mask].mean(axis=0) - ground).max() < 20

    def test_a_bent_square_is_no_square(self) -> None:
        one = shapes.draw_attributes(1, 0.5, np.random.default_rng(0))
        square = one._replace(shape=np.array([shapes.SHAPES.index("square")]), angle=np.zeros(1, np.float32))
        masks = [
            shapes.render(square._replace(curvature=np.array([c])), np.random.default_rng(0)).masks[0] for c in (0, 1)
        ]
        straight, bent = (mask[np.flatnonzero(mask.any(axis=1))[0]].sum() for mask in masks)
        assert straight > 1.5 * bent


class TestShippedModel:
    def test_it_sees_shapes_but_trusts_the_ground(self, tmp_path: Path) -> None:
        checkpoint = train_weights.WEIGHTS / f"{train_weights.NAME}.safetensors"
        assert checkpoint.stat().st_size <= 3 << 20
        manifest = json.loads(checkpoint.with_suffix(".json").read_text())
        assert manifest["command"] == train_weights.COMMAND
        request = ModelRequest(source="checkpoint", checkpoint=checkpoint)
        model = load_vision_model(register_vision_model(ArtifactStore(tmp_path), request))
        assert (model.n_blocks, model.d_model, model.grid) == (6, 128, (8, 8))
        assert model.classes == list(shapes.SHAPES)
        accuracy = train_weights.measure(model.module, 512)
        assert accuracy.agree == pytest.approx(manifest["accuracy"]["agree"], abs=0.02)
        assert accuracy.disagree == pytest.approx(manifest["accuracy"]["disagree"], abs=0.09)
        assert accuracy.agree >= 0.95
        assert 1 / 6 < accuracy.disagree < accuracy.agree - 0.15

    def test_its_preprocessing_is_the_one_it_was_trained_with(self, tmp_path: Path) -> None:
        checkpoint = train_weights.WEIGHTS / f"{train_weights.NAME}.safetensors"
        request = ModelRequest(source="checkpoint", checkpoint=checkpoint)
        model = load_vision_model(register_vision_model(ArtifactStore(tmp_path), request))
        images = draw_block("test", 0, seed=0).pictures.images[:3]
        torch.testing.assert_close(
            torch.stack([model.transform(Image.fromarray(image)) for image in images]),
            train_weights.normalize(torch.from_numpy(images)),
        )

    def test_the_recipe_makes_weights_and_manifest(self, tmp_path: Path) -> None:
        phase = train_weights.Phase(n_images=256, n_steps=2, batch_size=4, learning_rate=1e-3, warmup_steps=1)
        recipe = train_weights.Recipe(attributes=phase, classes=phase, n_test=256)
        with torch.random.fork_rng():
            model = train_weights.train(recipe)
        train_weights.save(model, recipe, train_weights.measure(model, 256), tmp_path)
        request = ModelRequest(source="checkpoint", checkpoint=tmp_path / f"{train_weights.NAME}.safetensors")
        loaded = load_vision_model(register_vision_model(ArtifactStore(tmp_path / "store"), request))
        assert all(torch.equal(loaded.module.state_dict()[k], v) for k, v in model.state_dict().items())


class TestPhotographs:
    def test_crops_of_two_photographs_are_two_classes(self, tmp_path: Path) -> None:
        n_written = write_photographs(tmp_path, size=128, step=96, shrink=1)
        scan = scan_folder(tmp_path)
        assert scan.classes == ["china", "flower"]
        assert len(scan.records) == n_written == 2 * 6 * 4
        assert {(r.width, r.height) for r in scan.records} == {(128, 128)}
        assert len({r.sha256 for r in scan.records}) == n_written

    def test_a_crop_larger_than_the_photograph_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(PhotographsError, match="427"):
            write_photographs(tmp_path, size=500, step=10, shrink=1)
        assert list(tmp_path.iterdir()) == []
