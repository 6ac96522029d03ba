"""A few thousand tokens of a few images, the same at every hookpoint: to check an import or calibrate an export."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from workers.activations import image_activations
from workers.images import ImageSetReader
from workers.vision_model import VisionModel


def spread(tokens: Float[Tensor, "n_tokens width"], n: int) -> Float[Tensor, "n width"]:
    """Tokens at even distances, the same ones at every hookpoint."""
    n_tokens = tokens.shape[0]
    return tokens[[index * n_tokens // n for index in range(n)]] if n_tokens > n else tokens


@torch.no_grad()
def sample_activations(
    model: VisionModel,
    reader: ImageSetReader,
    hookpoints: Sequence[str],
    *,
    n_images: int,
    n_tokens: int,
    n_threads: int = 1,
    on_images: Callable[[int], None] | None = None,
) -> dict[str, Float[Tensor, "n_tokens width"]]:
    """About ``n_tokens`` tokens of images at even distances; ``on_images`` hears how many are done."""
    chosen = evenly(len(reader), n_images)
    parts: dict[str, list[Tensor]] = {name: [] for name in hookpoints}
    done = 0
    for part in image_activations(model, reader, hookpoints, chosen, n_threads=n_threads):
        n_kept = -(-n_tokens * len(part.indices) // len(chosen))
        for name, tokens in part.activations.items():
            parts[name].append(spread(tokens.flatten(0, 1), n_kept).float())
        done += len(part.indices)
        if on_images is not None:
            on_images(done)
    return {name: torch.cat(tokens) for name, tokens in parts.items()}


def evenly(n_images: int, n_chosen: int) -> list[int]:
    """Image sets are often sorted by class."""
    n = min(n_images, n_chosen)
    return [index * n_images // n for index in range(n)]
