"""What builders may ask about features and images; reading and caching are the stage's business."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from workers.stimuli.feature_images import ActiveImage, FeatureImages
from workers.stimuli.plan import FeatureKey, IneligibleError
from workers.stimuli.sheets import Sheet
from workers.stimuli.split import Roles

Similarity = Callable[[int, int], float]
NO_EMBEDDINGS = "Hard contrasts need embeddings of the images; run embed-images and choose them in the study."
NO_CONTRAST = "The feature has no contrast images: it is about as strong on every image."


@dataclass(frozen=True)
class Sources:
    """Sheets, images and roles of a feature; how alike two images look, where embeddings are at hand."""

    sheets: Callable[[int, int], Sheet]
    images: Callable[[FeatureKey], FeatureImages]
    roles: Callable[[FeatureKey], Roles]
    similarity: Similarity | None = None


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
