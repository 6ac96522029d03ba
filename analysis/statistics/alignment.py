"""Alignment of two dictionaries: how many pairs people call the same, by bin of the cosine of their directions.

A cosine says little alone: in few dimensions the nearest of many random directions is near too. Beside the share of a
bin stands where its cosines lie among those of random dictionaries of the same size (the null percentile).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import Floats
from analysis.statistics.categories import share
from analysis.statistics.figures import Figure
from analysis.statistics.measured import Measured
from analysis.statistics.wording import Words


class Bin(NamedTuple):
    name: str
    matched: Figure
    mean_cosine: float
    mean_null_percentile: float


def share_matched_by_bin(
    measured: Measured,
    rng: np.random.Generator,
    *,
    bins: npt.NDArray[np.int64],
    cosine: Floats,
    null_percentile: Floats,
    n_resamples: int | None = None,
) -> list[Bin]:
    """Values: 1 where the pair was called the same. The other arrays are per answer; cannot tell is dropped before."""
    found = []
    for index in np.unique(bins):
        rows = bins == index
        name = Words("%(low)s to %(high)s", low=f"{cosine[rows].min():.2f}", high=f"{cosine[rows].max():.2f}")
        of = Words("share of pairs called the same, cosine %(name)s", name=name)
        matched = share(measured.where(rows), rng, of=of, n_resamples=n_resamples)
        found.append(Bin(name, matched, float(cosine[rows].mean()), float(null_percentile[rows].mean())))
    return found
