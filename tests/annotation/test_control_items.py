"""Controls: matched patch by patch, and shuffled sheets that keep the shape of a sheet."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np

from annotation.domain.controls import (
    N_COMPARED,
    SPREAD_MARGIN,
    FeatureRef,
    Pool,
    matched_controls,
    nearest,
    scattered_cells,
    shuffled,
    spread_evenly,
)
from annotation.domain.sampling import Drawn, Stratum
from annotation.domain.sheet_counts import Counts, is_enough, repeats, sheet_counts, shortfall
from annotation.models import Dictionary
from workers.stimuli.feature_images import Tensors
from workers.stimuli.sheets import read_sheet

REFS = {number: FeatureRef(number, 1, "blocks.0", 0.1 + number / 100) for number in range(40)}
CONTROLS = [FeatureRef(100 + number, 2, "blocks.0", 0.05 + number / 50) for number in range(12)]
DRAWN = Drawn(3, Stratum(1, 0, "all"))


def pool_of(counts: dict[int, tuple[int, ...]]) -> Pool:
    return pool_of_sheets({feature: Counts(images, 16) for feature, images in counts.items()})


def pool_of_sheets(sheets: dict[int, Counts], controls: list[FeatureRef] = CONTROLS) -> Pool:
    return Pool(
        {(1, "blocks.0"): list(REFS.values()), (2, "blocks.0"): controls},
        REFS | {ref.id: ref for ref in controls},
        {(1, "random_directions"): Dictionary(pk=2)},
        lambda feature: sheets.get(feature, Counts((5,) * 16, 16)),
    )


def test_a_shuffled_item_shows_patches_of_the_images_it_shows() -> None:
    control = shuffled(DRAWN, pool_of({}), random.Random(0))
    assert [cell.place for cell in control.cells] == list(range(16))
    assert len({cell.feature for cell in control.cells}) == 16
    assert DRAWN.feature_id not in {cell.feature for cell in control.cells}


def test_the_cells_of_a_shuffled_item_are_active_on_enough_patches_where_any_feature_is() -> None:
    many = {number: (number % 9 + 1,) * 16 for number in REFS}
    wanted = (9, 8, 7, 6) + (2,) * 12
    cells = scattered_cells(3, list(REFS.values()), pool_of(many | {3: wanted}), random.Random(0))
    assert [many[cell.feature][0] >= want for cell, want in zip(cells, wanted, strict=True)] == [True] * 16


def test_a_control_is_the_one_that_lacks_the_fewest_patches_of_its_match() -> None:
    enough = [ref.id for ref in CONTROLS if ref.spread >= SPREAD_MARGIN * REFS[3].spread]
    assert len(enough) > 3
    short = {pk: (4,) * 16 for pk in enough} | {3: (6,) * 16}
    control = nearest(DRAWN, "random_directions", pool_of(short | {enough[2]: (6,) * 15 + (5,)}))
    assert control is not None
    assert control.feature == enough[2]


def sheet(shown: list[int], cropped: list[int], n_active: int = 5) -> Counts:
    return Counts((n_active,) * len(shown), len(cropped), tuple(shown), tuple(cropped))


def own_images(feature: int) -> Counts:
    """Sixteen images and patches, the eight strongest images in both panels."""
    top = list(range(1000 * feature, 1000 * feature + 24))
    return sheet(top[:8] + top[16:], top[:16])


def test_a_shuffled_item_shows_no_image_again_though_features_share_their_strongest_images() -> None:
    shared = own_images(1)
    sheets = {number: own_images(number) if number % 2 else shared for number in REFS}
    for seed in range(5):
        cells = scattered_cells(3, list(REFS.values()), pool_of_sheets(sheets), random.Random(seed))
        shown = Counter(sheets[cell.feature].shown[cell.place] for cell in cells)
        cropped = Counter(sheets[cell.feature].cropped[cell.place] for cell in cells)
        assert set((shown | cropped).values()) == {1}
        assert len(shown & cropped) == 8


def test_a_shuffled_item_shows_images_again_where_the_matched_sheet_does() -> None:
    few = list(range(3000, 3016))
    sheets = {number: own_images(number) for number in REFS} | {3: sheet(few, few)}
    for number in range(10, 30):
        sheets[number] = sheet(few, few)
    cells = scattered_cells(3, list(REFS.values()), pool_of_sheets(sheets), random.Random(0))
    shown = {sheets[cell.feature].shown[cell.place] for cell in cells}
    cropped = {sheets[cell.feature].cropped[cell.place] for cell in cells}
    assert len(shown) == len(cropped) == len(shown & cropped) == 16


def test_of_controls_with_enough_patches_the_one_that_shows_as_many_images_again_is_taken() -> None:
    enough = [ref.id for ref in CONTROLS if ref.spread >= SPREAD_MARGIN * REFS[3].spread]
    sheets = {ref.id: own_images(ref.id) for ref in CONTROLS}
    few = list(range(16))
    rare = {3: sheet(few, few), enough[4]: sheet(few, few)}
    control = nearest(DRAWN, "random_directions", pool_of_sheets(sheets | rare))
    assert control is not None
    assert control.feature == enough[4]


def test_the_best_match_is_found_though_many_controls_come_before_it() -> None:
    """The untrained units that could stand for a dense feature lay beyond the two dozen that were looked at."""
    controls = [FeatureRef(100 + number, 2, "blocks.0", 0.2 + number / 1000) for number in range(200)]
    sheets = {ref.id: Counts((30,) * 16, 16) for ref in controls} | {3: Counts((60,) * 16, 16)}
    pool = pool_of_sheets(sheets | {controls[50].id: Counts((60,) * 16, 16)}, controls)
    control = nearest(DRAWN, "random_directions", pool)
    assert control is not None
    assert control.feature == controls[50].id


def test_every_kind_stands_for_dense_and_sparse_features_alike() -> None:
    drawn = [Drawn(number, DRAWN.stratum) for number in REFS]
    kinds = ["random_directions", "shuffled"]
    for n in (20, 40, 60):
        pairs = spread_evenly(drawn, kinds, n, pool_of({}), random.Random(n))
        assert len(pairs) == n
        features = {kind: sorted(one.feature_id for one, other in pairs if other == kind) for kind in kinds}
        assert len(features["shuffled"]) == n // 2
        apart = [abs(a - b) for a, b in zip(features["shuffled"], features["random_directions"], strict=True)]
        assert max(apart) <= 2
        assert max(Counter(one.feature_id for one, _ in pairs).values()) == -(-n // len(drawn))


def test_no_control_is_used_twice() -> None:
    found = matched_controls(
        [DRAWN, Drawn(5, DRAWN.stratum)], pool=pool_of({}), kinds=["random_directions"], n=20, rng=random.Random(0)
    )
    assert len({one.feature for one in found}) == len(found) == len(CONTROLS) < N_COMPARED


def test_missing_patches_are_counted_place_by_place() -> None:
    assert shortfall(Counts((3, 3, 2), 3), Counts((5, 1, 2), 3)) == 2
    assert shortfall(Counts((3, 3), 2), Counts((4,), 1)) == 4


def test_images_are_shown_again_on_the_cells_that_are_left() -> None:
    assert repeats(sheet([1, 2, 3], [1, 2, 4]), sheet([7, 8, 9], [7, 8, 9])) == 2
    assert repeats(sheet([1, 2, 3, 4], [1, 2, 4]), sheet([7], [7, 8])) == 1


def test_a_cell_fits_where_it_has_the_patches_and_a_patch_to_show() -> None:
    wanted = Counts((3, 2, 1), 2)
    assert [is_enough(wanted, Counts((3, 3, 3), 1), place) for place in range(3)] == [True, False, True]
    assert [is_enough(wanted, Counts((2, 3), 3), place) for place in range(3)] == [False, True, False]


def test_the_counts_of_a_sheet_are_of_the_strongest_images_and_then_of_the_lower_ranges() -> None:
    def columns(rows: list[tuple[int, float, int]], size: int) -> dict[str, np.ndarray]:
        padded = [*rows, *[(-1, 0.0, 0)] * (size - len(rows))]
        named = zip(("image", "value", "count"), zip(*padded, strict=True), strict=True)
        return {name: np.array(column) for name, column in named}

    top = columns([(i, 9.0 - i / 10, i + 1) for i in range(10)], 16)
    bands = [
        columns([], 4),
        columns([(8, 4.0, 3), (20, 3.9, 11), (21, 3.8, 12)], 4),
        columns([(22, 2.0, 13)], 4),
        columns([], 4),
    ]
    tensors = {f"top_{part}": value for part, value in top.items()}
    tensors |= {f"range_{part}": np.stack([band[part] for band in bands]) for part in top}
    assert sheet_counts(lambda name: tensors[name]) == Counts(
        (1, 2, 3, 4, 5, 6, 7, 8, 10, 3, 11, 12, 13),
        10,
        (0, 1, 2, 3, 4, 5, 6, 7, 9, 8, 20, 21, 22),
        tuple(range(10)),
    )


def rows_of(tensors: dict[str, Any]) -> Tensors:
    return lambda name, latent: tensors[name]


def test_the_counts_are_those_of_the_sheet_that_is_shown() -> None:
    """Of the same exemplars, images that only prefix tokens are active on among them."""
    rng = np.random.default_rng(3)
    for n_lit in (4, 14, 24):
        maps = rng.integers(1, 255, (24, 16)).astype(np.uint8) * (rng.random((24, 16)) < 0.4)
        maps[:, 0] = 9
        maps[rng.permutation(24)[n_lit:]] = 0
        ranges = rng.integers(1, 255, (4, 4, 16)).astype(np.uint8) * (rng.random((4, 4, 1)) < 0.7)
        tensors: dict[str, Any] = {
            "maximum": np.float32(30), "top_image": np.arange(24), "top_value": 30.0 - np.arange(24), "top_map": maps,
            "top_patch": np.where(maps.any(axis=1), 0, -1), "range_image": np.arange(20, 36).reshape(4, 4),
            "range_value": 6.0 - np.arange(16).reshape(4, 4) / 4, "range_map": ranges,
        }  # fmt: skip
        counts = {f"{kind}_count": (tensors[f"{kind}_map"] > 0).sum(axis=-1) for kind in ("top", "range")}
        found = sheet_counts((tensors | counts).__getitem__)
        shown = read_sheet(rows_of(tensors), 0)
        assert found.images == tuple(np.count_nonzero(place.map) for place in shown.images)
        assert found.shown == tuple(place.image for place in shown.images)
        assert found.cropped == tuple(patch.image for patch in shown.patches)
