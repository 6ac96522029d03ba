"""What builders may ask about features and images, read row by row from exemplars."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from workers.stimuli.feature_images import ActiveImage, FeatureImages, Tensors, read_feature_images
from workers.stimuli.plan import FeatureKey, IneligibleError
from workers.stimuli.sheets import Sheet, read_sheet
from workers.stimuli.similarity import Similarity
from workers.stimuli.split import Roles, split_images

KEPT_FEATURES = 1024
NO_EMBEDDINGS = "Hard contrasts need embeddings of the images; run embed-images and choose them in the study."
NO_CONTRAST = "The feature has no contrast images: it is about as strong on every image."


@dataclass(frozen=True)
class Sources:
    """Sheets, images and roles of a feature; how alike two images look, where embeddings are at hand."""

    sheets: Callable[[int, int], Sheet]
    images: Callable[[FeatureKey], FeatureImages]
    roles: Callable[[FeatureKey], Roles]
    similarity: Similarity | None = None


class ExemplarFile(NamedTuple):
    """One file of an exemplars artefact: the artefact's digest and seed, the file's name, how to read a row."""

    exemplars: str
    seed: int
    name: str
    tensors: Tensors


def sources_of(files: Sequence[ExemplarFile], similarity: Similarity | None) -> Sources:
    """Features by the number of their file and their latent."""

    @lru_cache(maxsize=KEPT_FEATURES)
    def sheet(source: int, latent: int) -> Sheet:
        return read_sheet(files[source].tensors, latent)

    @lru_cache(maxsize=KEPT_FEATURES)
    def images(feature: FeatureKey) -> FeatureImages:
        return read_feature_images(files[feature.source].tensors, feature.latent)

    @lru_cache(maxsize=KEPT_FEATURES)
    def roles(feature: FeatureKey) -> Roles:
        file = files[feature.source]
        name = f"{file.exemplars}/{file.name}/{feature.latent}"
        return split_images(images(feature), seed=file.seed, feature=name)

    return Sources(sheet, images, roles, similarity)


def nearest(image: int, among: Sequence[int], similarity: Similarity | None) -> tuple[int, float]:
    """The image that looks most like this one, the first of equals, and how alike they are."""
    if similarity is None:
        raise IneligibleError(NO_EMBEDDINGS)
    return max(((other, similarity(image, other)) for other in among), key=lambda entry: entry[1])


def spread_over_bands(bands: Mapping[int, Sequence[ActiveImage]], n: int, rng: random.Random) -> list[ActiveImage]:
    """n images drawn from the bands in turn, the strongest first; fewer where there are fewer."""
    waiting = [rng.sample(list(members), len(members)) for _, members in sorted(bands.items())]
    chosen: list[ActiveImage] = []
    while len(chosen) < n and any(waiting):
        chosen += [members.pop() for members in waiting if members][: n - len(chosen)]
    return chosen
