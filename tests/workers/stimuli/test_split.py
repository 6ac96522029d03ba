"""The split of a feature's images into roles, against a naive one; disjoint for whatever features there are."""

from __future__ import annotations

import hashlib
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.stimuli.feature_factory import make_feature
from workers.stimuli.feature_images import FeatureImages
from workers.stimuli.split import Roles, split_images

ROLES = ("reference", "query", "verification")
BANDS = st.lists(st.integers(0, 20), min_size=4, max_size=4)


def split_by_hand(found: FeatureImages, seed: int, feature: str) -> dict[str, tuple[set[int], set[int]]]:
    """Every image by the number of its turn, looked up one by one."""

    def rank(image: int) -> str:
        return hashlib.sha256(f"{seed}/{feature}/{image}".encode()).hexdigest()

    turn_of = ["reference", "query", "reference", "verification"]
    parts: dict[str, tuple[set[int], set[int]]] = {role: (set(), set()) for role in ROLES}
    ordered = sorted(found.active, key=lambda one: (one.band, rank(one.image)))
    for turn, one in enumerate(ordered):
        parts[turn_of[turn % 4]][0].add(one.image)
    for turn, image in enumerate(sorted(found.silent, key=rank)):
        parts[turn_of[turn % 4]][1].add(image)
    return parts


def parts_of(roles: Roles) -> dict[str, tuple[set[int], set[int]]]:
    return {
        role: ({one.image for one in getattr(roles, role).active}, set(getattr(roles, role).silent)) for role in ROLES
    }


@given(bands=BANDS, n_silent=st.integers(0, 30), seed=st.integers(0, 5), feature=st.sampled_from(["a/1", "a/2"]))
@settings(max_examples=60, deadline=None)
def test_the_split_is_that_of_the_naive_one_and_loses_no_image(
    bands: list[int], n_silent: int, seed: int, feature: str
) -> None:
    found = make_feature(bands, n_silent)
    parts = parts_of(split_images(found, seed=seed, feature=feature))
    assert parts == split_by_hand(found, seed, feature)
    counted = Counter(image for active, silent in parts.values() for image in (*active, *silent))
    assert counted == Counter([one.image for one in found.active] + list(found.silent))


def test_half_are_references_and_every_band_has_its_share() -> None:
    roles = split_images(make_feature((16, 4, 4, 4), 24), seed=0, feature="a/1")
    counts = {role: {band: len(members) for band, members in getattr(roles, role).bands().items()} for role in ROLES}
    assert counts == {
        "reference": {0: 8, 1: 2, 2: 2, 3: 2}, "query": {0: 4, 1: 1, 2: 1, 3: 1},
        "verification": {0: 4, 1: 1, 2: 1, 3: 1},
    }  # fmt: skip
    assert [len(getattr(roles, role).silent) for role in ROLES] == [12, 6, 6]


def test_the_strongest_come_first_in_each_role() -> None:
    roles = split_images(make_feature(), seed=0, feature="a/1")
    for role in ROLES:
        values = [one.value for one in getattr(roles, role).active]
        assert values == sorted(values, reverse=True)


def test_another_feature_or_seed_splits_the_same_images_otherwise() -> None:
    found = make_feature()
    first = parts_of(split_images(found, seed=0, feature="a/1"))
    assert first != parts_of(split_images(found, seed=0, feature="a/2"))
    assert first != parts_of(split_images(found, seed=1, feature="a/1"))
    assert first == parts_of(split_images(found, seed=0, feature="a/1"))
