"""What is read of a feature's exemplars: each image once, in its range, above every contrast image."""

from __future__ import annotations

from typing import Any

import numpy as np

from workers.stimuli.feature_images import band_of, read_feature_images

EDGES = [8.0, 4.0, 2.0, 1.0, 0.0]


def row(**changes: Any) -> dict[str, Any]:
    """Three top images, and one sample in each of the three lower ranges; image 9 was sampled and is in the top."""
    strongest = np.eye(6, dtype=np.uint8) * 255
    values = {
        "maximum": np.float32(8),
        "top_image": np.array([4, 9, 7, -1]), "top_value": np.array([8.0, 5.0, 3.0, 0.0]),
        "top_patch": np.array([2, -1, 1, -1]), "top_map": strongest[[2, 3, 1, 0]],
        "range_image": np.array([[9, -1], [5, -1], [6, -1], [8, -1]]),
        "range_value": np.array([[5.0, 0], [2.5, 0], [1.5, 0], [0.5, 0]]),
        "range_patch": np.array([[3, -1], [0, -1], [4, -1], [5, -1]]),
        "range_map": strongest[[[3, 0], [0, 0], [4, 0], [5, 0]]],
        "range_edges": np.array(EDGES), "contrast_image": np.array([11, 12, -1]), "contrast_reached": np.float32(0),
    }  # fmt: skip
    return values | changes


def read(values: dict[str, Any]) -> Any:
    return read_feature_images(lambda name, latent: values[name], 0)


def test_each_image_comes_once_with_its_range_and_its_strongest_patch() -> None:
    found = read(row())
    shown = [(one.image, one.value, one.patch, one.band) for one in found.active]
    assert shown == [
        (4, 1.0, 2, 0), (9, 0.625, 3, 0), (7, 0.375, 1, 1), (5, 0.3125, 0, 1), (6, 0.1875, 4, 2), (8, 0.0625, 5, 3),
    ]  # fmt: skip
    assert found.silent == [11, 12]
    assert {band: len(members) for band, members in found.bands().items()} == {0: 2, 1: 2, 2: 1, 3: 1}


def test_what_is_no_stronger_than_a_contrast_image_does_not_activate() -> None:
    assert [one.image for one in read(row(contrast_reached=np.float32(1.5))).active] == [4, 9, 7, 5]


def test_an_image_on_whose_patches_nothing_is_active_is_left_out() -> None:
    maps = row()["top_map"].copy()
    maps[2] = 0
    assert [one.image for one in read(row(top_map=maps)).active] == [4, 9, 5, 6, 8]


def test_a_feature_without_contrast_keeps_all_that_activates_it() -> None:
    found = read(row(contrast_image=np.array([-1, -1, -1]), contrast_reached=np.float32("nan")))
    assert (len(found.active), found.silent) == (6, [])


def test_a_value_on_an_edge_belongs_to_the_stronger_range() -> None:
    assert [band_of(value, EDGES) for value in (8.0, 4.0, 3.9, 2.0, 1.0, 0.9, 0.1)] == [0, 0, 1, 1, 2, 3, 3]
