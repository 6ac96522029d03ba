"""The raw answers of a study as compact arrays, read from the database or from an export.

Both readers yield the same rows in the same order, so that a report recomputed from an export shows the same numbers.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from annotation.models import Annotation, Study

CHUNK = 5000


class AnswerRow(NamedTuple):
    item: int
    annotator: str  # the pseudonymous code
    patch_rating: int | None  # None: cannot tell
    image_rating: int | None
    is_current: bool
    is_late_extra: bool
    is_simulated: bool
    excluded_reason: str
    repeat_of: int | None
    condition: str
    block: int
    dictionary: str


class ItemFacts(NamedTuple):
    condition: str
    block: int
    dictionary: str


class Tally(NamedTuple):
    """Every row of the study is in exactly one of these."""

    n_rows: int
    n_used: int
    n_used_simulated: int
    n_revised: int
    n_late_extra: int
    n_repeats: int
    n_simulated_left_out: int
    excluded: dict[str, int]  # by reason

    @property
    def n_excluded(self) -> int:
        return sum(self.excluded.values())


class Answers(NamedTuple):
    item: npt.NDArray[np.int64]
    annotator: npt.NDArray[np.int32]
    ratings: dict[str, npt.NDArray[np.int8]]  # by level; 0 = cannot tell
    facts: dict[int, ItemFacts]
    n_annotators: int
    tally: Tally


LEVELS = ("patch", "image")
LEVEL_WORDS = {"patch": "do the patches share something you could name?", "image": "do the images?"}


def rows_of_study(study: Study) -> Iterator[AnswerRow]:
    """Streamed in the order in which the answers came."""
    query = Annotation.objects.filter(study=study).order_by("id")
    columns = query.values_list(
        "item_id",
        "annotator__annotator_code",
        "patch_rating",
        "image_rating",
        "is_current",
        "is_late_extra",
        "is_simulated",
        "excluded_reason",
        "item__repeat_of_id",
        "item__condition",
        "item__feature__block",
        "item__feature__dictionary__name",
    )
    return map(AnswerRow._make, columns.iterator(chunk_size=CHUNK))


def collect(rows: Iterable[AnswerRow], *, include_simulated: bool) -> Answers:
    """The answers in force, and a tally of the rest by the reason for which they are left out."""
    items, annotators = array("q"), array("i")
    ratings = {level: array("b") for level in LEVELS}
    codes: dict[str, int] = {}
    facts: dict[int, ItemFacts] = {}
    distinct: dict[ItemFacts, ItemFacts] = {}  # thousands of items share one
    left_out: Counter[str] = Counter()
    excluded: Counter[str] = Counter()
    n_simulated = 0
    for row in rows:
        why = _left_out(row, include_simulated=include_simulated)
        if why == "excluded":
            excluded[row.excluded_reason] += 1
        if why:
            left_out[why] += 1
            continue
        n_simulated += row.is_simulated
        items.append(row.item)
        annotators.append(codes.setdefault(row.annotator, len(codes)))
        ratings["patch"].append(row.patch_rating or 0)
        ratings["image"].append(row.image_rating or 0)
        if row.item not in facts:
            fact = ItemFacts(row.condition, row.block, row.dictionary)
            facts[row.item] = distinct.setdefault(fact, fact)
    tally = Tally(
        n_rows=len(items) + sum(left_out.values()),
        n_used=len(items),
        n_used_simulated=n_simulated,
        n_revised=left_out["revised"],
        n_late_extra=left_out["late"],
        n_repeats=left_out["repeat"],
        n_simulated_left_out=left_out["simulated"],
        excluded=dict(sorted(excluded.items())),
    )
    return Answers(
        np.array(items, dtype=np.int64),
        _by_name(np.array(annotators, dtype=np.int32), codes),
        {level: np.array(values, dtype=np.int8) for level, values in ratings.items()},
        facts,
        len(codes),
        tally,
    )


def _left_out(row: AnswerRow, *, include_simulated: bool) -> str:
    """The first reason that applies, or nothing."""
    if row.is_simulated and not include_simulated:
        return "simulated"
    if not row.is_current:
        return "revised"
    if row.is_late_extra:
        return "late"
    if row.excluded_reason:
        return "excluded"
    return "repeat" if row.repeat_of is not None else ""


def _by_name(annotators: npt.NDArray[np.int32], codes: dict[str, int]) -> npt.NDArray[np.int32]:
    """Numbered by name, not by who answered first: figures do not hang on the order of rows."""
    rank = np.zeros(len(codes), dtype=np.int32)
    for position, name in enumerate(sorted(codes)):
        rank[codes[name]] = position
    return rank[annotators]
