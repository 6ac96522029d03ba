"""The hash that draws samples: reproducible, spread evenly, without ties, different for each latent and seed."""

from __future__ import annotations

import torch

from workers.exemplars.hashing import HASH_BITS, hash_images, shared_hashes, value_bits


def splitmix(state: int) -> int:
    """The finalizer as published, on Python's unbounded integers."""
    mask = (1 << 64) - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def murmur(state: int) -> int:
    """fmix32 as published, on Python's unbounded integers."""
    mask = (1 << 32) - 1
    state = ((state ^ (state >> 16)) * 0x85EBCA6B) & mask
    state = ((state ^ (state >> 13)) * 0xC2B2AE35) & mask
    return state ^ (state >> 16)


def test_the_hash_is_the_published_mixing() -> None:
    for image, latent, seed in [(0, 0, 0), (1, 0, 0), (7, 1234, 3), (2**31 - 1, 1999, 2**31)]:
        shift = splitmix((latent * 0xBF58476D1CE4E5B9 + seed * 0x94D049BB133111EB) % (1 << 64)) >> 32
        expected = murmur((image * 0x9E3779B1 + shift) % (1 << 32))
        assert int(hash_images(torch.tensor([image]), 2000, seed)[0, latent]) == expected


def test_hashes_are_spread_evenly_and_draw_differently_for_each_latent_and_seed() -> None:
    keys = torch.cat([hash_images(torch.arange(4000), 3, seed) for seed in (0, 1)], dim=1)
    shares = keys.double() / 2**HASH_BITS
    assert float((shares.mean(0) - 0.5).abs().max()) < 0.02
    drawn = [set(column.argsort()[:100].tolist()) for column in keys.T]
    assert all(len(drawn[i] & drawn[j]) < 15 for i in range(6) for j in range(i))


def test_no_two_images_share_a_number() -> None:
    keys = hash_images(torch.arange(300_000), 2, 5)
    assert [column.unique().numel() for column in keys.T] == [300_000, 300_000]


def test_hashes_shared_between_hookpoints_are_the_same() -> None:
    images = torch.tensor([5, 3, 8])
    assert torch.equal(shared_hashes((5, 3, 8), 4, 9, torch.device("cpu")), hash_images(images, 4, 9))


def test_value_bits_order_as_values() -> None:
    values = torch.rand(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(value_bits(values).argsort(), values.argsort())
