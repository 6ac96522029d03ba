"""The benchmark of the cross-layer step compares two ways to the same weights."""

from __future__ import annotations

import pytest
import torch

from workers.benchmarks.cross_layer_step import Case, measure_cross_layer, prepare, random_batch, take_step
from workers.dictionaries.cross_layer_step import compute_cross_layer_gradients, dense_gradients

SMALL = Case(d_model=16, n_latents=64, n_tokens=64, floor=0.0)


def test_both_ways_take_the_same_step() -> None:
    batch = random_batch(SMALL, 0)
    coders = {}
    for gradients in (compute_cross_layer_gradients, dense_gradients):
        coder = prepare(SMALL)
        optimizer = torch.optim.SGD(coder.parameters(), lr=1.0)
        take_step(coder, optimizer, torch.zeros(12 * 64, dtype=torch.long), batch, gradients)
        coders[gradients] = coder
    ours, dense = (coder.state_dict() for coder in coders.values())
    before = prepare(SMALL).state_dict()
    for name, weight in dense.items():
        moved = float((weight - before[name]).norm())
        assert moved > 0
        assert float((ours[name] - weight).norm()) < 1e-4 * moved


def test_a_floor_that_is_not_reached_falls_short(capsys: pytest.CaptureFixture[str]) -> None:
    assert measure_cross_layer(1, (SMALL,))
    assert not measure_cross_layer(1, (SMALL, SMALL._replace(floor=1e9)))
    lines = [line for line in capsys.readouterr().out.splitlines() if "CLT step" in line]
    assert [line.split("  ")[0] for line in lines] == ["PASS", "PASS", "FALL SHORT"]
