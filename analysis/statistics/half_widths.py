"""What to expect of a study before it runs: half-widths of intervals.

The mean of F features judged by `overlap` of A annotators each has the variance s_f / F + s_a / A + s_e / (F overlap)
(components.py); the interval is as wide as that of two_way.py will be.
"""

from __future__ import annotations

import math

from analysis.statistics.components import Components
from analysis.statistics.two_way import half_width


def expected_half_width(components: Components, n_features: int, n_annotators: int, overlap: float) -> float:
    """Of the 95 % interval of a mean; `overlap` is the answers per feature, also where it is no whole number."""
    if n_features < 2 or n_annotators < 1 or overlap <= 0:
        return math.inf
    of_answers = components.residual / (n_features * overlap)
    of_features = components.feature / n_features + of_answers
    if n_annotators == 1:
        return half_width(math.sqrt(of_features), n_features - 1)
    of_annotators = components.annotator / n_annotators + of_answers
    variance = of_features + of_annotators - of_answers
    spread = of_features**2 / (n_features - 1) + of_annotators**2 / (n_annotators - 1)
    return half_width(math.sqrt(variance), variance**2 / spread if spread > 0 else math.inf)


def share_components(share: float, feature_sd: float = 0.18, annotator_sd: float = 0.05) -> Components:
    """Of a yes-or-no answer without a pilot: spreads of true shares as in research/annotation.md §3."""
    total = share * (1 - share)
    feature, annotator = min(feature_sd**2, total / 2), min(annotator_sd**2, total / 4)
    return Components(feature, annotator, total - feature - annotator)
