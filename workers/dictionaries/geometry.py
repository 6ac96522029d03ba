"""How decoder directions lie to each other: within a hookpoint, and between the hookpoints of one dictionary.

    nearest other   max over s ≠ r of cos(v_r, v_s)          near 1: the same direction was learned twice
    across blocks   max over s of cos(v_r, w_s)              a direction that comes again in another block

Among many directions in few dimensions some lie near anything, so each figure stands beside what random directions of
the same number and width reach (alignment.null_cosines). Latents that never fire keep their first direction, so they
are left out of what is compared; they remain among those compared with.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from workers.dictionaries.alignment import (
    ROWS_AT_ONCE,
    BothWays,
    Nearest,
    first_maximum,
    merge_columns,
    nearest_both_ways,
)

NULL_LEVEL = 0.99


def nearest_others(
    directions: Float[Tensor, "n d"], *, start: int = 0, stop: int | None = None, either_sign: bool = False
) -> Nearest:
    """For each direction of a range the nearest of all others, in slices; a single one has cosine −1 and latent 0."""
    unit = F.normalize(directions.float(), dim=1)
    last = unit.shape[0] if stop is None else stop
    parts = []
    for first in range(start, last, ROWS_AT_ONCE):
        rows = unit[first : min(first + ROWS_AT_ONCE, last)]
        cosines = rows @ unit.T
        cosines = cosines.abs() if either_sign else cosines
        own = torch.arange(rows.shape[0], device=unit.device)
        cosines[own, own + first] = -1.0
        parts.append(Nearest(*first_maximum(cosines, dim=1)))
    return join_rows(parts)


def nearest_across(a: Float[Tensor, "n_a d"], b: Float[Tensor, "n_b d"], *, either_sign: bool = False) -> BothWays:
    """The nearest in B of each of A, and in A of each of B, in slices of rows of A."""
    parts = []
    for start in range(0, a.shape[0], ROWS_AT_ONCE):
        part = nearest_both_ways(a[start : start + ROWS_AT_ONCE].float(), b.float(), either_sign=either_sign)
        parts.append(BothWays(part.rows, part.columns._replace(latent=part.columns.latent + start)))
    return BothWays(join_rows([part.rows for part in parts]), merge_columns([part.columns for part in parts]))


def join_rows(parts: list[Nearest]) -> Nearest:
    return Nearest(torch.cat([part.cosine for part in parts]), torch.cat([part.latent for part in parts]))


def similarity_summary(
    cosines: Float[Tensor, " n"], null: Float[Tensor, " n_null"], is_alive: Bool[Tensor, " n"]
) -> dict[str, Any]:
    """Of the live latents: mean, median, and how many lie above the 99th percentile of the null; None of no latent."""
    shown = cosines[is_alive].double()
    level = float(torch.quantile(null.double(), NULL_LEVEL))
    facts: dict[str, Any] = {"n": int(shown.numel()), "null_mean": float(null.mean()), "null_99": level}
    if shown.numel() == 0:
        return facts | {"mean": None, "median": None, "share_above_null_99": None}
    return facts | {
        "mean": float(shown.mean()),
        "median": float(shown.median()),
        "share_above_null_99": float((shown > level).double().mean()),
    }
