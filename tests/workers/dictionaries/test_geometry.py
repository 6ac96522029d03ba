"""Nearest directions against one product of everything, across slices and with either sign."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from workers.dictionaries import geometry
from workers.dictionaries.alignment import null_cosines
from workers.dictionaries.geometry import nearest_across, nearest_others, similarity_summary


@pytest.mark.parametrize("either_sign", [False, True])
def test_the_nearest_other_equals_the_product_of_all(either_sign: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "ROWS_AT_ONCE", 7)
    directions = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    unit = F.normalize(directions, dim=1)
    cosines = (unit @ unit.T).abs() if either_sign else unit @ unit.T
    expected = cosines.fill_diagonal_(-2).max(dim=1)
    found = nearest_others(directions, either_sign=either_sign)
    assert torch.equal(found.latent, expected.indices)
    assert torch.allclose(found.cosine, expected.values)
    part = nearest_others(directions, start=5, stop=23, either_sign=either_sign)
    assert torch.equal(part.latent, expected.indices[5:23])


def test_across_two_dictionaries_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn(30, 4, generator=generator), torch.randn(11, 4, generator=generator)
    monkeypatch.setattr(geometry, "ROWS_AT_ONCE", 8)
    found = nearest_across(a, b)
    cosines = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    assert torch.equal(found.rows.latent, cosines.argmax(dim=1))
    assert torch.equal(found.columns.latent, cosines.argmax(dim=0))
    assert torch.allclose(found.columns.cosine, cosines.amax(dim=0))


def test_random_directions_lie_below_their_null_and_copies_above_it() -> None:
    generator = torch.Generator().manual_seed(5)
    random = F.normalize(torch.randn(300, 24, generator=generator), dim=1)
    null = null_cosines(300, 24, generator, 512)
    alive = torch.ones(300, dtype=torch.bool)
    apart = similarity_summary(nearest_others(random).cosine, null, alive)
    assert apart["share_above_null_99"] < 0.05
    twice = torch.cat([random[:150], random[:150] + 0.01])
    same = similarity_summary(nearest_others(twice).cosine, null, alive)
    assert (same["share_above_null_99"], same["n"]) == (1.0, 300)
    alive[:150] = False
    assert similarity_summary(nearest_others(random).cosine, null, alive)["n"] == 150


def test_no_live_latent_gives_no_figure() -> None:
    summary = similarity_summary(torch.ones(3), torch.tensor([0.1, 0.2]), torch.zeros(3, dtype=torch.bool))
    assert (summary["n"], summary["mean"], summary["share_above_null_99"]) == (0, None, None)
