"""The hash that draws samples: reproducible, spread evenly, different for each latent and seed."""

from __future__ import annotations

import torch

from workers.exemplars.hashing import KEY_BITS, hash_pairs, value_bits


def splitmix(state: int) -> int:
    """The finalizer as published, on Python's unbounded integers."""
    mask = (1 << 64) - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def test_the_hash_is_the_published_mixing() -> None:
    for image, latent, seed in [(0, 0, 0), (1, 0, 0), (7, 12345, 3), (2**30, 2**20, 2**31)]:
        state = (image * 0x9E3779B97F4A7C15 + latent * 0xBF58476D1CE4E5B9 + seed * 0x94D049BB133111EB) % (1 << 64)
        expected = splitmix(state) >> (64 - KEY_BITS)
        assert int(hash_pairs(torch.tensor(image), torch.tensor(latent), seed)) == expected


def test_hashes_are_spread_evenly_and_draw_differently_for_each_latent() -> None:
    keys = hash_pairs(torch.arange(4000)[:, None], torch.arange(3)[None, :], 0)
    shares = keys.double() / 2**KEY_BITS
    assert float((shares.mean(0) - 0.5).abs().max()) < 0.02
    drawn = [set(column.argsort()[:100].tolist()) for column in keys.T]
    assert len(drawn[0] & drawn[1]) < 15


def test_value_bits_order_as_values() -> None:
    values = torch.rand(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(value_bits(values).argsort(), values.argsort())
