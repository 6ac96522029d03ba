"""What stands among the real features: the cells of controls and catch items keep the shape of a sheet."""

from __future__ import annotations

import random

from annotation.domain.controls import SPREAD_MARGIN, FeatureRef, Pool, catch_item, nearest, shuffled
from annotation.domain.sampling import Drawn, Stratum
from annotation.models import Dictionary

REFS = {number: FeatureRef(number, 1, "blocks.0", 0.1 + number / 100) for number in range(40)}
CONTROLS = [FeatureRef(100 + number, 2, "blocks.0", 0.05 + number / 50) for number in range(12)]
POOL = Pool(
    {(1, "blocks.0"): list(REFS.values()), (2, "blocks.0"): CONTROLS},
    REFS | {ref.id: ref for ref in CONTROLS},
    {(1, "random_directions"): Dictionary(pk=2)},
)
DRAWN = Drawn(3, Stratum(1, 0, "all"))


def test_a_shuffled_item_shows_patches_of_the_images_it_shows() -> None:
    item = shuffled(DRAWN, POOL, random.Random(0))
    assert item.patches == item.images
    assert [cell.image[1] for cell in item.images] == list(range(16))


def test_a_catch_item_without_a_pattern_shows_patches_of_the_images_it_shows() -> None:
    item = catch_item([DRAWN], POOL, is_clear=False, rng=random.Random(0))
    assert item.patches == item.images
    assert [cell.image[1] for cell in item.images] == list(range(16))


def test_a_shuffled_item_takes_its_cells_from_features_active_on_enough_patches() -> None:
    item = shuffled(DRAWN, POOL, random.Random(0))
    wanted = SPREAD_MARGIN * REFS[DRAWN.feature_id].spread
    assert all(REFS[cell.image[0]].spread >= wanted for cell in item.images)


def test_a_control_is_the_least_active_one_that_can_be_cut_to_its_match() -> None:
    used: set[int] = set()
    wanted = SPREAD_MARGIN * REFS[DRAWN.feature_id].spread
    enough = [ref.id for ref in CONTROLS if ref.spread >= wanted]
    for expected in enough[:2]:
        item = nearest(DRAWN, "random_directions", POOL, used)
        assert item is not None
        assert item.feature == expected


def test_where_no_control_is_active_enough_the_most_active_is_taken() -> None:
    busiest = Drawn(39, Stratum(1, 0, "all"))
    item = nearest(busiest, "random_directions", POOL, set())
    assert item is not None
    assert item.feature == CONTROLS[-1].id
