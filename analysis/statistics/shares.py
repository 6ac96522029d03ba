"""Share interpretable: by the majority of each feature's judgements, and of the judgements themselves.

A judgement is interpretable at 3 or 4; "cannot tell" is a judgement that is not. A feature is interpretable when more
than half of its judgements are; a tie is no majority.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import Block, Blocks, Weights, n_resamples_for, ratio, resampled_sums
from analysis.statistics.figures import Counts, Figure, exact_bound, undefined, with_interval
from analysis.statistics.ratings import INTERPRETABLE_FROM, Ratings
from analysis.statistics.wording import Several, Words


class Votes(NamedTuple):
    """Judgements per feature."""

    n_judgements: npt.NDArray[np.int64]
    n_interpretable: npt.NDArray[np.int64]

    def majority(self) -> npt.NDArray[np.bool_]:
        return 2 * self.n_interpretable > self.n_judgements

    def n_ties(self) -> int:
        return int(np.sum((2 * self.n_interpretable == self.n_judgements) & (self.n_judgements > 0)))


class Share(NamedTuple):
    """Of one group of features."""

    features: Figure
    judgements: Figure
    n_ties: int


def count_votes(ratings: Ratings) -> Votes:
    """Ratings come sorted by feature: those of a feature lie from one start to the next."""
    if ratings.n_features == 0:
        return Votes(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    starts = np.searchsorted(ratings.feature, np.arange(ratings.n_features, dtype=ratings.feature.dtype))
    positive = (ratings.value >= INTERPRETABLE_FROM).astype(np.int32)
    return Votes(np.diff(starts, append=ratings.value.size), np.add.reduceat(positive, starts).astype(np.int64))


def share_interpretable(
    ratings: Ratings,
    rng: np.random.Generator,
    *,
    group: npt.NDArray[np.int64],
    names: Sequence[str],
    n_resamples: int | None = None,
) -> list[Share]:
    """One share per group of features; `group` [n_features] indexes `names`."""
    votes = count_votes(ratings)
    n = n_resamples or n_resamples_for(ratings.value.size)
    by_feature, by_judgement = _resampled(ratings, group, len(names), rng, n)
    return [
        _share(ratings, votes, group == index, name, by_feature[index], by_judgement[index])
        for index, name in enumerate(names)
    ]


def _resampled(
    ratings: Ratings, group: npt.NDArray[np.int64], n_groups: int, rng: np.random.Generator, n_resamples: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Resampled shares [group, resample], of features by majority and of judgements."""
    from scipy.sparse import csr_array

    def sums(block: Block, annotators: Weights, features: Weights) -> npt.NDArray[np.float32]:
        [positive] = block.tables
        n_judgements, n_interpretable = block.judged @ annotators, positive @ annotators
        # A tie that only resampling made counts half, or it would pull every resample down.
        win = (np.sign(2 * n_interpretable - n_judgements) + 1) / 2
        reached = features * (n_judgements > 0)
        own = group[block.features]
        members = csr_array((np.ones(own.size, np.float32), (own, np.arange(own.size))), shape=(n_groups, own.size))
        per_feature = (reached * win, reached, features * n_interpretable, features * n_judgements)
        return np.concatenate([members @ cells for cells in per_feature])

    if ratings.n_features == 0:
        nothing = np.full((n_groups, n_resamples), np.nan)
        return nothing, nothing
    blocks = Blocks(ratings, lambda rows: [ratings.value[rows] >= INTERPRETABLE_FROM])
    totals = resampled_sums(ratings, blocks, sums, rng, n_resamples=n_resamples, stratum=group)
    won, reached, positive, judged = np.split(totals, 4)
    return ratio(won, reached), ratio(positive, judged)


def _share(
    ratings: Ratings,
    votes: Votes,
    members: npt.NDArray[np.bool_],
    name: str,
    by_feature: npt.NDArray[np.float64],
    by_judgement: npt.NDArray[np.float64],
) -> Share:
    rows = members[ratings.feature]
    counts = Counts(int(rows.sum()), int(members.sum()), int(np.unique(ratings.annotator[rows]).size))
    of_features = Words("share of features interpretable by majority: %(name)s", name=name)
    of_judgements = Words("share of judgements interpretable: %(name)s", name=name)
    if counts.n_answers == 0:
        reason = Words("no answers yet")
        return Share(undefined(of_features, counts, reason), undefined(of_judgements, counts, reason), 0)
    chosen = Votes(votes.n_judgements[members], votes.n_interpretable[members])
    n_ties = chosen.n_ties()
    note = ties_note(n_ties)
    share = float(chosen.n_interpretable.sum() / chosen.n_judgements.sum())
    return Share(
        _bounded(with_interval(of_features, float(chosen.majority().mean()), counts, by_feature, note)),
        _bounded(with_interval(of_judgements, share, counts, by_judgement)),
        n_ties,
    )


def _bounded(figure: Figure) -> Figure:
    """A share lies between 0 and 1; where all features are alike, the exact bound is used."""
    if figure.value in (0.0, 1.0):
        ends = exact_bound(figure.of, figure.value, Counts(*figure[4:7]), (0.0, 1.0))
        note = Several([figure.note, Words("all alike: exact bound over features")])
        return figure._replace(low=ends.low, high=ends.high, note=note)
    return figure if figure.low is None else figure._replace(low=max(figure.low, 0.0))


def ties_note(n_ties: int) -> str:
    if n_ties == 1:
        return Words("1 tie counted as no majority")
    return Words("%(n)s ties counted as no majority", n=n_ties) if n_ties else ""
