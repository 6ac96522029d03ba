"""Planted activations are what their formulas say, recovery is told from chance, and a coder finds what was planted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from workers.benchmarks.planted import Case, train, train_and_measure
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder, unit_rows
from workers.dictionaries.store import CoderDictionary, DictionaryDescription
from workers.synthetic.planted import (
    PlantedSettings,
    PlantedWorld,
    learned_rows,
    live_latents,
    measure_recovery,
    random_recovery,
    stream_of,
)

SMALL = PlantedSettings(d_model=16, n_true=24, k=2)


def test_tokens_are_sparse_sums_of_the_true_rows() -> None:
    world = PlantedWorld(replace(SMALL, n_blocks=2))
    drawn = world.draw(50, stream_of("test", 0))
    assert set(drawn) == {"blocks.0.mlp.in", "blocks.1.mlp.in", "blocks.0.mlp.out", "blocks.1.mlp.out"}
    again = stream_of("test", 0)
    codes = [world.draw_codes(50, again) for _ in range(2)]
    assert [(code > 0).sum(1).unique().tolist() for code in codes] == [[2], [2]]  # type: ignore[no-untyped-call]
    on = codes[0][codes[0] > 0]
    assert [float(on.min()), float(on.max())] == pytest.approx([0.5, 1.5], abs=0.05)
    torch.testing.assert_close(drawn["blocks.1.mlp.in"], codes[1] @ world.read_rows[1])
    written = codes[0] @ world.written_rows[0, 1] + codes[1] @ world.written_rows[1, 1]
    torch.testing.assert_close(drawn["blocks.1.mlp.out"], written)
    torch.testing.assert_close(drawn["blocks.0.mlp.out"], codes[0] @ world.written_rows[0, 0])


def test_noise_has_the_asked_share_of_the_deviation() -> None:
    clean, noisy = (
        PlantedWorld(replace(SMALL, noise=noise)).draw(4000, stream_of("test", 0))["blocks.0.mlp.in"]
        for noise in (0.0, 0.5)
    )
    assert float((noisy - clean).std() / (clean - clean.mean(0)).std()) == pytest.approx(0.5, rel=0.02)


def test_no_coder_begins_with_the_planted_rows() -> None:
    """Truth and first weights must not come from the same stream of the same seed."""
    world = PlantedWorld(SMALL)
    for seed in range(3):
        coder = SparseCoder(CoderShape(SMALL.d_model, SMALL.n_true, SMALL.k))
        initialize_coder(coder, torch.Generator().manual_seed(1_000_003 * seed))
        recovery = measure_recovery(world.read_rows[0], coder.W_dec.detach())
        null = random_recovery(world.read_rows[0], SMALL.n_true, stream_of("null", seed))
        assert abs(recovery.true_to_learned - null.true_to_learned) < 0.1


def test_recovery_both_ways_by_hand() -> None:
    true = torch.eye(3)
    learned = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])
    recovery = measure_recovery(true, learned)
    assert recovery == pytest.approx(((1 + 0.8 + 0) / 3, 1 / 3, (1 + 0.8) / 2, 1 / 2))
    assert measure_recovery(true, torch.zeros(0, 3)) == (0, 0, 0, 0)


def test_random_rows_recover_what_chance_gives() -> None:
    true = unit_rows(torch.randn(256, 64, generator=stream_of("test", 1)))
    null = random_recovery(true, 256, stream_of("null", 1))
    assert null.true_to_learned == pytest.approx(0.34, abs=0.02)  # about sqrt(2 ln 256 / 64) less its spread
    assert null.share_found == 0


def test_rows_at_all_targets_are_one_long_vector() -> None:
    world = PlantedWorld(replace(SMALL, n_blocks=2))
    dictionary = train("cross_layer_transcoder", world, Case("small", world.settings, 24), n_steps=1)
    assert learned_rows(dictionary, "blocks.0.mlp.in").shape == (24, 32)
    true = world.true_rows(dictionary, "blocks.0.mlp.in")
    assert torch.equal(true, torch.cat([world.written_rows[0, 0], world.written_rows[0, 1]], dim=1))
    assert world.true_rows(dictionary, "blocks.1.mlp.in").shape == (24, 16)


def test_latents_that_never_fire_are_not_counted() -> None:
    coder = SparseCoder(CoderShape(16, 8, 2, selection="threshold", normalization="none"))
    initialize_coder(coder, torch.Generator().manual_seed(0))
    with torch.no_grad():
        coder.threshold[3:] = 1e6
    description = DictionaryDescription("relu_sae", "one", ("x",), ("x",), "m" * 64, "i" * 64)
    dictionary = CoderDictionary(description, {"x": coder})
    tokens = torch.randn(200, 16, generator=stream_of("test", 2))
    assert live_latents(dictionary, "x", tokens).tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["topk_sae", "transcoder"])
def test_training_finds_far_more_than_chance(kind: str) -> None:
    found = train_and_measure(kind, Case("small", SMALL, 24), n_steps=250)
    assert found.recovery.true_to_learned > 0.9
    assert found.recovery.true_to_learned > found.null.true_to_learned + 0.25
    assert found.live_share > 0.8


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="k is 25"):
        PlantedSettings(n_true=24, k=25)
    with pytest.raises(ValueError, match="noise is -1"):
        PlantedSettings(noise=-1)
