"""How well single latents tell what is known of the images: the best latent's AUROC per attribute value.

A latent's score on an image is its maximum over tokens. For each value the latent is chosen on one half of the images
and its AUROC measured on the other, because the best of a thousand on the same images flatters by chance alone. A
latent that is silent where the value holds counts as well as one that fires there: 1 − AUROC, its sign chosen on the
first half. Random directions and the residual basis beside it say what training adds.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workers.dictionaries.sparse_coder import Codes

MIN_IMAGES = 10  # with and without the value, in each half
MAX_VALUES = 20  # more than so many values, and the attribute is a measurement and not a concept
LATENTS_AT_ONCE = 256


class ConceptScore(NamedTuple):
    """The best latent for one value of one attribute."""

    attribute: str
    value: str
    latent: int
    auroc: float
    auroc_when_chosen: float
    n_with_value: int


class ImageScores:
    """Each image's maximum of each latent, gathered batch by batch; for a few thousand images."""

    def __init__(self, n_images: int, n_latents: int) -> None:
        self.maxima = torch.zeros(n_images, n_latents)
        self.n_seen = 0

    def update(self, codes: Codes, n_images: int) -> None:
        """Take in the next images in order; ``codes`` holds the tokens of the first, then of the second, and so on."""
        n_tokens = codes.indices.shape[0] // n_images
        rows = torch.arange(n_images).repeat_interleave(n_tokens)[:, None] + self.n_seen
        flat = rows * self.maxima.shape[1] + codes.indices.cpu()
        self.maxima.view(-1).scatter_reduce_(0, flat.flatten(), codes.values.cpu().float().flatten(), "amax")
        self.n_seen += n_images


def attribute_auroc(
    maxima: Float[Tensor, "image n_latents"], attributes: Sequence[Mapping[str, Any]]
) -> list[ConceptScore]:
    """The best latent for every value of every categorical attribute that enough images have and lack."""
    columns = membership_columns(attributes)
    first = choose_half(len(attributes))
    kept = [name for name, has in columns.items() if is_common_enough(has, first)]
    if not kept:
        return []
    has = torch.stack([columns[name] for name in kept])
    chosen_on, measured_on = auroc_table(maxima[first], has[:, first]), auroc_table(maxima[~first], has[:, ~first])
    best = (chosen_on - 0.5).abs().argmax(dim=1)
    scores = []
    for row, (attribute, value) in enumerate(kept):
        latent = int(best[row])
        when_chosen, measured = float(chosen_on[row, latent]), float(measured_on[row, latent])
        if when_chosen < 0.5:
            when_chosen, measured = 1 - when_chosen, 1 - measured
        scores.append(ConceptScore(attribute, value, latent, measured, when_chosen, int(has[row].sum())))
    return scores


def auroc_table(
    maxima: Float[Tensor, "image n_latents"], has: Bool[Tensor, "concept image"]
) -> Float[Tensor, "concept n_latents"]:
    """AUROC of every latent for every concept, from mean ranks, so that ties count one half."""
    n_with = has.sum(dim=1, keepdim=True).double()
    n_without = has.shape[1] - n_with
    parts = [mean_ranks(part) for part in torch.tensor_split(maxima, -(-maxima.shape[1] // LATENTS_AT_ONCE), dim=1)]
    rank_sums = has.double() @ torch.cat(parts, dim=1)
    return (rank_sums - n_with * (n_with + 1) / 2) / (n_with * n_without)


def mean_ranks(values: Float[Tensor, "image n"]) -> Float[Tensor, "image n"]:
    """Ranks from 1 within each column; equal values share the mean of theirs."""
    columns = values.T.contiguous()
    ordered = columns.sort(dim=1).values
    below = torch.searchsorted(ordered, columns, right=False)
    up_to = torch.searchsorted(ordered, columns, right=True)
    return ((below + up_to + 1).double() / 2).T


def membership_columns(attributes: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Bool[Tensor, " image"]]:
    """For each value of each attribute with few values, which images have it."""
    columns = {}
    for name in sorted({name for row in attributes for name in row}):
        values = [row.get(name) for row in attributes]
        distinct = {value for value in values if value is not None}
        if any(isinstance(value, float) for value in distinct) or not 2 <= len(distinct) <= MAX_VALUES:
            continue
        for value in sorted(distinct, key=str):
            columns[name, str(value)] = torch.tensor([found == value for found in values])
    return columns


def choose_half(n_images: int) -> Bool[Tensor, " image"]:
    """Which images serve to choose; a hash of the index, so that no order of the images matters."""
    return torch.tensor([zlib.crc32(str(index).encode()) % 2 == 0 for index in range(n_images)])


def is_common_enough(has: Bool[Tensor, " image"], first: Bool[Tensor, " image"]) -> bool:
    halves = (has[first], has[~first])
    return all(min(int(half.sum()), int((~half).sum())) >= MIN_IMAGES for half in halves)


def mean_by_attribute(scores: Sequence[ConceptScore]) -> dict[str, float]:
    """The mean over the values of each attribute."""
    names = dict.fromkeys(score.attribute for score in scores)
    by_name = {name: [score.auroc for score in scores if score.attribute == name] for name in names}
    return {name: sum(values) / len(values) for name, values in by_name.items()}
