"""CPU time of one training step of a TopK SAE: ours, plain autograd with a dense latent axis, and public libraries.

All are measured in one run on one thread, a step of each in turn, on normalized random tokens, with AuxK, clipping and
dead tracking on (each library in its own way; see ``peers_runner``). Ours is the step of the training loop, its
normalization of tokens included. Dead latents are planted: their encoder rows are too weak to enter the top k, and they
are counted as silent for long. What matters is the ratio to the fastest library.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from workers.benchmarks.peers import Peers, PeersError, Step, open_peers
from workers.benchmarks.report import report, say
from workers.dictionaries.coder_training import CoderTraining
from workers.dictionaries.losses import AuxK, Objective
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder, normalize_tokens
from workers.dictionaries.step import clip_gradients, normalize_rows, plain_gradients, remove_parallel_gradient
from workers.dictionaries.training import Training, TrainingConfig, train_step, wrap_trainable

K = 32
WEAK = 1e-2
NEVER = 1 << 60
OURS, PLAIN = "ours", "plain autograd, dense"
CONFIG = TrainingConfig(
    learning_rate=1e-5,  # small: the planted dead latents stay dead
    n_steps=1 << 30,
    objective=Objective("topk", AuxK(1 / 32, 256)),
    clip_norm=1.0,
    dead_after_tokens=NEVER,
)
SLOW = 1.5  # times the fastest library: such methods are measured for a few steps only
FEW_STEPS = 3
QUICK_STEPS = 6


class Case(NamedTuple):
    """A size and the share of latents that are dead."""

    d_model: int
    expansion: int
    n_tokens: int
    dead_share: float

    @property
    def n_latents(self) -> int:
        return self.d_model * self.expansion

    @property
    def n_dead(self) -> int:
        return int(self.dead_share * self.n_latents)

    def __str__(self) -> str:
        return f"d {self.d_model} x{self.expansion}, {self.n_tokens} tokens, {self.dead_share:.0%} dead"


FLOORS = {Case(768, 16, 4096, 0.0): 1.8, Case(768, 16, 4096, 0.1): 1.3}
CASES = tuple(
    Case(d_model, expansion, n_tokens, dead_share)
    for dead_share in (0.0, 0.1)
    for n_tokens in (512, 4096)
    for d_model in (192, 384, 768)
    for expansion in (8, 16)
)


def measure_steps(n_steps: int, *, with_peers: bool = False, is_quick: bool = False) -> bool:
    """Report the matrix (or, quickly, the rows that have a floor); whether every floor is met.

    Without the peers nothing is met: their rows say NOT MEASURED.
    """
    n_steps = min(n_steps, QUICK_STEPS) if is_quick else n_steps
    say(f"\nTraining step of a TopK SAE, k = {K}, 1 thread, tokens per CPU-second, medians of {n_steps} steps")
    say(f"(a quarter of them where there is no floor, {FEW_STEPS} for methods far from the fastest library)\n")
    met = True
    with ExitStack() as stack:
        try:
            peers = stack.enter_context(open_peers()) if with_peers else None
            for case in FLOORS if is_quick else CASES:
                met = measure_case(case, peers, n_steps if case in FLOORS else max(FEW_STEPS, n_steps // 4)) and met
        except PeersError as error:
            say(str(error))
            return False
    return met and with_peers


def measure_case(case: Case, peers: Peers | None, n_steps: int) -> bool:
    """Report one case; False if it falls short of its floor."""
    seconds = {name: statistics.median(found) for name, found in time_steps(case, peers, n_steps).items()}
    say(f"{case}")
    for name, median in seconds.items():
        say(f"    {name:<36} {case.n_tokens / median:>8.0f}   {1000 * median:>7.1f} ms")
    rivals = {name: median for name, median in seconds.items() if name not in (OURS, PLAIN)}
    if not rivals:
        say(f"    {'public libraries':<36} NOT MEASURED (--peers)")
    floor, title = FLOORS.get(case), f"SAE step over the best public library, {case}"
    if floor is None:
        best = min((rivals or {PLAIN: seconds[PLAIN]}).items(), key=lambda item: item[1])
        say(f"    ours over {best[0]}: {best[1] / seconds[OURS]:.2f} x")
        return True
    if not rivals:
        report(is_met=None, name=title, figure="-", target=f">= {floor} x")
        return False
    best_name = min(rivals, key=lambda name: rivals[name])
    ratio = rivals[best_name] / seconds[OURS]
    report(is_met=ratio >= floor, name=title, figure=f"{ratio:.2f} x", target=f">= {floor} x ({best_name})")
    return ratio >= floor


def time_steps(case: Case, peers: Peers | None, n_steps: int) -> dict[str, list[float]]:
    """CPU seconds of each step after the first one, by method; one step of each in turn."""
    steps = {OURS: our_step(case), PLAIN: plain_step(case)}
    if peers is not None:
        asked = {"d_model": case.d_model, "n_latents": case.n_latents, "k": K}
        names = peers.prepare(asked | {"n_tokens": case.n_tokens, "n_dead": case.n_dead})
        steps |= {name: partial(peers.step, name) for name in names}
    warm = {name: step() for name, step in steps.items()}  # makes gradients and moments; not counted
    for name, step in warm.items():
        assert step.n_dead == case.n_dead, f"{name} has {step.n_dead} dead latents, not {case.n_dead}"
    limit = SLOW * min((step.seconds for name, step in warm.items() if name not in (OURS, PLAIN)), default=float("inf"))
    found: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(n_steps):
        for name, take in steps.items():
            if number < FEW_STEPS or warm[name].seconds <= limit:
                found[name].append(take().seconds)
    return found


def our_step(case: Case) -> Callable[[], Step]:
    """A step of the training loop."""
    training, numbers = prepare(case), iter(range(1 << 30))
    return timed(training, case, lambda tokens: train_step(training, {"x": tokens}, next(numbers)))


def plain_step(case: Case) -> Callable[[], Step]:
    """The same loss, clipping, fused Adam and unit rows, with gradients by autograd."""
    training = prepare(case)
    trainable = coder_training(training)
    coder = trainable.coder

    def step(tokens: Tensor) -> None:
        def find_dead(fired: Tensor) -> Tensor:
            return trainable.find_dead(fired, case.n_tokens, CONFIG.dead_after_tokens)

        plain_gradients(coder, tokens, tokens, find_dead, CONFIG.objective)
        remove_parallel_gradient(coder)
        clip_gradients(coder, CONFIG.clip_norm)
        training.optimizer.step()
        normalize_rows(coder)

    return timed(training, case, step)


def timed(training: Training, case: Case, advance: Callable[[Tensor], object]) -> Callable[[], Step]:
    """One step on a fresh batch, with the dead latents planted before the clock starts."""
    generator = torch.Generator().manual_seed(1)
    silent = coder_training(training).tokens_since_fired

    def step() -> Step:
        tokens = normalize_tokens(torch.randn(case.n_tokens, case.d_model, generator=generator)).tokens
        silent[: case.n_dead] = NEVER
        n_dead = int((silent >= NEVER).sum())
        started = time.process_time()
        advance(tokens)
        return Step(time.process_time() - started, n_dead)

    return step


def prepare(case: Case) -> Training:
    coder = SparseCoder(CoderShape(d_model=case.d_model, n_latents=case.n_latents, k=K))
    initialize_coder(coder, torch.Generator().manual_seed(0))
    with torch.no_grad():
        coder.W_enc[: case.n_dead] *= WEAK  # too weak to enter the top k
    return wrap_trainable(CoderTraining(coder, "x"), CONFIG)


def coder_training(training: Training) -> CoderTraining:
    assert isinstance(training.trainable, CoderTraining)
    return training.trainable
