"""Ratings: answers as three parallel arrays of codes, the one input of every statistic.

`value` is 1..n_categories, or 0 where the annotator could not tell. Feature and annotator codes are contiguous from 0,
so that they index arrays. One row per annotator and feature: repeats and revisions are resolved before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.figures import Counts

CANNOT_TELL = 0
INTERPRETABLE_FROM = 3
"""Design.md §8: an answer of 3 (mostly) or 4 (clearly) counts as interpretable."""


class Ratings(NamedTuple):
    feature: npt.NDArray[np.int32]
    annotator: npt.NDArray[np.int32]
    value: npt.NDArray[np.int8]
    n_features: int
    n_annotators: int

    def counts(self) -> Counts:
        return Counts(self.value.size, self.n_features, int(np.unique(self.annotator).size))

    def where(self, keep: npt.NDArray[np.bool_]) -> Ratings:
        """The rows kept, with codes made contiguous again."""
        return make_ratings(self.feature[keep], self.annotator[keep], self.value[keep])

    def told(self) -> Ratings:
        """Without the answers "cannot tell", which have no place on the scale."""
        return self.where(self.value != CANNOT_TELL)


def make_ratings(feature: npt.ArrayLike, annotator: npt.ArrayLike, value: npt.ArrayLike) -> Ratings:
    """Ratings from any sortable codes; rows come back sorted by feature."""
    feature_names, features = np.unique(np.asarray(feature), return_inverse=True)
    annotator_names, annotators = np.unique(np.asarray(annotator), return_inverse=True)
    order = np.argsort(features, kind="stable")
    values = np.asarray(value, dtype=np.int8)
    return Ratings(
        features[order].astype(np.int32),
        annotators[order].astype(np.int32),
        values[order],
        feature_names.size,
        annotator_names.size,
    )
