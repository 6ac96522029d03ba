"""AUROC of the best latent: against the definition and scikit-learn, and on planted concepts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from workers.dictionaries.concept_recovery import (
    ImageScores,
    attribute_auroc,
    auroc_table,
    choose_half,
    mean_by_attribute,
    mean_ranks,
)
from workers.dictionaries.sparse_coder import Codes

N_IMAGES = 200


def planted() -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """Latent 3 fires on red, latent 5 falls silent on striped, the rest is noise."""
    generator = torch.Generator().manual_seed(0)
    red = torch.rand(N_IMAGES, generator=generator) > 0.5
    striped = torch.rand(N_IMAGES, generator=generator) > 0.7
    maxima = torch.rand(N_IMAGES, 8, generator=generator)
    maxima[:, 3] = red * 2.0
    maxima[:, 5] = 1.0 * ~striped
    attributes = [
        {"color": "red" if r else "blue", "striped": bool(s), "x": 0.1 * i, "rare": i == 0}
        for i, (r, s) in enumerate(zip(red.tolist(), striped.tolist(), strict=True))
    ]
    return maxima, attributes


def test_planted_latents_are_found_whichever_their_sign() -> None:
    scores = attribute_auroc(*planted())
    assert [(s.attribute, s.value, s.latent, s.auroc) for s in scores] == [
        ("color", "blue", 3, 1.0),
        ("color", "red", 3, 1.0),
        ("striped", "False", 5, 1.0),
        ("striped", "True", 5, 1.0),
    ]
    assert mean_by_attribute(scores) == {"color": 1.0, "striped": 1.0}


def test_noise_chosen_among_many_latents_scores_near_one_half() -> None:
    generator = torch.Generator().manual_seed(1)
    attributes = [{"side": bool(v)} for v in torch.rand(N_IMAGES, generator=generator) > 0.5]
    [_, score] = attribute_auroc(torch.rand(N_IMAGES, 1000, generator=generator), attributes)
    assert score.auroc_when_chosen > 0.65
    assert 0.35 < score.auroc < 0.65


def test_the_table_agrees_with_scikit_learn_ties_included() -> None:
    rng = np.random.default_rng(0)
    values, has = rng.integers(0, 5, size=(60, 7)).astype(np.float32), rng.random((3, 60)) > 0.4
    found = auroc_table(torch.from_numpy(values), torch.from_numpy(has))
    expected = [[roc_auc_score(row, values[:, latent]) for latent in range(7)] for row in has]
    assert found.tolist() == [pytest.approx(row) for row in expected]


def test_equal_values_share_their_rank() -> None:
    assert mean_ranks(torch.tensor([[1.0], [3.0], [1.0], [2.0]])).T.tolist() == [[1.5, 4.0, 1.5, 3.0]]


def test_scores_are_the_maxima_over_each_images_tokens() -> None:
    scores = ImageScores(3, 4)
    indices = torch.tensor([[0, 1], [1, 2], [3, 0], [3, 1]])
    values = torch.tensor([[1.0, 2.0], [3.0, 0.0], [4.0, 1.0], [2.0, 5.0]])
    scores.update(Codes(indices, values, None), 2)
    scores.update(Codes(indices[:2], values[:2], None), 1)
    assert scores.maxima.tolist() == [[1, 3, 0, 0], [1, 5, 0, 4], [1, 3, 0, 0]]


def test_the_halves_are_about_even() -> None:
    assert abs(float(choose_half(1000).float().mean()) - 0.5) < 0.05
