"""Adjudication: how often a majority was overturned, and how well each annotator agrees with the verdicts.

Verdicts are any codes; a tie of the answers is no majority and cannot be overturned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analysis.statistics.categories import share, wilson
from analysis.statistics.figures import Figure, bare
from analysis.statistics.measured import Measured
from analysis.statistics.wording import Words


class Agreed(NamedTuple):
    annotator: str
    n: int
    n_agreed: int
    low: float  # Wilson's interval
    high: float

    @property
    def share(self) -> float:
        return self.n_agreed / self.n


def majority(verdicts: Sequence[Hashable]) -> Hashable | None:
    """The verdict of more than half; None where there is none."""
    if not verdicts:
        return None
    verdict, n = Counter(verdicts).most_common(1)[0]
    return verdict if 2 * n > len(verdicts) else None


def share_overturned(
    measured: Measured, rng: np.random.Generator, *, of: str, n_resamples: int | None = None
) -> Figure:
    """Values: 1 where the adjudicated verdict is not that of the majority; the annotator is the adjudicator."""
    return share(measured, rng, of=of, n_resamples=n_resamples)


def agreement_with_verdicts(
    answers: Mapping[str, Sequence[tuple[Hashable, Hashable]]],
) -> list[Agreed]:
    """Per annotator the pairs (own verdict, adjudicated verdict)."""
    found = []
    for annotator, pairs in sorted(answers.items()):
        n_agreed = sum(own == settled for own, settled in pairs)
        found.append(Agreed(annotator, len(pairs), n_agreed, *wilson(n_agreed, len(pairs))))
    return found


def agreement_figure(agreed: Agreed, of: str) -> Figure:
    counts = Measured(*(np.zeros(agreed.n, np.int32),) * 2, np.zeros((0, agreed.n)), agreed.n, 1).counts()
    return bare(of, agreed.share, counts, Words("Wilson's interval over features"))._replace(
        low=agreed.low, high=agreed.high
    )
