"""The builder of verifications: images nobody used to explain the feature, half of them activating it.

Of the others half are random silent images and half *hard*: silent images that look most like one of the activating
ones. Without embeddings of the images all silent ones are random. The activating ones are spread over the ranges of
strength. An item of one image is activating, random or hard with the same shares.
"""

from __future__ import annotations

import random
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


def compose(line: PlanLine, sources: Sources) -> Board:
    rng = line.generator()
    n = line.count("n_images", N_IMAGES)
    found = sources.roles(line.feature).verification
    kinds = [rng.choice(KINDS)] if n == 1 else [KINDS[index % len(KINDS)] for index in range(n)]
    probes = draw_probes(found, kinds, sources.similarity, rng)
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


def draw_probes(
    found: FeatureImages, kinds: list[str], similarity: Similarity | None, rng: random.Random
) -> list[Probe]:
    n_active, n_hard = kinds.count(ACTIVE), kinds.count(HARD) if similarity is not None else 0
    n_silent = len(kinds) - n_active
    if not found.silent and n_silent:
        raise IneligibleError(NO_CONTRAST)
    for there, wanted, word in ((found.active, n_active, "activating"), (found.silent, n_silent, "contrast")):
        if len(there) < wanted:
            raise IneligibleError(
                f"The feature has {counted(len(there), f'{word} image')} kept for verification; {wanted} are needed."
            )
    active = spread_over_bands(found.bands(), max(n_active, min(n_hard, len(found.active))), rng)
    hard = hard_probes(active, list(found.silent), n_hard, similarity)
    taken = {one.image for one in hard}
    spare = [image for image in found.silent if image not in taken]
    chance = [Probe(image, RANDOM) for image in rng.sample(spare, n_silent - len(hard))]
    return [Probe(one.image, ACTIVE, range=one.band) for one in active[:n_active]] + hard + chance


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
