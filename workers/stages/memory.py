"""When memory runs out in a training: the batch is cut in two once, and then the batch that would fit is named.

Whether a batch fits is found by trying it, so the sentence holds for this machine and what else is on it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

LEAST_BATCH = 64
CPU_ALLOCATOR = "can't allocate memory"  # torch has no class for what its CPU allocator raises


class OutOfMemoryError(Exception):
    """A training does not fit into memory; the message says what would."""


def is_out_of_memory(error: BaseException) -> bool:
    is_cpu = isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)
    return is_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)


def fits(act: Callable[[], None]) -> bool:
    """Do something; False if memory ran out, all that it held being released."""
    try:
        act()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        return True
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def halve_if_needed(
    train: Callable[[int], None], attempt: Callable[[int], None], batch_tokens: int, log: Callable[[str], None]
) -> None:
    """Call ``train`` with 1, the parts each batch is cut into, and if memory runs out with 2.

    Raises OutOfMemoryError if that is not enough, naming the batch for which ``attempt`` (one batch, nothing kept)
    does not run out.
    """
    if fits(lambda: train(1)):
        return
    log(
        f"Memory ran out with batches of {batch_tokens:,} tokens: from here on each is trained in two steps of "
        f"{batch_tokens // 2:,}."
    )
    if batch_tokens // 2 >= LEAST_BATCH and fits(lambda: train(2)):
        return
    n_parts = 4
    while batch_tokens // n_parts >= LEAST_BATCH:
        if fits(lambda n=n_parts: attempt(n)):  # type: ignore[misc]
            raise OutOfMemoryError(
                f"Memory ran out with batches of {batch_tokens:,} tokens and of half as many. A batch of "
                f"{batch_tokens // n_parts:,} tokens fits: clone the run with that."
            )
        n_parts *= 2
    raise OutOfMemoryError(
        f"Memory ran out, even with batches of {LEAST_BATCH} tokens: the weights with their optimizer and the "
        "activations of a block are too large. Train fewer hookpoints, dictionaries or latents at once."
    )
