"""The one split of a feature's images into three disjoint roles, so that nobody is asked about what they were shown.

Within each band of strength, and among the contrast images, images are put in the order of a hash of (seed, feature,
image) and dealt out: half are references, a quarter queries, a quarter for verification. The deal goes on from band to
band, so that the shares are right also where bands are small. It depends on the exemplars alone, not on the study: an
explanation made from the references of a feature is verified on images it was not made from, whoever asks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from workers.stimuli.feature_images import ActiveImage, FeatureImages

DEAL = ("reference", "query", "reference", "verification")


@dataclass(frozen=True)
class Roles:
    """The images of one feature by what they may be used for."""

    reference: FeatureImages
    query: FeatureImages
    verification: FeatureImages


def split_images(found: FeatureImages, *, seed: int, feature: str) -> Roles:
    """`feature` names the feature everywhere and always alike."""
    active: dict[str, list[ActiveImage]] = {role: [] for role in DEAL}
    silent: dict[str, list[int]] = {role: [] for role in DEAL}
    deal: Iterator[str] = cycle(DEAL)
    for members in found.bands().values():
        for one in sorted(members, key=lambda one: image_hash(seed, feature, one.image)):
            active[next(deal)].append(one)
    for image, role in zip(hash_order(found.silent, seed, feature), cycle(DEAL), strict=False):
        silent[role].append(image)
    parts = {
        role: FeatureImages(sorted(active[role], key=lambda one: (-one.value, one.image)), silent[role])
        for role in active
    }
    return Roles(**parts)


def hash_order(images: Sequence[int], seed: int, feature: str) -> list[int]:
    return sorted(images, key=lambda image: image_hash(seed, feature, image))


def image_hash(seed: int, feature: str, image: int) -> bytes:
    return hashlib.sha256(f"{seed}/{feature}/{image}".encode()).digest()
