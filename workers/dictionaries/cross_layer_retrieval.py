"""Images that are alike block by block: by what a transcoder rebuilds there, beside what the model itself puts out.

An image's vector at a target is the mean of the tokens of one group, less the mean over all images, which would make
all alike; nearness is the cosine. How often the nearest share the query's label says from which block on a kind of
likeness is there (the cross-layer feature retrieval of arXiv 2604.13304; the comparison with activations is ours).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from workers.dictionaries.cross_layer import CrossLayerDictionary

GROUPS = ("cls", "patches")
SIDES = ("reconstruction", "activation")
N_NEAREST = 5
N_QUERIES = 24
PAIRS_AT_ONCE = 1 << 22  # of images whose cosines are held together


class RetrievalSums:
    """Vectors of images in their order, by target, group of tokens and side, in single precision."""

    def __init__(self, dictionary: CrossLayerDictionary, n_prefix_tokens: int) -> None:
        self.dictionary, self.n_prefix_tokens = dictionary, n_prefix_tokens
        groups = GROUPS if n_prefix_tokens else GROUPS[1:]
        width = dictionary.coder.shape.d_out
        keys = [f"{write}/{group}/{side}" for write in dictionary.writes for group in groups for side in SIDES]
        self.vectors = {key: torch.zeros(0, width, dtype=torch.float32) for key in keys}

    @torch.no_grad()
    def update(self, activations: Mapping[str, Float[Tensor, "image token d_model"]]) -> None:
        """Take in the next images: what was read at every hookpoint the transcoder reads and writes."""
        flat = {read: activations[read].flatten(0, 1) for read in self.dictionary.reads}
        rebuilt = self.dictionary.reconstruct(flat)
        for key, vectors in self.vectors.items():
            write, group, side = key.split("/")
            tokens = activations[write]
            tokens = rebuilt[write].view_as(tokens) if side == "reconstruction" else tokens
            n = self.n_prefix_tokens
            mean = (tokens[:, :n] if group == "cls" else tokens[:, n:]).mean(1)
            self.vectors[key] = torch.cat([vectors, mean.float().cpu()])

    def merge(self, other: RetrievalSums) -> None:
        """Append the images of another part."""
        self.vectors = {key: torch.cat([vectors, other.vectors[key]]) for key, vectors in self.vectors.items()}

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.vectors)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.vectors = {key: tensors[key] for key in self.vectors}

    def finish(self, image_indices: Sequence[int], labels: Sequence[int]) -> dict[str, Any]:
        """Nearest images of some queries by reconstructed patches, and shares of equal labels; a label of −1 is none.

        ``image_indices`` and ``labels`` are those of the images in the order in which they came.
        """
        nearest = {key: nearest_images(vectors, N_NEAREST) for key, vectors in self.vectors.items()}
        n = len(image_indices)
        queries = sorted({place * n // N_QUERIES for place in range(N_QUERIES)}) if n else []
        return {
            "blocks": list(self.dictionary.writes),
            "n_nearest": min(N_NEAREST, max(n - 1, 0)),
            "n_images": n,
            "same_label": self.compare_labels(nearest, torch.tensor(labels, dtype=torch.long)),
            "queries": [
                {
                    "image": image_indices[query],
                    "nearest": {
                        write: [image_indices[place] for place in nearest[f"{write}/patches/reconstruction"][query]]
                        for write in self.dictionary.writes
                    },
                }
                for query in queries
            ],
        }

    def compare_labels(
        self, nearest: Mapping[str, Int[Tensor, "image nearest"]], labels: Int[Tensor, " image"]
    ) -> dict[str, Any] | None:
        """Shares of equal labels by group and side, block by block; None without labels of two kinds."""
        known = labels[labels >= 0]
        if len(set(known.tolist())) < 2:
            return None
        chance = chance_of_equal(known)
        return {
            group: {
                side: [share_of_equal(nearest[f"{write}/{group}/{side}"], labels) for write in self.dictionary.writes]
                for side in SIDES
            }
            | {"chance": chance}
            for group in GROUPS
            if f"{self.dictionary.writes[0]}/{group}/{SIDES[0]}" in nearest
        }


def nearest_images(vectors: Float[Tensor, "image width"], n_nearest: int) -> Int[Tensor, "image nearest"]:
    """Of each image the others with the greatest cosine after centering, the nearest first; of equals the first."""
    n = len(vectors)
    n_nearest = min(n_nearest, max(n - 1, 0))
    if n_nearest == 0:
        return torch.zeros(n, 0, dtype=torch.long)
    directions = F.normalize(vectors - vectors.mean(0), dim=1)
    at_once = max(1, PAIRS_AT_ONCE // n)
    parts = [nearest_of(directions, range(start, min(start + at_once, n)), n_nearest) for start in range(0, n, at_once)]
    return torch.cat(parts)


def nearest_of(directions: Float[Tensor, "image width"], rows: range, n_nearest: int) -> Int[Tensor, "row nearest"]:
    """The nearest of some rows. No two keys of a row are equal, so that ``topk`` leaves no tie to chance."""
    cosines = directions[rows.start : rows.stop] @ directions.T
    cosines.diagonal(rows.start).fill_(-torch.inf)
    bits = cosines.add_(0.0).view(torch.int32)  # 0 is added so that −0 becomes 0
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # the order of the numbers themselves, below 0 too
    keys = (rising.long() << 32).sub_(torch.arange(len(directions)))
    return keys.topk(n_nearest, dim=1).indices


def share_of_equal(nearest: Int[Tensor, "image nearest"], labels: Int[Tensor, " image"]) -> float:
    """How many of the nearest have the label of the image they are near to, where it has one."""
    equal = (labels[nearest] == labels[:, None])[labels >= 0]
    return float(equal.double().mean())


def chance_of_equal(labels: Int[Tensor, " image"]) -> float:
    """That another image, drawn at random, has the same label."""
    counts = torch.bincount(labels).double()
    n = labels.numel()
    return float((counts * (counts - 1)).sum() / (n * (n - 1)))
