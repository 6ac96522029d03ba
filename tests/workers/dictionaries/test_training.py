"""Training: it learns a planted dictionary, keeps its invariants, and resumes to the same bytes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from workers.dictionaries.coder_training import CoderTraining
from workers.dictionaries.losses import ACTIVATIONS, AuxK, Objective, plain_loss
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, unit_rows
from workers.dictionaries.training import Metrics, Training, TrainingConfig, TrainingState, train_steps, wrap_trainable
from workers.dictionaries.training_state import load_state, save_state, start_state

CONFIG = TrainingConfig(
    learning_rate=3e-3, n_steps=60, warm_up_steps=5, decay_steps=20, dead_after_tokens=1024, log_every=20
)
D_MODEL, N_TRUE, BATCH, N_LATENTS, K = 16, 32, 256, 64, 4
SAE, TRANSCODER = "blocks.0", "blocks.0.mlp.in"


def planted_batches(n_batches: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
    """Tokens made of two of 32 hidden directions each; batch i depends on i alone."""
    source = torch.Generator().manual_seed(0)
    directions, written = (unit_rows(torch.randn(N_TRUE, D_MODEL, generator=source)) for _ in range(2))
    for index in range(first, first + n_batches):
        generator = torch.Generator().manual_seed(100 + index)
        chosen = torch.rand(BATCH, N_TRUE, generator=generator).topk(2, dim=1).indices
        strength = 1 + torch.rand(BATCH, 2, generator=generator)[..., None]
        tokens = (directions[chosen] * strength).sum(1)
        out = 7 * (written[chosen] * strength).sum(1)[:, :12] + 3
        yield {SAE: tokens, "blocks.1": tokens.flip(1) * 5 + 1, TRANSCODER: 4 * tokens - 2, "blocks.0.mlp.out": out}


def coder_training(read: str = SAE, activation: str = "topk", *, has_free_rows: bool = False) -> CoderTraining:
    selection, is_penalized = ACTIVATIONS[activation], activation in ("jumprelu", "relu")
    if not read.endswith(".mlp.in"):
        shape = CoderShape(D_MODEL, N_LATENTS, K, selection=selection, has_encoder_bias=is_penalized)
        return CoderTraining(SparseCoder(shape), read, activation=activation, has_free_rows=has_free_rows)
    shape = CoderShape(
        D_MODEL, N_LATENTS, K, d_out=12, selection=selection, normalization="none", is_bias_tied=False,
        has_encoder_bias=True, has_skip=activation == "topk",
    )  # fmt: skip
    return CoderTraining(SparseCoder(shape), read, read.replace(".in", ".out"), activation=activation)


def two_saes(config: TrainingConfig = CONFIG) -> dict[str, Training]:
    return {f"0/{name}": wrap_trainable(coder_training(name), config) for name in (SAE, "blocks.1")}


def one(read: str, way: str, config: TrainingConfig = CONFIG) -> dict[str, Training]:
    """Of an activation, or of 'free' and an activation."""
    activation = way.removeprefix("free ")
    own = replace(config, objective=Objective(activation, AuxK(1 / 32, 256), 0.0, 0.1))
    return {f"0/{read}": wrap_trainable(coder_training(read, activation, has_free_rows=way != activation), own)}


def fresh_state(config: TrainingConfig = CONFIG) -> TrainingState:
    return start_state(two_saes(config), seed=7)


def first_training(state: TrainingState) -> CoderTraining:
    training = next(iter(state.trainings.values())).trainable
    assert isinstance(training, CoderTraining)
    return training


def state_bytes(state: TrainingState, folder: Path) -> bytes:
    folder.mkdir()
    save_state(state, folder)
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def test_training_explains_more_and_more_of_planted_tokens() -> None:
    seen: dict[tuple[str, int], Metrics] = {}
    config = TrainingConfig(learning_rate=3e-3, n_steps=400, log_every=399)
    train_steps(fresh_state(config), planted_batches(400), lambda h, s, m: seen.update({(h, s): m}))
    assert sorted(seen) == [(SAE, 0), (SAE, 399), ("blocks.1", 0), ("blocks.1", 399)]
    for hookpoint in (SAE, "blocks.1"):
        assert seen[hookpoint, 399].explained_variance > 0.85
        assert seen[hookpoint, 399].explained_variance > seen[hookpoint, 0].explained_variance + 0.1
        assert 0 < seen[hookpoint, 399].l0 <= K


EVERY_WAY = [
    (SAE, "topk"), (SAE, "batch_topk"), (SAE, "jumprelu"), (SAE, "relu"),
    (TRANSCODER, "topk"), (TRANSCODER, "batch_topk"), (TRANSCODER, "abs_topk"), (TRANSCODER, "jumprelu"),
    (TRANSCODER, "relu"), (SAE, "free topk"), (SAE, "free batch_topk"), (SAE, "free jumprelu"), (SAE, "free relu"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "way"), EVERY_WAY)
def test_a_resumed_training_ends_in_the_same_bytes(tmp_path: Path, read: str, way: str) -> None:
    whole = start_state(one(read, way), seed=7)
    train_steps(whole, planted_batches(60))

    state, done = start_state(one(read, way), seed=7), 0
    for part, n_steps in enumerate((1, 24, 25, 10)):
        train_steps(state, planted_batches(n_steps, first=done))
        done += n_steps
        folder = tmp_path / f"part{part}"
        folder.mkdir()
        save_state(state, folder)
        state = load_state(folder, one(read, way))

    assert (state.step, state.n_tokens) == (60, 60 * BATCH)
    assert state_bytes(state, tmp_path / "parts") == state_bytes(whole, tmp_path / "whole")


@pytest.mark.parametrize(("read", "way"), EVERY_WAY)
def test_each_kind_explains_most_of_the_planted_tokens_near_its_k(read: str, way: str) -> None:
    config = TrainingConfig(learning_rate=3e-3, n_steps=600, warm_up_steps=10, decay_steps=100)
    state = start_state(one(read, way, config), seed=3)
    train_steps(state, planted_batches(600))
    coder = first_training(state).finished()
    [tokens] = planted_batches(1, first=1000)
    codes = coder.encode(tokens[read])
    target = tokens[first_training(state).writes[0]]
    unexplained = (coder.decode(codes) - target).square().sum() / (target - target.mean(0)).square().sum()
    l0 = float((codes.values != 0).float().sum(1).mean())
    assert 1 - float(unexplained) > 0.8
    assert 2 <= l0 <= (1.5 * K if way.endswith("relu") else K)  # two directions are in each token


def test_decoder_rows_have_unit_norm_after_each_step() -> None:
    state = fresh_state()
    for batch in planted_batches(5):
        train_steps(state, [batch])
        norms = first_training(state).coder.W_dec.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones(N_LATENTS), rtol=1e-6, atol=1e-6)


def test_free_rows_begin_small_and_take_adams_steps_as_they_are() -> None:
    """The oracle: autograd on the plain loss and Adam, with no projection and no norm."""
    state = start_state(one(SAE, "free topk"), seed=7)
    training = first_training(state)
    oracle = copy.deepcopy(training.coder)
    torch.testing.assert_close(oracle.W_dec, 0.1 * oracle.W_enc)
    torch.testing.assert_close(oracle.W_enc.norm(dim=1), torch.ones(N_LATENTS))
    weights = [oracle.W_enc, oracle.W_dec, oracle.b_dec]
    adam = torch.optim.Adam(weights, lr=CONFIG.learning_rate)
    for step, batch in enumerate(planted_batches(3)):
        tokens = training.normalized(batch)[0]
        loss = plain_loss(oracle, tokens, tokens, torch.zeros_like, Objective("topk", AuxK(0.0, 1)))
        adam.zero_grad()
        loss.reconstruction.backward()  # type: ignore[no-untyped-call]
        adam.param_groups[0]["lr"] = CONFIG.rate_at(step)
        adam.step()
    train_steps(state, planted_batches(3))
    for name in ("W_enc", "W_dec", "b_dec"):
        torch.testing.assert_close(getattr(training.coder, name), getattr(oracle, name), rtol=1e-3, atol=1e-4)
    assert float(training.coder.W_dec.detach().norm(dim=1).std()) > 1e-3


def test_free_jumprelu_coders_have_one_threshold_for_the_first_four_fifths() -> None:
    """Until then it is BatchTopK with an encoder bias, to the byte."""
    shape = CoderShape(D_MODEL, N_LATENTS, K, selection="threshold", has_encoder_bias=True)
    batch_topk = CoderTraining(SparseCoder(shape), SAE, activation="batch_topk", has_free_rows=True)
    own = replace(CONFIG, objective=Objective("batch_topk", AuxK(1 / 32, 256), 0.0, 0.1))
    other = start_state({f"0/{SAE}": wrap_trainable(batch_topk, own)}, seed=7)
    state = start_state(one(SAE, "free jumprelu"), seed=7)
    train_steps(state, planted_batches(48))
    train_steps(other, planted_batches(48))
    coder = first_training(state).coder
    for name, weight in batch_topk.coder.named_parameters():
        assert torch.equal(getattr(coder, name), weight), name
    assert coder.threshold.unique().numel() == 1  # type: ignore[no-untyped-call]
    train_steps(state, planted_batches(1, first=48))
    assert coder.threshold.unique().numel() > 1  # type: ignore[no-untyped-call]


def test_dead_latents_are_counted_in_tokens_and_revived() -> None:
    state = fresh_state()
    training = first_training(state)
    with torch.no_grad():
        training.coder.W_enc[0] = 0  # reads nothing, so it can not fire
    train_steps(state, planted_batches(3))
    assert training.tokens_since_fired[0] == 3 * BATCH
    before = training.coder.W_dec[0].clone()
    train_steps(state, planted_batches(1, first=3))
    assert training.tokens_since_fired[0] == CONFIG.dead_after_tokens
    assert torch.equal(before, training.coder.W_dec[0])  # ReLU of exactly 0 has no gradient
    with torch.no_grad():
        training.coder.W_enc[0] = 1e-3 * training.coder.W_dec[0]  # too weak for the top k, strong enough for AuxK
    train_steps(state, planted_batches(1, first=4))
    assert not torch.equal(before, training.coder.W_dec[0])


def test_resampled_latents_start_at_the_worst_explained_tokens_and_adam_forgets_them() -> None:
    state = start_state(one(SAE, "topk", replace(CONFIG, resample_at=(5,))), seed=7)
    training = first_training(state)
    with torch.no_grad():
        training.coder.W_enc[:3] = 0
    train_steps(state, planted_batches(5))
    assert training.tokens_since_fired[:3].tolist() == [5 * BATCH] * 3
    [batch] = planted_batches(1, first=5)
    tokens = training.normalized(batch)[0]
    error = tokens - training.coder.decode_normalized(training.coder.encode_normalized(tokens))
    worst = error.square().sum(1).topk(3).indices
    rows = training.resample(batch, state.trainings[f"0/{SAE}"].config, 5)
    assert rows["W_enc"].tolist() == [0, 1, 2]
    torch.testing.assert_close(unit_rows(training.coder.W_enc[:3]), unit_rows(tokens[worst]))
    torch.testing.assert_close(training.coder.W_dec[:3], unit_rows(error[worst]))
    assert training.tokens_since_fired[:3].tolist() == [0, 0, 0]
    assert training.resample(batch, state.trainings[f"0/{SAE}"].config, 5) == {}


def test_batches_cut_in_two_train_twice_as_many_steps_and_are_remembered(tmp_path: Path) -> None:
    state = fresh_state()
    state.n_parts = 2
    train_steps(state, planted_batches(3))
    save_state(state, tmp_path)
    again = load_state(tmp_path, two_saes())
    training = again.trainings[f"0/{SAE}"]
    weight = training.trainable.parameters()["W_enc"]
    assert (again.step, again.n_tokens, again.n_parts) == (3, 3 * BATCH, 2)
    assert float(training.optimizer.state[weight]["step"]) == 6


def test_gradients_are_clipped_at_the_norm_that_was_asked_for() -> None:
    state = start_state(one(SAE, "topk", replace(CONFIG, clip_norm=1e-3)), seed=7)
    train_steps(state, planted_batches(1))
    gradients = [weight.grad for weight in first_training(state).parameters().values() if weight.grad is not None]
    assert float(torch.stack([gradient.norm() for gradient in gradients]).norm()) == pytest.approx(1e-3, rel=1e-4)


def test_the_learning_rate_rises_holds_and_falls() -> None:
    config = TrainingConfig(learning_rate=1.0, n_steps=10, warm_up_steps=2, decay_steps=3)
    assert [config.rate_at(step) for step in range(10)] == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]


def test_a_sparsity_penalty_rises_over_the_first_tenth() -> None:
    config = TrainingConfig(learning_rate=1.0, n_steps=40, objective=Objective("relu", sparsity_weight=2.0))
    assert [config.objective_at(step).sparsity_weight for step in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]


def test_a_schedule_longer_than_the_training_is_refused() -> None:
    with pytest.raises(ValueError, match="must fit into the 10 steps"):
        TrainingConfig(learning_rate=1.0, n_steps=10, warm_up_steps=6, decay_steps=5)


def test_training_stops_at_the_planned_number_of_steps() -> None:
    state = fresh_state()
    train_steps(state, planted_batches(70))
    assert state.step == 60
