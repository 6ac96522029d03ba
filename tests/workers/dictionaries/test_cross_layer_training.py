"""Training of cross-layer transcoders: it learns a planted chain, folds its standardization, and resumes exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from workers.dictionaries.coder_training import STEERING
from workers.dictionaries.cross_layer_training import CrossLayerTraining, make_cross_layer
from workers.dictionaries.losses import AuxK, Objective
from workers.dictionaries.training import Metrics, TrainingConfig, TrainingState, train_steps, wrap_trainable
from workers.dictionaries.training_state import load_state, save_state, start_state
from workers.stages.configs import TrainDictionaryConfig

D_MODEL, N_TRUE, BATCH = 12, 24, 512
READS = ("blocks.0.mlp.in", "blocks.1.mlp.in", "blocks.2.mlp.in")
WRITES = ("blocks.0.mlp.out", "blocks.1.mlp.out", "blocks.2.mlp.out")


def stage_config(activation: str = "topk", hookpoints: tuple[str, ...] = READS) -> TrainDictionaryConfig:
    return TrainDictionaryConfig(
        "i" * 64, "v" * 64, hookpoints, kind="cross_layer_transcoder", activation=activation, n_latents=64, k=4
    )


def recipe(activation: str = "topk", n_steps: int = 40, **settings: object) -> TrainingConfig:
    objective = Objective(activation=activation, aux=AuxK(1 / 32, 32), bandwidth=0.4)
    values: dict[str, object] = {"dead_after_tokens": 4 * BATCH, "objective": objective, "clip_norm": 1.0} | settings
    return TrainingConfig(learning_rate=5e-3, n_steps=n_steps, log_every=n_steps - 1, **values)  # type: ignore[arg-type]


def planted_batches(n_batches: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
    """Two hidden directions on at each read; what is on at block i is written at every later block, with a mean."""
    maps = torch.Generator().manual_seed(0)
    read = torch.nn.functional.normalize(torch.randn(3, N_TRUE, D_MODEL, generator=maps), dim=2)
    written = torch.randn(3, 3, N_TRUE, D_MODEL, generator=maps)
    for index in range(first, first + n_batches):
        generator = torch.Generator().manual_seed(100 + index)
        chosen = torch.rand(3, BATCH, N_TRUE, generator=generator).topk(2, dim=2).indices
        z = torch.zeros(3, BATCH, N_TRUE).scatter(2, chosen, 1 + torch.rand(3, BATCH, 2, generator=generator))
        batch = {name: 2 * (z[i] @ read[i]) + 1 for i, name in enumerate(READS)}
        for j, name in enumerate(WRITES):
            batch[name] = 3 * sum((z[i] @ written[i, j] for i in range(j + 1)), start=torch.zeros(())) - 5
        yield batch


def fresh_state(activation: str, config: TrainingConfig) -> TrainingState:
    trainable = make_cross_layer(stage_config(activation), dict.fromkeys((*READS, *WRITES), D_MODEL))
    return start_state({"0/": wrap_trainable(trainable, config)}, seed=7)


def trainable_of(state: TrainingState) -> CrossLayerTraining:
    trainable = state.trainings["0/"].trainable
    assert isinstance(trainable, CrossLayerTraining)
    return trainable


@pytest.mark.parametrize("activation", ["topk", "abs_topk", "jumprelu"])
def test_training_explains_more_and_more_of_planted_targets(activation: str) -> None:
    seen: dict[tuple[str, int], Metrics] = {}
    config = recipe(activation, n_steps=160)
    train_steps(fresh_state(activation, config), planted_batches(160), lambda h, s, m: seen.update({(h, s): m}))
    assert sorted(seen) == [(read, step) for read in READS for step in (0, 159)]
    for read in READS:
        last = seen[read, 159]
        assert abs(seen[read, 0].explained_variance) < 0.01  # decoders begin at zero
        assert last.explained_variance > 0.8
        assert 0 < last.l0 <= (4 if activation != "jumprelu" else 12)


def test_thresholds_begin_where_k_latents_are_on() -> None:
    config = recipe("jumprelu")
    state = fresh_state("jumprelu", config)
    batch = next(planted_batches(1))
    training = trainable_of(state)
    training.prepare(batch, config)
    tokens, targets = training.standardized(batch)
    for source, x in enumerate(tokens):
        on = (training.coder.encode(source, x).values != 0).sum() / BATCH
        assert float(on) == pytest.approx(4, abs=0.01)
    for values in (*tokens, *targets):
        torch.testing.assert_close(values.mean(0), torch.zeros(D_MODEL), rtol=0, atol=1e-4)
        assert float(values.square().mean()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_the_finished_coder_does_for_plain_activations_what_was_trained_for_standardized_ones(activation: str) -> None:
    config = recipe(activation)
    state = fresh_state(activation, config)
    train_steps(state, planted_batches(40))
    training = trainable_of(state)
    batch = next(planted_batches(1, first=500))
    tokens, _ = training.standardized(batch)
    folded = training.finished()
    before = {source: training.coder.encode(source, x) for source, x in enumerate(tokens)}
    after = {source: folded.encode(source, batch[read]) for source, read in enumerate(READS)}
    for target, write in enumerate(WRITES):
        standard = training.write_standards[target]
        expected = training.coder.decode(target, before) * standard.deviation + standard.mean
        torch.testing.assert_close(folded.decode(target, after), expected, rtol=1e-3, atol=1e-3)
        variance = float((batch[write] - batch[write].mean(0)).square().mean())
        assert float((expected - batch[write]).square().mean()) < variance


@pytest.mark.parametrize("activation", ["topk", "abs_topk", "jumprelu"])
def test_a_resumed_training_ends_in_the_same_bytes(tmp_path: Path, activation: str) -> None:
    config = recipe(activation, n_steps=20)
    whole = fresh_state(activation, config)
    train_steps(whole, planted_batches(20))
    state, done = fresh_state(activation, config), 0
    for n_steps in (1, 7, 12):
        train_steps(state, planted_batches(n_steps, first=done))
        done += n_steps
        save_state(state, tmp_path)
        state = load_state(tmp_path, fresh_state(activation, config).trainings)
    assert (state.step, state.n_tokens) == (20, 20 * BATCH)
    resumed, undisturbed = trainable_of(state), trainable_of(whole)
    for found, expected in (
        (resumed.parameters(), undisturbed.parameters()),
        (resumed.counters(), undisturbed.counters()),
    ):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)


def test_dead_latents_are_counted_and_started_anew_when_asked_to() -> None:
    config = recipe(resample_at=(6,), objective=Objective(aux=AuxK(0.0, 1)))
    state = fresh_state("topk", config)
    training = trainable_of(state)
    with torch.no_grad():
        training.coder.b_enc[1][:5] = -100
    train_steps(state, planted_batches(6))
    assert training.tokens_since_fired[64:69].tolist() == [6 * BATCH] * 5
    train_steps(state, planted_batches(1, first=6))
    assert bool((training.coder.b_enc[1][:5].abs() < 1).all())
    assert int(training.tokens_since_fired[64:69].max()) <= BATCH
    assert bool((training.coder.W_dec[1][64:69].norm(dim=1) > 0).all())
    assert bool((training.coder.W_dec[2][64:69].norm(dim=1) > 0).all())


def test_the_penalty_is_steered_towards_k_unless_its_weight_is_given() -> None:
    config = recipe("jumprelu")
    training = trainable_of(fresh_state("jumprelu", config))
    training.prepare(next(planted_batches(1)), config)
    before = float(training.steered_weight)
    training.steer(torch.full((192,), 8 * BATCH), BATCH, config)  # L0 of 512 a source
    assert float(training.steered_weight) == pytest.approx(before * math.exp(STEERING))
    given = recipe("jumprelu", objective=Objective(activation="jumprelu", sparsity_weight=0.5))
    training.prepare(next(planted_batches(1)), given)
    training.steer(torch.full((192,), 8 * BATCH), BATCH, given)
    assert float(training.steered_weight) == 0.5
    assert training.objective_at(given, 39).sparsity_weight == pytest.approx(0.5)


def test_blocks_out_of_order_or_of_two_widths_are_refused() -> None:
    widths = dict.fromkeys((*READS, *WRITES), D_MODEL)
    with pytest.raises(ValueError, match="in the order of the blocks"):
        make_cross_layer(stage_config(hookpoints=READS[::-1]), widths)
    with pytest.raises(ValueError, match="blocks of one width"):
        make_cross_layer(stage_config(), widths | {READS[0]: 99})
