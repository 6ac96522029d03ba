"""Sparsifiers: which latents of a token stay on.

``strongest`` is the exact top-k of ReLU(pre), ``strongest_of_either_sign`` of |pre|, with signed values. On a CPU they
work in two stages: an element of the top k lies in one of the k groups with the largest maxima, so only those groups
are searched (research/clt_peers.md §3). ``above_threshold`` keeps every latent above its own threshold: JumpReLU, and
with thresholds of zero ReLU. All return rows of one width, padded with zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

WIDE = 8192  # measured: from here on groups of 16 beat groups of 8


class Selected(NamedTuple):
    """The latents that stay on; an entry of value 0 is nothing, and its index is arbitrary."""

    indices: Int[Tensor, "n_tokens k"]
    values: Float[Tensor, "n_tokens k"]


def strongest(pre: Float[Tensor, "n_tokens n_latents"], k: int) -> Selected:
    """The k largest of ReLU(pre) of each token, in no particular order."""
    selected = largest(pre, k)
    return Selected(selected.indices, selected.values.relu())


def strongest_of_either_sign(pre: Float[Tensor, "n_tokens n_latents"], k: int) -> Selected:
    """The k entries of each token farthest from zero, with their signs, in no particular order."""
    indices = largest(pre.abs(), k).indices
    return Selected(indices, pre.gather(1, indices))


def largest(pre: Float[Tensor, "n_tokens n_latents"], k: int) -> Selected:
    """The exact k largest entries of each token, in no particular order, whatever their sign."""
    group = 16 if pre.shape[1] >= WIDE else 8
    if pre.device.type == "cpu" and pre.shape[1] % group == 0 and pre.shape[1] // group >= 2 * k:
        return grouped_top_k(pre, k, group)
    found = pre.topk(k, dim=1, sorted=False)
    return Selected(found.indices, found.values)


def grouped_top_k(pre: Float[Tensor, "n_tokens n_latents"], k: int, group: int) -> Selected:
    """The exact top k by way of the k groups with the largest maxima; latent f is in group f mod n_groups."""
    n_groups = pre.shape[1] // group
    by_group = pre.view(pre.shape[0], group, n_groups)
    chosen = by_group.amax(1).topk(k, dim=1, sorted=False).indices
    candidates = by_group.gather(2, chosen[:, None, :].expand(-1, group, -1)).reshape(pre.shape[0], -1)
    found = candidates.topk(k, dim=1, sorted=False)
    indices = chosen.gather(1, found.indices % k) + (found.indices // k) * n_groups
    return Selected(indices, found.values)


def above_threshold(pre: Float[Tensor, "n_tokens n_latents"], threshold: Float[Tensor, " n_latents"]) -> Selected:
    """Each latent whose value exceeds its threshold (and zero), as many columns as the busiest token needs."""
    active = (pre > threshold) & (pre > 0)
    width = max(int(active.sum(1).max()), 1) if pre.shape[0] else 1
    found = torch.where(active, pre, 0.0).topk(width, dim=1, sorted=False)
    return Selected(found.indices, found.values)
