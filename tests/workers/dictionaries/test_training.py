"""Training: it learns a planted dictionary, keeps its invariants, and resumes to the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from workers.dictionaries.sparse_coder import unit_rows
from workers.dictionaries.training import (
    Metrics,
    TrainingConfig,
    TrainingState,
    load_state,
    save_state,
    start_training,
    train_steps,
)

CONFIG = TrainingConfig(
    k=4, learning_rate=3e-3, n_steps=60, warm_up_steps=5, decay_steps=20, dead_after_tokens=1024, log_every=20
)
D_MODEL, N_TRUE, BATCH = 16, 32, 256


def planted_batches(n_batches: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
    """Tokens made of two of 32 hidden directions each; batch i depends on i alone."""
    directions = unit_rows(torch.randn(N_TRUE, D_MODEL, generator=torch.Generator().manual_seed(0)))
    for index in range(first, first + n_batches):
        generator = torch.Generator().manual_seed(100 + index)
        chosen = torch.rand(BATCH, N_TRUE, generator=generator).topk(2, dim=1).indices
        strength = 1 + torch.rand(BATCH, 2, generator=generator)
        tokens = (directions[chosen] * strength[..., None]).sum(1)
        yield {"blocks.0": tokens, "blocks.1": tokens.flip(1) * 5 + 1}


def fresh_state(config: TrainingConfig = CONFIG) -> TrainingState:
    return start_training({"blocks.0": D_MODEL, "blocks.1": D_MODEL}, 64, config, seed=7)


def state_bytes(state: TrainingState, folder: Path) -> bytes:
    folder.mkdir()
    save_state(state, folder)
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def test_training_explains_more_and_more_of_planted_tokens() -> None:
    seen: dict[tuple[str, int], Metrics] = {}
    config = TrainingConfig(k=4, learning_rate=3e-3, n_steps=400, log_every=399)
    train_steps(fresh_state(config), planted_batches(400), config, lambda h, s, m: seen.update({(h, s): m}))
    assert sorted(seen) == [("blocks.0", 0), ("blocks.0", 399), ("blocks.1", 0), ("blocks.1", 399)]
    for hookpoint in ("blocks.0", "blocks.1"):
        assert seen[hookpoint, 399].explained_variance > 0.85
        assert seen[hookpoint, 399].explained_variance > seen[hookpoint, 0].explained_variance + 0.1
        assert 0 < seen[hookpoint, 399].l0 <= 4


@pytest.mark.parametrize("cuts", [[60], [1, 59], [20, 25, 15]])
def test_a_resumed_training_ends_in_the_same_bytes(tmp_path: Path, cuts: list[int]) -> None:
    whole = fresh_state()
    train_steps(whole, planted_batches(60), CONFIG)

    state, done = fresh_state(), 0
    for part, n_steps in enumerate(cuts):
        train_steps(state, planted_batches(n_steps, first=done), CONFIG)
        done += n_steps
        folder = tmp_path / f"part{part}"
        folder.mkdir()
        save_state(state, folder)
        state = load_state(folder, CONFIG)

    assert state.step == 60
    assert state.n_tokens == 60 * BATCH
    assert state_bytes(state, tmp_path / "parts") == state_bytes(whole, tmp_path / "whole")


def test_decoder_rows_have_unit_norm_after_each_step() -> None:
    state = fresh_state()
    for batch in planted_batches(5):
        train_steps(state, [batch], CONFIG)
        torch.testing.assert_close(
            state.coders["blocks.0"].coder.W_dec.norm(dim=1), torch.ones(64), rtol=1e-6, atol=1e-6
        )


def test_dead_latents_are_counted_in_tokens_and_revived() -> None:
    state = fresh_state()
    training = state.coders["blocks.0"]
    with torch.no_grad():
        training.coder.W_enc[0] = -training.coder.W_enc.abs().sum(0) * 0  # reads nothing, so it can not fire
    train_steps(state, planted_batches(3), CONFIG)
    assert training.tokens_since_fired[0] == 3 * BATCH
    before = training.coder.W_dec[0].clone()
    train_steps(state, planted_batches(1, first=3), CONFIG)
    assert training.tokens_since_fired[0] == CONFIG.dead_after_tokens
    assert torch.equal(before, training.coder.W_dec[0])  # ReLU of exactly 0 has no gradient
    with torch.no_grad():
        training.coder.W_enc[0] = 1e-3 * training.coder.W_dec[0]  # too weak for the top k, strong enough for AuxK
    train_steps(state, planted_batches(1, first=4), CONFIG)
    assert not torch.equal(before, training.coder.W_dec[0])


def test_the_learning_rate_rises_holds_and_falls() -> None:
    config = TrainingConfig(k=1, learning_rate=1.0, n_steps=10, warm_up_steps=2, decay_steps=3)
    assert [config.rate_at(step) for step in range(10)] == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]


def test_a_schedule_longer_than_the_training_is_refused() -> None:
    with pytest.raises(ValueError, match="must fit into the 10 steps"):
        TrainingConfig(k=1, learning_rate=1.0, n_steps=10, warm_up_steps=6, decay_steps=5)


def test_training_stops_at_the_planned_number_of_steps() -> None:
    state = fresh_state()
    train_steps(state, planted_batches(70), CONFIG)
    assert state.step == 60
