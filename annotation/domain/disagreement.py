"""How far the answers to one item lie apart, question by question, from 0 (all alike) to 1.

Ratings are ordinal: the distance between the lowest and the highest, as a share of the scale. Choices, cells and
categories are nominal: the entropy of the answers over the largest it could be with as many answers, so that a split
vote of a protocol with a right answer is 1 when it is even. Pictures and patches marked: 1 minus the mean overlap
(Jaccard) of two people. Words are not compared. Nothing here knows what the item is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import log2
from typing import Any, NamedTuple

from annotation.domain.protocols import Kind, Question

CONFIDENCE = "confidence"


class Spread(NamedTuple):
    """One question's disagreement; `given` are the answers to it, in the order of the answers."""

    question: Question
    amount: float
    given: tuple[Any, ...]


class Disagreement(NamedTuple):
    """Of one item: the largest over what has to be answered, then the mean over all, decide its place in the queue."""

    largest: float
    mean: float
    spreads: tuple[Spread, ...]


def compared(questions: Sequence[Question]) -> list[Question]:
    """The questions whose answers can be held against one another."""
    return [one for one in questions if one.kind is not Kind.TEXT and one.column != CONFIDENCE]


def disagreement(questions: Sequence[Question], payloads: Sequence[Mapping[str, Any]]) -> Disagreement:
    spreads = tuple(spread(question, payloads) for question in compared(questions))
    decisive = [one.amount for one in spreads if one.question.is_required] or [0.0]
    mean = sum(one.amount for one in spreads) / len(spreads) if spreads else 0.0
    return Disagreement(max(decisive), mean, spreads)


def spread(question: Question, payloads: Sequence[Mapping[str, Any]]) -> Spread:
    given = tuple(payload.get(question.name) for payload in payloads)
    if question.kind in {Kind.CELLS, Kind.MARKS}:
        return Spread(question, 1 - mean_overlap(given), given)
    if is_ordinal(question):
        return Spread(question, ordinal_spread(question, given), given)
    n_possible = len(question.values) or question.n_cells or len(given)
    return Spread(question, relative_entropy(given, n_possible), given)


def is_ordinal(question: Question) -> bool:
    values = [value for value in question.values if value is not None]
    return question.kind is Kind.CHOICE and len(values) > 2 and all(isinstance(value, int) for value in values)


def ordinal_spread(question: Question, given: Sequence[Any]) -> float:
    """'Cannot tell' lies nowhere on the scale, and is left out."""
    told = [value for value in given if value is not None]
    scale = [value for value in question.values if isinstance(value, int)]
    return (max(told) - min(told)) / (max(scale) - min(scale)) if told else 0.0


def relative_entropy(given: Sequence[Any], n_possible: int) -> float:
    n = len(given)
    if n < 2:
        return 0.0
    shares = [count / n for count in Counter(map(json.dumps, given)).values()]
    return -sum(share * log2(share) for share in shares) / log2(max(2, min(n, n_possible))) + 0.0


def mean_overlap(given: Sequence[Any]) -> float:
    sets = [frozenset(map(json.dumps, value or [])) for value in given]
    pairs = [len(one & other) / len(one | other) if one | other else 1.0 for one, other in combinations(sets, 2)]
    return sum(pairs) / len(pairs) if pairs else 1.0
