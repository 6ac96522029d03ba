"""CPU time of one training step of a TopK coder: ours, and plain autograd with a dense latent axis, in one run.

Plain autograd is how public trainers work but for the fastest of them, which has no dense decoder; that one is not
installed here, so the ratio to the best public library is not measured (research/clt_peers.md §3 has its figures).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from workers.benchmarks.report import report, say
from workers.dictionaries.losses import Objective, plain_loss
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder, normalize_tokens
from workers.dictionaries.training import (
    CoderTraining,
    TrainingConfig,
    remove_parallel_gradient,
    train_step,
    wrap_coder,
)

NEVER_DEAD = 1 << 60
N_WARM_UP = 2


class Case(NamedTuple):
    """A size and the share of dead latents."""

    d_model: int
    n_latents: int
    k: int
    dead_share: float


CASES = (
    Case(128, 1024, 16, 0.0),
    Case(768, 12288, 32, 0.0),
    Case(768, 12288, 32, 0.1),
)


def measure_steps(n_steps: int, n_tokens: int = 4096) -> bool:
    """Report every case; whether ours is the faster one in all."""
    say(f"\nTraining step, {n_tokens} tokens, 1 thread, CPU time, median of {n_steps} steps")
    met = True
    for case in CASES:
        ours, plain = (median_seconds(case, step, n_steps, n_tokens) for step in (train_step, plain_step))
        size = f"d {case.d_model}, {case.n_latents} latents, {case.dead_share:.0%} dead"
        name = f"SAE step over plain dense autograd, {size}"
        figure = f"{plain / ours:.2f} x"
        is_met = ours < plain
        met = met and is_met
        report(
            is_met=is_met, name=name, figure=figure, target=f"> 1 x ({1000 * ours:.0f} ms, plain {1000 * plain:.0f} ms)"
        )
    target = ">= 1.8, >= 1.3 with 10 % dead"
    report(is_met=None, name="SAE step over the best public library", figure="-", target=target)
    return met


def median_seconds(
    case: Case, step: Callable[[CoderTraining, Tensor, TrainingConfig, int], object], n_steps: int, n_tokens: int
) -> float:
    training = prepare(case)
    config = TrainingConfig(k=case.k, learning_rate=1e-4, n_steps=1 << 20, dead_after_tokens=NEVER_DEAD)
    generator = torch.Generator().manual_seed(1)
    seconds: list[float] = []
    n_dead = int(case.dead_share * case.n_latents)
    for number in range(N_WARM_UP + n_steps):
        tokens = normalize_tokens(torch.randn(n_tokens, case.d_model, generator=generator)).tokens
        training.tokens_since_fired[:n_dead] = NEVER_DEAD
        started = time.process_time()
        step(training, tokens, config, number)
        seconds.append(time.process_time() - started)
    return statistics.median(seconds[N_WARM_UP:])


def prepare(case: Case) -> CoderTraining:
    coder = SparseCoder(CoderShape(d_model=case.d_model, n_latents=case.n_latents, k=case.k))
    initialize_coder(coder, torch.Generator().manual_seed(0))
    with torch.no_grad():
        coder.W_enc[: int(case.dead_share * case.n_latents)] *= 1e-2  # too weak to enter the top k
    return wrap_coder(coder, TrainingConfig(k=case.k, learning_rate=1e-4, n_steps=1))


def plain_step(training: CoderTraining, tokens: Tensor, config: TrainingConfig, step: int) -> None:
    """The same step by autograd: same loss, same fused Adam, same unit rows."""
    coder = training.coder
    training.optimizer.zero_grad()
    dead, objective = training.tokens_since_fired >= config.dead_after_tokens, Objective(aux=config.aux)
    plain_loss(coder, tokens, tokens, lambda fired: dead, objective).total(objective).backward()  # type: ignore[no-untyped-call]
    remove_parallel_gradient(coder)
    training.optimizer.step()
    with torch.no_grad():
        coder.W_dec.div_(coder.W_dec.norm(dim=1, keepdim=True))
