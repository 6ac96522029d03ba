"""The monosemanticity score: how alike the images are that drive a latent, as another image model sees them.

    MS_k = Σ_{i<j} a_i a_j cos(e_i, e_j) / Σ_{i<j} a_i a_j
         = (‖Σ_i a_i e_i‖² − Σ_i a_i²) / ((Σ_i a_i)² − Σ_i a_i²)            for unit e_i: linear in the images

a_i is the latent's maximum over the tokens of image i, brought to [0, 1] by its own smallest and largest; e_i an
embedding of the image by a model that is not the one explained (Pach et al. 2025; research/ffkv_saebench.md §2.11). The
weights are divided out here; a published variant divides by the number of pairs instead, and its figures do not compare
between sparse and dense latents. A latent that says nothing of the images scores their mean cosine, the floor.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LATENTS_AT_ONCE = 1024


def monosemanticity(
    maxima: Float[Tensor, "image n_latents"], embeddings: Float[Tensor, "image width"]
) -> Float[Tensor, " n_latents"]:
    """The score of each latent; NaN where fewer than two images drive it, or all of them alike."""
    unit = F.normalize(embeddings.double(), dim=1)
    parts = [
        scores_of(part.double(), unit)
        for part in torch.tensor_split(maxima, -(-maxima.shape[1] // LATENTS_AT_ONCE), dim=1)
    ]
    return torch.cat(parts).float()


def scores_of(maxima: Float[Tensor, "image n"], unit: Float[Tensor, "image width"]) -> Float[Tensor, " n"]:
    least, most = maxima.amin(dim=0), maxima.amax(dim=0)
    weights = (maxima - least) / (most - least)
    squares = weights.square().sum(dim=0)
    pairs = weights.sum(dim=0).square() - squares
    together = (weights.T @ unit).square().sum(dim=1) - squares
    return torch.where(pairs > 1e-12, together / pairs, torch.nan)


def floor_of(embeddings: Float[Tensor, "image width"]) -> float | None:
    """The mean cosine of two different images; None of fewer than two."""
    n = embeddings.shape[0]
    summed = F.normalize(embeddings.double(), dim=1).sum(dim=0).square().sum()
    return float((summed - n) / (n * n - n)) if n > 1 else None


def monosemanticity_summary(scores: Float[Tensor, " n_latents"], floor: float | None) -> dict[str, Any]:
    """Of the latents that have a score; None where none has."""
    known = scores[~scores.isnan()].double()
    facts: dict[str, Any] = {"n_latents": int(known.numel()), "floor": floor}
    if known.numel() == 0:
        return facts | {"mean": None, "median": None, "quantiles": None}
    quantiles = known.quantile(torch.tensor([0.05, 0.25, 0.75, 0.95], dtype=torch.float64))
    return facts | {"mean": float(known.mean()), "median": float(known.median()), "quantiles": quantiles.tolist()}
