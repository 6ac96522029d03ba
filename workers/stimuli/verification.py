"""The builder of verifications: images nobody used to explain the feature, half of them activating it.

Of the others half are random silent images and half *hard*: silent images that look most like one of the activating
ones. Without embeddings of the images all silent ones are random. The activating ones are spread over the ranges of
strength. An item of one image is activating, random or hard with the same shares.

A feature that is shown more than once, under its own sentence and under another's, would be known again by its images.
So they are dealt into `n_parts` at random, the same for every item of the feature; an item draws from its `part`, and
from the others only what that lacks: as few images as can be are shown twice, and no part differs from another but by
chance.
"""

from __future__ import annotations

import random
from itertools import cycle
from typing import Any, NamedTuple

from workers.stimuli.feature_images import ActiveImage, FeatureImages
from workers.stimuli.plan import IneligibleError, PlanLine, counted
from workers.stimuli.rendering import Board, Cell, Panel
from workers.stimuli.similarity import Similarity
from workers.stimuli.sources import NO_CONTRAST, Sources, nearest, spread_over_bands

N_IMAGES = 8
PANEL_SIDE, SINGLE_SIDE = 212, 384
ACTIVE, RANDOM, HARD = "active", "random", "hard"
KINDS = (ACTIVE, ACTIVE, RANDOM, HARD)


class Probe(NamedTuple):
    """An image to judge, and what it is."""

    image: int
    kind: str
    range: int | None = None
    similarity: float | None = None


class Parted(NamedTuple):
    """The images of a feature: those of an item's part, and those of the others."""

    images: FeatureImages
    own: FeatureImages
    rest: FeatureImages

    @classmethod
    def of(cls, images: FeatureImages, line: PlanLine) -> Parted:
        """Every band, and the silent ones, dealt out in a random order that is the feature's."""
        n, part = line.count("n_parts", 1), line.count("part", 0)
        rng = random.Random(f"{line.feature.source}/{line.feature.latent}/parts")
        groups = [[one.image for one in members] for members in images.bands().values()]
        turns = cycle(range(n))
        own = {
            image for group in (*groups, list(images.silent)) for image in rng.sample(group, len(group))
            if next(turns) == part
        }  # fmt: skip
        split = [
            FeatureImages(
                [one for one in images.active if (one.image in own) == is_own],
                [image for image in images.silent if (image in own) == is_own],
            )
            for is_own in (True, False)
        ]
        return cls(images, *split)

    def active(self, n: int, rng: random.Random) -> list[ActiveImage]:
        """n activating images spread over the ranges, or as many as there are."""
        own = spread_over_bands(self.own.bands(), n, rng)
        return own + spread_over_bands(self.rest.bands(), n - len(own), rng)

    def silent(self, n: int, rng: random.Random) -> list[int]:
        """The silent images of the part; others make up n."""
        return [*self.own.silent, *rng.sample(self.rest.silent, max(0, n - len(self.own.silent)))]


def compose(line: PlanLine, sources: Sources) -> Board:
    rng = line.generator()
    n = line.count("n_images", N_IMAGES)
    found = sources.roles(line.feature).verification
    kinds = [rng.choice(KINDS)] if n == 1 else [KINDS[index % len(KINDS)] for index in range(n)]
    probes = draw_probes(Parted.of(found, line), kinds, sources.similarity, rng)
    rng.shuffle(probes)
    side = SINGLE_SIDE if n == 1 else PANEL_SIDE
    return Board([Panel("queries", "images", [Cell(one.image) for one in probes], side)], truth_of(probes))


def truth_of(probes: list[Probe]) -> dict[str, Any]:
    return {
        "matches": [one.kind == ACTIVE for one in probes],
        "kinds": [one.kind for one in probes],
        "ranges": [one.range for one in probes],
        "similarities": [one.similarity for one in probes],
    }


def draw_probes(found: Parted, kinds: list[str], similarity: Similarity | None, rng: random.Random) -> list[Probe]:
    n_active, n_hard = kinds.count(ACTIVE), kinds.count(HARD) if similarity is not None else 0
    n_silent = len(kinds) - n_active
    require_enough(found.images, n_active, n_silent)
    active = found.active(max(n_active, min(n_hard, len(found.images.active))), rng)
    silent = found.silent(n_silent, rng)
    hard = hard_probes(active, silent, n_hard, similarity)
    chance = [Probe(image, RANDOM) for image in rng.sample(silent, n_silent - len(hard))]
    return [Probe(one.image, ACTIVE, range=one.band) for one in active[:n_active]] + hard + chance


def require_enough(found: FeatureImages, n_active: int, n_silent: int) -> None:
    if not found.silent and n_silent:
        raise IneligibleError(NO_CONTRAST)
    for there, wanted, word in ((found.active, n_active, "activating"), (found.silent, n_silent, "contrast")):
        if len(there) < wanted:
            raise IneligibleError(
                f"The feature has {counted(len(there), f'{word} image')} kept for verification; {wanted} are needed."
            )


def hard_probes(active: list[ActiveImage], silent: list[int], n: int, similarity: Similarity | None) -> list[Probe]:
    """For each of the first activating images the silent one that looks most like it, none twice."""
    if n and not active:
        raise IneligibleError("The feature has no activating image kept for verification.")
    found = []
    for index in range(n):
        image, alike = nearest(active[index % len(active)].image, silent, similarity)
        silent.remove(image)
        found.append(Probe(image, HARD, similarity=round(alike, 4)))
    return found
