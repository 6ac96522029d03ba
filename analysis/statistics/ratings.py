"""Ratings: answers as three parallel arrays of codes, the one input of every statistic.

`value` is 1..n_categories, or 0 where the annotator could not tell. Feature and annotator codes are contiguous from 0,
so that they index arrays. One row per annotator and feature: repeats and revisions are resolved before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.codes import Codes, contiguous
from analysis.statistics.figures import Counts

CANNOT_TELL = 0
INTERPRETABLE_FROM = 3
"""Design.md §8: an answer of 3 (mostly) or 4 (clearly) counts as interpretable."""


class Ratings(NamedTuple):
    feature: Codes
    annotator: Codes
    value: npt.NDArray[np.int8]
    n_features: int
    n_annotators: int

    def counts(self) -> Counts:
        return Counts(self.value.size, self.n_features, self.n_annotators)

    def where(self, keep: npt.NDArray[np.bool_]) -> Ratings:
        """The rows kept, with codes made contiguous again."""
        if keep.all():
            return self
        return make_ratings(self.feature[keep], self.annotator[keep], self.value[keep])

    def told(self) -> Ratings:
        """Without the answers "cannot tell", which have no place on the scale."""
        return self.where(self.value != CANNOT_TELL)


def make_ratings(feature: npt.ArrayLike, annotator: npt.ArrayLike, value: npt.ArrayLike) -> Ratings:
    """Ratings from any sortable codes; rows come back sorted by feature."""
    features, n_features = contiguous(np.asarray(feature))
    annotators, n_annotators = contiguous(np.asarray(annotator))
    values = np.asarray(value, dtype=np.int8)
    if np.any(features[1:] < features[:-1]):
        order = np.argsort(features, kind="stable")
        features, annotators, values = features[order], annotators[order], values[order]
    return Ratings(features, annotators, values, n_features, n_annotators)
