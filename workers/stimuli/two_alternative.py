"""The builder of two-alternative choices: activating and contrast references, and two queries of which one belongs.

The options name the contrast of the queries: *easy* (a random silent image), *hard* (the silent image that looks most
like the activating query), *graded* (a strong image against a middling one). Under the variant *no-reference* the same
queries stand alone. `repeat_reference` makes the activating query one of the references: a catch item.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from workers.stimuli.feature_images import ActiveImage, FeatureImages
from workers.stimuli.matching import references
from workers.stimuli.plan import IneligibleError, PlanLine, counted
from workers.stimuli.rendering import Board, Cell, Panel
from workers.stimuli.similarity import Similarity
from workers.stimuli.sources import NO_CONTRAST, Sources, nearest

NO_REFERENCE = "no-reference"
CONTRASTS = ("easy", "hard", "graded")
N_REFERENCES = 9
LEAST_CONTRASTS = 4
MIDDLING_BANDS = (2, 1)  # an eighth to a quarter of the maximum, else a quarter to half
QUERY_SIDE = 320


class Queries(NamedTuple):
    """The image that belongs, the one that does not, and what is known of them."""

    right: int
    wrong: int
    facts: dict[str, Any]


def compose(line: PlanLine, sources: Sources) -> Board:
    rng = line.generator()
    own, matched = sources.roles(line.feature), sources.roles(line.matched)
    n = line.count("n_references", N_REFERENCES)
    shown = references(own.reference.active, matched.reference.active, n)
    contrasts = contrast_cells(own.reference.silent, matched.reference.silent, n)
    candidates = own.query
    if line.options.get("repeat_reference"):
        candidates = FeatureImages(own.reference.active[:n], own.query.silent)
    queries = choose_queries(contrast_of(line), candidates, sources.similarity, rng)
    is_first = rng.random() < 0.5
    ordered = (queries.right, queries.wrong) if is_first else (queries.wrong, queries.right)
    asked = Panel("queries", "images", [Cell(image) for image in ordered], QUERY_SIDE)
    truth = {"query": 0 if is_first else 1} | queries.facts
    if line.variant == NO_REFERENCE:
        return Board([asked], truth)
    return Board([Panel("reference", "images", shown), Panel("contrast", "images", contrasts), asked], truth)


def contrast_of(line: PlanLine) -> str:
    named = str(line.options.get("contrast") or line.variant or CONTRASTS[0])
    contrast = CONTRASTS[0] if named == NO_REFERENCE else named
    if contrast not in CONTRASTS:
        raise ValueError(f"The contrast '{contrast}' is unknown; it can be {', '.join(CONTRASTS)}.")
    return contrast


def contrast_cells(own: Sequence[int], matched: Sequence[int], n: int) -> list[Cell]:
    """As many silent images as the matched feature shows, n at most."""
    wanted = max(min(n, len(matched)), LEAST_CONTRASTS)
    if not own:
        raise IneligibleError(NO_CONTRAST)
    if len(own) < wanted:
        raise IneligibleError(
            f"The feature has {counted(len(own), 'contrast image')} for its references; {wanted} are needed."
        )
    return [Cell(image) for image in own[:wanted]]


def choose_queries(contrast: str, found: FeatureImages, similarity: Similarity | None, rng: random.Random) -> Queries:
    bands = found.bands()
    if not bands:
        raise IneligibleError("The feature has no activating image left for the query.")
    right = rng.choice(next(iter(bands.values())))
    if contrast == "graded":
        middling = rng.choice(middling_images(right, bands))
        return Queries(right.image, middling.image, {"values": [round(one.value, 4) for one in (right, middling)]})
    if not found.silent:
        raise IneligibleError("The feature has no contrast image left for the query.")
    if contrast == "hard":
        wrong, alike = nearest(right.image, found.silent, similarity)
        return Queries(right.image, wrong, {"similarity": round(alike, 4)})
    return Queries(right.image, rng.choice(found.silent), {})


def middling_images(strong: ActiveImage, bands: dict[int, list[ActiveImage]]) -> list[ActiveImage]:
    """Those of the first middling band that has any, if that lies below the strong image's."""
    found = next((bands[band] for band in MIDDLING_BANDS if band in bands and band > strong.band), [])
    if not found:
        raise IneligibleError("The feature has no image of middling strength left for the query.")
    return found
