"""One training step of a sparse coder: gradients, clipping, and decoder rows of norm 1.

``compute_gradients`` takes the way that measured fastest on the device: on a CPU ``sparse_step``, which has no dense
latent axis, elsewhere plain autograd on ``losses``, where dense products are cheap.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from workers.dictionaries.losses import FindDead, Forward, Objective, loss_of, run_forward
from workers.dictionaries.sparse_coder import SparseCoder
from workers.dictionaries.sparse_step import StepResult, sparse_gradients

ROWS = 512  # of a matrix that is gone through twice: the second time it is in the cache
SMALLEST = torch.finfo(torch.float32).tiny


class Execution(NamedTuple):
    """How an accelerator computes; a CPU's sparse step is always in single precision."""

    is_bf16: bool = False
    compiler: str = ""  # a backend of torch.compile, such as inductor; "" does not compile


def compute_gradients(
    coder: SparseCoder,
    tokens: Float[Tensor, "n_tokens d_model"],
    targets: Float[Tensor, "n_tokens d_out"],
    find_dead: FindDead,
    objective: Objective,
    execution: Execution = Execution(),  # noqa: B008 (a tuple of constants)
) -> StepResult:
    """Write one batch's gradients into ``.grad`` of the coder's trained parameters, whatever was there before.

    ``tokens`` and ``targets`` are already normalized; an SAE's targets are its tokens. ``find_dead`` is called once,
    with how often each latent fired in this batch, and answers which latents are dead now. Raises ValueError if the
    coder does not select as the objective's activation does.
    """
    objective.check(coder)
    if tokens.device.type == "cpu":
        result = sparse_gradients(coder, tokens, targets, find_dead, objective)
        if result is not None:
            return result
    return plain_gradients(coder, tokens, targets, find_dead, objective, execution)


def plain_gradients(
    coder: SparseCoder,
    tokens: Float[Tensor, "n_tokens d_model"],
    targets: Float[Tensor, "n_tokens d_out"],
    find_dead: FindDead,
    objective: Objective,
    execution: Execution = Execution(),  # noqa: B008
) -> StepResult:
    """By autograd, with a dense latent axis."""
    coder.zero_grad()
    forward = compiled_forward(execution.compiler) if execution.compiler else run_forward
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=execution.is_bf16):
        loss = loss_of(coder, forward(coder, tokens, objective), targets, find_dead, objective)
    loss.total(objective).backward()  # type: ignore[no-untyped-call]
    return StepResult(
        loss.reconstruction.detach(), loss.auxiliary.detach(), loss.sparsity.detach(), loss.fired, loss.threshold
    )


@functools.cache
def compiled_forward(compiler: str) -> Callable[[SparseCoder, Tensor, Objective], Forward]:
    compiled: Callable[[SparseCoder, Tensor, Objective], Forward] = torch.compile(run_forward, backend=compiler)
    return compiled


@torch.no_grad()
def remove_parallel_gradient(coder: SparseCoder) -> None:
    """Take from each decoder row's gradient its part along the row, which ``normalize_rows`` would undo."""
    assert coder.W_dec.grad is not None
    for gradient, rows in zip(torch.split(coder.W_dec.grad, ROWS), torch.split(coder.W_dec, ROWS), strict=True):
        along = (gradient * rows).sum(dim=1, keepdim=True)
        gradient.addcmul_(along, rows, value=-1)


@torch.no_grad()
def clip_gradients(coder: SparseCoder, max_norm: float) -> Float[Tensor, ""]:
    """Scale all gradients so that their common norm is at most ``max_norm``; returns the norm they had."""
    gradients = [weight.grad for weight in coder.parameters() if weight.grad is not None]
    norm: Tensor = torch.stack([gradient.norm() for gradient in gradients]).norm()
    torch._foreach_mul_(gradients, (max_norm / (norm + SMALLEST)).clamp(max=1.0))
    return norm


@torch.no_grad()
def normalize_rows(coder: SparseCoder) -> None:
    """Decoder rows of norm 1; a row of zeros stays. Thresholds that a step took below zero go back to it."""
    for rows in torch.split(coder.W_dec, ROWS):
        rows.div_(rows.norm(dim=1, keepdim=True).clamp_min_(SMALLEST))
    if coder.shape.selection == "threshold" and coder.threshold.requires_grad:
        coder.threshold.clamp_min_(0)
