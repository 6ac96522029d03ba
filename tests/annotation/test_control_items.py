"""What stands among the real features: the cells of controls and catch items keep the shape of a sheet."""

from __future__ import annotations

import random

from annotation.domain.controls import FeatureRef, Pool, catch_item, shuffled
from annotation.domain.sampling import Drawn, Stratum

REFS = {number: FeatureRef(number, 1, 0, "blocks.0", 0.1) for number in range(40)}
POOL = Pool({(1, "blocks.0"): list(REFS.values())}, REFS, {})
DRAWN = Drawn(3, Stratum(1, 0, "all"))


def test_a_shuffled_item_shows_patches_of_the_images_it_shows() -> None:
    item = shuffled(DRAWN, POOL, random.Random(0))
    assert item.patches == item.images
    assert [cell.image[1] for cell in item.images] == list(range(16))


def test_a_catch_item_without_a_pattern_shows_patches_of_the_images_it_shows() -> None:
    item = catch_item([DRAWN], POOL, is_clear=False, rng=random.Random(0))
    assert item.patches == item.images
    assert [cell.image[1] for cell in item.images] == list(range(16))
