"""The closed form against the sum over pairs, and what latents that say nothing score."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workers.dictionaries.monosemanticity import floor_of, monosemanticity, monosemanticity_summary


def over_pairs(maxima: Tensor, embeddings: Tensor) -> float:
    """The definition, pair by pair."""
    weights = (maxima - maxima.min()) / (maxima.max() - maxima.min())
    above = below = 0.0
    for i in range(len(weights)):
        for j in range(i):
            pair = float(weights[i] * weights[j])
            above += pair * float(F.cosine_similarity(embeddings[i], embeddings[j], dim=0))
            below += pair
    return above / below


def test_the_closed_form_equals_the_sum_over_pairs() -> None:
    generator = torch.Generator().manual_seed(3)
    embeddings = torch.randn(17, 5, generator=generator)
    maxima = torch.randn(17, 3, generator=generator).relu() * 4
    found = monosemanticity(maxima, embeddings)
    assert found.tolist() == pytest.approx([over_pairs(maxima[:, k], embeddings) for k in range(3)], rel=1e-5)


def test_images_alike_score_one_and_unlike_ones_nothing() -> None:
    embeddings = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, -1]])
    maxima = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 2, 1], [0, 2, 0]])
    scores = monosemanticity(maxima, embeddings)
    assert scores[:2].tolist() == [1.0, -1.0]
    assert scores[2].isnan()  # one image alone has no pair


def test_a_latent_that_is_dead_or_everywhere_alike_has_no_score() -> None:
    scores = monosemanticity(torch.tensor([[0.0, 2.0], [0.0, 2.0], [0.0, 2.0]]), torch.eye(3))
    assert scores.isnan().tolist() == [True, True]
    assert monosemanticity_summary(scores, 0.1) == {
        "n_latents": 0, "floor": 0.1, "mean": None, "median": None, "quantiles": None,
    }  # fmt: skip


def test_a_latent_that_ignores_the_images_scores_about_the_floor() -> None:
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(400, 8, generator=generator) + 1
    scores = monosemanticity(torch.rand(400, 50, generator=generator), embeddings)
    assert floor_of(embeddings[:1]) is None
    assert float(scores.mean()) == pytest.approx(floor_of(embeddings), abs=0.02)
