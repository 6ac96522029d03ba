"""CPU time of one training step of a cross-layer transcoder: ours, and dense decoding by autograd, in one run.

Dense decoding is how public trainers work (research/clt_peers.md §1.2); here it has the same loss, the same fused Adam,
clipping and counting of dead latents as ours, so that the ratio is of the gradients alone. Of four ways to write the
dense decoding (sums of products, one product per target of codes joined or sliced) it is the one that measured fastest.
The two take turns, so that whatever else the machine does befalls both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from workers.benchmarks.report import report, say
from workers.dictionaries.cross_layer import CrossLayerCoder, CrossLayerShape, initialize_cross_layer
from workers.dictionaries.cross_layer_loss import CrossLayerLoss, CrossLayerObjective
from workers.dictionaries.cross_layer_step import compute_cross_layer_gradients, dense_gradients

N_BLOCKS, K = 12, 32
NEVER = 1 << 60
MAX_NORM = 1.0
Gradients = Callable[..., CrossLayerLoss]


class Case(NamedTuple):
    """A size, and what is asked of it."""

    d_model: int
    n_latents: int
    n_tokens: int
    floor: float


CASES = (Case(192, 1536, 1024, 2.8), Case(384, 3072, 1024, 5.0))


def measure_cross_layer(n_steps: int, cases: tuple[Case, ...] = CASES) -> bool:
    """Report every case; whether all floors are met."""
    say(f"\nCross-layer transcoder step, {N_BLOCKS} blocks, k = {K}, 1 thread, CPU time, median of {n_steps} steps")
    met = True
    for case in cases:
        ours, dense = median_seconds(case, n_steps)
        ratio = dense / ours
        met = met and ratio >= case.floor
        report(
            is_met=ratio >= case.floor,
            name=f"CLT step over dense decode, d {case.d_model}, {case.n_latents} latents, {case.n_tokens} tokens",
            figure=f"{ratio:.2f} x",
            target=f">= {case.floor} x ({1000 * ours:.0f} ms, dense {1000 * dense:.0f} ms)",
        )
    return met


def median_seconds(case: Case, n_steps: int) -> tuple[float, float]:
    """Of our step and of the dense one, one after the other on the same coder, the first of each left out."""
    coder = prepare(case)
    optimizer = torch.optim.Adam(coder.parameters(), lr=1e-4, fused=True)
    silent = torch.zeros(N_BLOCKS * case.n_latents, dtype=torch.long)
    seconds: dict[Gradients, list[float]] = {compute_cross_layer_gradients: [], dense_gradients: []}
    for number in range(n_steps + 1):
        batch = random_batch(case, number)
        for gradients, taken in seconds.items():
            started = time.process_time()
            take_step(coder, optimizer, silent, batch, gradients)
            taken.append(time.process_time() - started)
    ours, dense = (statistics.median(taken[1:]) for taken in seconds.values())
    return ours, dense


def take_step(
    coder: CrossLayerCoder,
    optimizer: torch.optim.Optimizer,
    silent: Tensor,
    batch: tuple[list[Tensor], list[Tensor]],
    gradients: Gradients,
) -> None:
    def find_dead(fired: Tensor) -> Tensor:
        silent.add_(batch[0][0].shape[0]).masked_fill_(fired > 0, 0)
        return silent >= NEVER

    gradients(coder, *batch, find_dead, CrossLayerObjective())
    torch.nn.utils.clip_grad_norm_(coder.parameters(), MAX_NORM)
    optimizer.step()


def prepare(case: Case) -> CrossLayerCoder:
    """Drawn decoders, because zeros would be cheap to multiply with."""
    sizes = (case.n_latents,) * N_BLOCKS
    coder = CrossLayerCoder(CrossLayerShape(case.d_model, case.d_model, sizes, (K,) * N_BLOCKS))
    generator = torch.Generator().manual_seed(0)
    initialize_cross_layer(coder, generator)
    with torch.no_grad():
        for W_dec in coder.W_dec:
            W_dec.normal_(std=0.02, generator=generator)
    return coder


def random_batch(case: Case, number: int) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(number)
    drawn = [torch.randn(case.n_tokens, case.d_model, generator=generator) for _ in range(2 * N_BLOCKS)]
    return drawn[:N_BLOCKS], drawn[N_BLOCKS:]
