"""Strengths of sets from paired comparisons with ties (Davidson, 1970).

P(i wins) : P(j wins) : P(tie) = s_i : s_j : v sqrt(s_i s_j). In logs it is a multinomial logit, log u_i = t_i,
u_j = t_j, u_tie = (t_i + t_j) / 2 + log v, and its likelihood is concave: Newton's steps fit all resamples at once. A
small ridge keeps a set that won or lost everything finite. Log-strengths are reported less the mean of all sets; they
do not hang on the order of comparisons, as Elo ratings do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import Floats
from analysis.statistics.figures import Counts, Figure, undefined
from analysis.statistics.measured import Measured, Values
from analysis.statistics.two_way import Statistic, estimate, figures_from
from analysis.statistics.wording import Words

RIDGE = 0.01
N_STEPS = 30
CLOSE = 1e-9
LARGEST_STEP = 2.0
FIRST, SECOND, TIE = 0, 1, 2


class Comparisons(NamedTuple):
    """`cell` of each answer is 3 * place of its pair of sets in `pairs` + outcome (first, second, tie)."""

    pairs: list[tuple[int, int]]
    n_sets: int

    def cell(self, first: int, second: int, outcome: int) -> int:
        if first > second:
            first, second, outcome = second, first, {FIRST: SECOND, SECOND: FIRST, TIE: TIE}[outcome]
        return 3 * self.pairs.index((first, second)) + outcome


def comparisons_of(n_sets: int) -> Comparisons:
    return Comparisons(list(combinations(range(n_sets), 2)), n_sets)


def fit(counts: Floats, comparisons: Comparisons) -> Floats:
    """`counts` [3 * pair, r] -> log-strengths of the sets, their mean 0, and log v [sets + 1, r]."""
    design = _design(comparisons)
    observed = counts.T.reshape(-1, len(comparisons.pairs), 3)
    n = observed.sum(axis=2)
    theta = np.zeros((observed.shape[0], comparisons.n_sets + 1))
    ridge = RIDGE * np.eye(comparisons.n_sets + 1)
    for _ in range(N_STEPS):
        utility = theta @ design.reshape(-1, design.shape[2]).T
        odds = np.exp(utility.reshape(observed.shape))
        expected = odds / odds.sum(axis=2, keepdims=True) * n[:, :, None]
        gradient = (observed - expected).reshape(len(theta), -1) @ design.reshape(-1, design.shape[2]) - RIDGE * theta
        mean = np.einsum("rpo,pok->rpk", expected, design)
        weight = np.divide(1.0, n, out=np.zeros_like(n), where=n > 0)
        second = np.einsum("rpo,pok,pol->rkl", expected, design, design, optimize=True)
        information = second - np.einsum("rpk,rpl,rp->rkl", mean, mean, weight, optimize=True) + ridge
        step = np.linalg.solve(information, gradient[:, :, None])[:, :, 0]
        theta += np.clip(step, -LARGEST_STEP, LARGEST_STEP)
        if np.abs(step).max(initial=0) < CLOSE:
            break
    strengths = theta[:, :-1] - theta[:, :-1].mean(axis=1, keepdims=True)
    return np.concatenate([strengths, theta[:, -1:]], axis=1).T


def _design(comparisons: Comparisons) -> Floats:
    """[pair, outcome, parameter]: how much each parameter adds to the utility of each outcome."""
    design = np.zeros((len(comparisons.pairs), 3, comparisons.n_sets + 1))
    for index, (first, second) in enumerate(comparisons.pairs):
        design[index, FIRST, first] = design[index, SECOND, second] = 1
        design[index, TIE, [first, second]] = 0.5
        design[index, TIE, -1] = 1
    return design


class Strengths(NamedTuple):
    of_sets: list[Figure]  # log-strength less the mean of all sets
    differences: list[Figure]  # per pair of sets, in the order of `pairs`: first less second


def strengths(
    measured: Measured,
    rng: np.random.Generator,
    *,
    names: Sequence[str],
    n_resamples: int | None = None,
) -> Strengths:
    """Values are one row: the cell of each comparison (`Comparisons.cell`). `names` of the sets."""
    comparisons = comparisons_of(len(names))
    of_sets = [Words("log-strength: %(name)s", name=name) for name in names]
    of_pairs = [
        Words("log-strength: %(first)s less %(second)s", first=names[a], second=names[b]) for a, b in comparisons.pairs
    ]
    counts = measured.counts()
    if counts.n_answers == 0 or len(names) < 2:
        reason = Words("no comparisons yet")
        return Strengths(*([undefined(of, counts, reason) for of in group] for group in (of_sets, of_pairs)))
    cells = np.arange(3 * len(comparisons.pairs))[:, None]

    def columns(values: Values) -> Values:
        return np.asarray(values[0] == cells)

    def finish(sums: Floats) -> Floats:
        fitted = fit(sums, comparisons)[:-1]
        first, second = np.array(comparisons.pairs).T
        return np.concatenate([fitted, fitted[first] - fitted[second]])

    estimates = estimate(measured, Statistic(finish, columns), rng, n_resamples=n_resamples)
    note = _ties_note(measured.values[0], counts)
    figures = figures_from(estimates, of_sets + of_pairs, counts, bounds=(-np.inf, np.inf), note=note)
    return Strengths(figures[: len(names)], figures[len(names) :])


def _ties_note(cells: npt.NDArray[np.int64], counts: Counts) -> str:
    return Words(
        "%(n_ties)s of %(n_answers)s comparisons are ties",
        n_ties=int(np.sum(cells % 3 == TIE)),
        n_answers=counts.n_answers,
    )


def clusters_of_pairs(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A code per comparison: those whose pairs share a feature belong together and are resampled together.

    `first` and `second` are the features of each comparison. Where chains of shared features join most comparisons,
    nothing would be left to resample; then the pair itself is the unit.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    features, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    left, right = codes[: first.size], codes[first.size :]
    graph = coo_array((np.ones(left.size), (left, right)), shape=(features.size, features.size))
    _, component = connected_components(graph, directed=False)
    clusters = component[left]
    if first.size and np.bincount(clusters).max() > 0.2 * first.size:
        _, clusters = np.unique(left.astype(np.int64) * features.size + right, return_inverse=True)
    return np.asarray(clusters, dtype=np.int64)
