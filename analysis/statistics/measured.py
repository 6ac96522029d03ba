"""Measured answers: who answered on which feature, and what the protocol made of the answer.

`Ratings` hold one small answer each; these hold any numbers per answer in a small type: right or wrong, hits and false
alarms, the code of a choice. Rows come sorted by feature, codes are contiguous from 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.codes import Codes, contiguous
from analysis.statistics.figures import Counts

Values = npt.NDArray[Any]


class Measured(NamedTuple):
    feature: Codes
    annotator: Codes
    values: Values  # [value, answer]
    n_features: int
    n_annotators: int

    def counts(self) -> Counts:
        return Counts(self.feature.size, self.n_features, self.n_annotators)

    def where(self, keep: npt.NDArray[np.bool_]) -> Measured:
        return make_measured(self.feature[keep], self.annotator[keep], self.values[:, keep])


def make_measured(feature: npt.ArrayLike, annotator: npt.ArrayLike, values: npt.ArrayLike) -> Measured:
    """`values` [value, answer] or [answer], of any type."""
    features, n_features = contiguous(np.asarray(feature))
    annotators, n_annotators = contiguous(np.asarray(annotator))
    table = np.atleast_2d(np.asarray(values))
    if np.any(features[1:] < features[:-1]):
        order = np.argsort(features, kind="stable")
        features, annotators, table = features[order], annotators[order], table[:, order]
    return Measured(features, annotators, table, n_features, n_annotators)
