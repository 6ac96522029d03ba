"""What each protocol makes of one answer: the numbers that its report is computed from.

A measure is a few numbers per answer, so that a million answers fit into little memory. The same functions serve the
report, its recomputation from an export, and the simulated studies of `bench_coverage`. An answer that cannot be
scored (its stimulus has no truth) is None and is counted apart; "cannot tell" is an answer and has a code of its own.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.bradley_terry import FIRST, SECOND, TIE
from analysis.statistics.patch_marks import chance_of_precision, precision
from annotation.domain.protocols import PROTOCOLS
from annotation.domain.protocols.nature_origin import NATURES
from annotation.domain.protocols.verification import judgements
from annotation.models import Condition

UNTOLD = -1
"""The code of "cannot tell"."""
YES_NO = {"yes": 1, "no": 0, None: UNTOLD}
OUTCOMES = {
    ("left", "feature"): FIRST,
    ("right", "other"): FIRST,
    ("left", "other"): SECOND,
    ("right", "feature"): SECOND,
}

Payload = Mapping[str, Any]
Options = Mapping[str, Any]
Numbers = tuple[float, ...] | None


class Measure(NamedTuple):
    """`names` of the numbers, their smallest numpy type, and the function that reads an answer."""

    names: tuple[str, ...]
    type: str
    of: Callable[[Payload, Payload, str, Options], Numbers]
    needs_payload: bool = True
    needs_truth: bool = False
    is_by_item: bool = False  # items, not features, are what is resampled: the feature need not be kept


def _ratings(payload: Payload, truth: Payload, condition: str, options: Options) -> Numbers:
    """0 where the annotator cannot tell."""
    return payload["patch_rating"] or 0, payload["image_rating"] or 0


def _two_alternative(payload: Payload, truth: Payload, condition: str, options: Options) -> Numbers:
    right = PROTOCOLS["two-alternative"].score(payload, truth, options)
    return None if right is None else (right, payload.get("confidence") or 0)


def _intruder(payload: Payload, truth: Payload, condition: str, options: Options) -> Numbers:
    right = PROTOCOLS["intruder"].score(payload, truth, options)
    return None if right is None else (right, payload["intruder"])


def _verification(payload: Payload, truth: Payload, condition: str, options: Options) -> Numbers:
    """Counts over the images; images that the annotator could not tell count as not called a match."""
    if "matches" not in truth:
        return None
    said = judgements(payload, len(truth["matches"]))
    kinds = truth.get("kinds") or ["active" if is_match else "random" for is_match in truth["matches"]]
    hits = [called is True for called, is_match in zip(said, truth["matches"], strict=True) if is_match]
    alarms = [
        (called is True, kind)
        for called, kind, is_match in zip(said, kinds, truth["matches"], strict=True)
        if not is_match
    ]
    hard = [called for called, kind in alarms if kind == "hard"]
    marked = sum(1 << index for index, called in enumerate(said) if called)
    grade = (payload.get("match") or 0) if "match" in payload else UNTOLD
    return sum(hits), len(hits), sum(called for called, _ in alarms), len(alarms), sum(hard), len(hard), grade, marked


def _pairwise(payload: Payload, truth: Payload, condition: str, options: Options) -> Numbers:
    """Outcome for the item's feature against the other, and the side chosen (UNTOLD for a tie)."""
    easier = payload["easier"]
    if easier == "tie":
        return TIE, UNTOLD
    if "left" not in truth:
        return None
    return OUTCOMES[easier, truth["left"]], float(easier == "left")


def _patch_marking(payload: Payload, truth: Payload, condition: str, options: Options) -> Numbers:
    """Area and average precision, each less its chance under shifted maps."""
    area = PROTOCOLS["patch-marking"].score(payload, truth, options)
    if area is None:
        return None
    marks = payload["marks"]
    gains = [
        _precision_gain(text, tuple(patch for cell, patch in marks if cell == index))
        for index, text in enumerate(truth["maps"])
    ]
    return area - 0.5, sum(gains) / len(gains)


@lru_cache(maxsize=4096)
def _patch_map(text: str) -> npt.NDArray[np.float64]:
    """Maps are square."""
    flat = np.frombuffer(base64.b64decode(text), dtype=np.uint8).astype(np.float64)
    side = round(flat.size**0.5)
    return flat.reshape((side, side) if side * side == flat.size else (1, flat.size))


def _precision_gain(text: str, patches: tuple[int, ...]) -> float:
    patch_map = _patch_map(text)
    if not 0 < len(patches) < patch_map.size:
        return 0.0
    marked = np.zeros(patch_map.shape, dtype=bool)
    marked.flat[list(patches)] = True
    return precision(patch_map, marked) - chance_of_precision(patch_map, marked)


def _nature_origin(payload: Payload, truth: Payload, condition: str, options: Options) -> Numbers:
    """Nature, said to be a feature, is a feature."""
    is_feature = condition == Condition.REAL
    right = PROTOCOLS["nature-origin"].score(payload, {"origin": "feature" if is_feature else "control"}, options)
    return NATURES.index(payload["nature"]), float((right == 1.0) == is_feature), is_feature


def _alignment(payload: Payload, truth: Payload, condition: str, options: Options) -> Numbers:
    if "mcs" not in truth:
        return None
    return YES_NO[payload["same"]], truth["mcs"], truth.get("null_percentile", float("nan"))


def _spurious(payload: Payload, truth: Payload, condition: str, options: Options) -> Numbers:
    return (YES_NO[payload["spurious"]],)


def _adjudication(payload: Payload, truth: Payload, condition: str, options: Options) -> Numbers:
    """Whether the verdict is not that of the majority; a tie of the answers cannot be overturned."""
    majority = truth.get("majority")
    return None if majority is None else (float(payload["verdict"] != majority),)


MEASURES: dict[str, Measure] = {
    "rate-describe-categorise": Measure(("patch", "image"), "i1", _ratings, needs_payload=False, is_by_item=True),
    "two-alternative": Measure(("right", "confidence"), "i1", _two_alternative, needs_truth=True),
    "intruder": Measure(("right", "cell"), "i1", _intruder, needs_truth=True),
    "verification": Measure(
        ("hits", "signals", "alarms", "noises", "hard_alarms", "hard_noises", "grade", "marked"), "i2", _verification,
        needs_truth=True,
    ),
    "pairwise": Measure(("outcome", "left"), "i1", _pairwise, needs_truth=True),
    "patch-marking": Measure(("area", "precision"), "f4", _patch_marking, needs_truth=True),
    "nature-origin": Measure(("nature", "said_feature", "is_feature"), "i1", _nature_origin),
    "alignment": Measure(("same", "cosine", "null_percentile"), "f4", _alignment, needs_truth=True),
    "spurious": Measure(("spurious",), "i1", _spurious),
    "adjudication": Measure(("overturned",), "i1", _adjudication, needs_truth=True),
}  # fmt: skip
