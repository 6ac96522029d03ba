"""How far two dictionaries have the same latents: the greatest cosine between decoder directions, and its null.

For a latent r of dictionary A with decoder direction v_r, MCS(r) = max over the latents s of B of cos(v_r, w_s) (the
feature alignment of research/ffkv_saebench.md §1.5). Among many random directions in few dimensions some lie near
anything: with N directions in d dimensions the greatest cosine is about sqrt(2 ln N / d), .32 at its 99th percentile
for a ViT-Ti and 16 times its width. So each value comes with its percentile among those of random directions against a
random dictionary of B's shape.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

ROWS_AT_ONCE = 512
NULL_DIRECTIONS = 4096


class Nearest(NamedTuple):
    """For each direction its greatest cosine with another dictionary, and which latent that is."""

    cosine: Float[Tensor, " n"]
    latent: Int[Tensor, " n"]


class BothWays(NamedTuple):
    """The nearest in B of the rows of A, and the nearest among those rows of each latent of B."""

    rows: Nearest
    columns: Nearest


def nearest_both_ways(
    a: Float[Tensor, "n_a d_model"], b: Float[Tensor, "n_b d_model"], *, either_sign: bool = False
) -> BothWays:
    """From one product of unit directions; of equal cosines the lower latent counts.

    With ``either_sign`` the cosine's absolute value counts: where a latent has two poles, −v is a direction of it too.
    """
    cosines = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    cosines = cosines.abs() if either_sign else cosines
    return BothWays(Nearest(*first_maximum(cosines, dim=1)), Nearest(*first_maximum(cosines, dim=0)))


def first_maximum(values: Float[Tensor, "n m"], dim: int) -> tuple[Tensor, Tensor]:
    """The maximum along a dimension and the first place that has it, on every device."""
    greatest = values.amax(dim=dim, keepdim=True)
    return greatest.squeeze(dim), (values == greatest).byte().argmax(dim=dim)


def merge_columns(parts: list[Nearest]) -> Nearest:
    """The greatest over parts of A, the first of equals."""
    cosines = torch.stack([part.cosine for part in parts])
    cosine, which = first_maximum(cosines, dim=0)
    latents = torch.stack([part.latent for part in parts])
    return Nearest(cosine, latents.gather(0, which[None]).squeeze(0))


def null_cosines(
    n_latents: int,
    d_model: int,
    generator: torch.Generator,
    n_directions: int = NULL_DIRECTIONS,
    *,
    either_sign: bool = False,
    scale: Float[Tensor, " d_model"] | None = None,
) -> Float[Tensor, " n_directions"]:
    """Greatest cosines of random directions with a random dictionary of this shape, rising.

    With ``scale`` the dimensions of all of them are multiplied by it: the more uneven it is, the nearer they lie.
    """
    shape = torch.ones(d_model) if scale is None else scale.cpu()
    dictionary = F.normalize(torch.randn(n_latents, d_model, generator=generator) * shape, dim=1)
    found = []
    for start in range(0, n_directions, ROWS_AT_ONCE):
        n = min(ROWS_AT_ONCE, n_directions - start)
        directions = F.normalize(torch.randn(n, d_model, generator=generator) * shape, dim=1)
        cosines = directions @ dictionary.T
        found.append((cosines.abs() if either_sign else cosines).amax(dim=1))
    return torch.cat(found).sort().values


def percentiles(values: Float[Tensor, " n"], null: Float[Tensor, " n_null"]) -> Float[Tensor, " n"]:
    """The share of the null at or below each value, in percent; `null` rises."""
    return 100.0 * torch.searchsorted(null, values.contiguous(), right=True).double() / null.numel()


def bins_of(cosines: Float[Tensor, " n"], n_bins: int) -> Int[Tensor, " n"]:
    """Equal bins of [0, 1]; what lies below 0 falls into the first, 1 into the last."""
    return (cosines * n_bins).floor().long().clamp(0, n_bins - 1)


def draw_from_bins(bins: Int[Tensor, " n"], n_bins: int, n_each: int, generator: torch.Generator) -> list[int]:
    """So many entries of each bin, or all there are; bin by bin, each in its order."""
    chosen: list[int] = []
    for number in range(n_bins):
        members = (bins == number).nonzero().squeeze(1)
        order = torch.randperm(members.numel(), generator=generator)[:n_each]
        chosen += members[order].sort().values.tolist()
    return chosen
