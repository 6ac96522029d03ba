"""The raw answers of a study as compact arrays, read from the database or from an export.

Both readers yield the same rows; `collect` sorts them by item, so that a report recomputed from an export shows the
same numbers. An answer is some fourteen bytes: rows are read in chunks and packed into the smallest types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.domain.measures import MEASURES, UNTOLD, Measure
from analysis.statistics.repeats import Pairs
from annotation.models import Annotation, Study

CHUNK = 5000


class AnswerRow(NamedTuple):
    item: int
    feature: int
    annotator: str  # the pseudonymous code
    payload: Mapping[str, Any]
    truth: Mapping[str, Any]
    is_gold_right: bool | None
    is_current: bool
    is_late_extra: bool
    is_simulated: bool
    excluded_reason: str
    repeat_of: int | None
    condition: str
    variant: str
    block: int
    dictionary: str
    other_dictionary: str  # of a pair; otherwise empty
    other_feature: int | None


class Fact(NamedTuple):
    """What many items have in common."""

    condition: str
    variant: str
    block: int
    dictionary: str
    other_dictionary: str


class Tally(NamedTuple):
    """Every row of the study is in exactly one of these."""

    n_rows: int
    n_used: int
    n_used_simulated: int
    n_revised: int
    n_late_extra: int
    n_repeats: int
    n_simulated_left_out: int
    n_unscored: int  # their stimulus has no right answer to compare with
    excluded: dict[str, int]  # by reason

    @property
    def n_excluded(self) -> int:
        return sum(self.excluded.values())


class Answers(NamedTuple):
    """Per answer, sorted by item; `numbers` [number, answer] as `names` say (measures.py)."""

    item: npt.NDArray[Any]
    feature: npt.NDArray[Any]
    other_feature: npt.NDArray[Any]  # 0: none
    annotator: npt.NDArray[Any]  # codes by name
    fact: npt.NDArray[Any]
    gold: npt.NDArray[np.int8]  # 1 right, 0 wrong, UNTOLD: not a gold item
    numbers: npt.NDArray[Any]
    names: tuple[str, ...]
    facts: list[Fact]
    annotators: list[str]
    n_items: int
    repeats: dict[str, Pairs]  # by number: first and repeated answers
    tally: Tally


RATING_COLUMNS = ("patch_rating", "image_rating")
COLUMNS = (
    "item_id",
    "item__feature_id",
    "annotator__annotator_code",
    "is_gold_right",
    "is_current",
    "is_late_extra",
    "is_simulated",
    "excluded_reason",
    "item__repeat_of_id",
    "item__condition",
    "item__variant",
    "item__feature__block",
    "item__feature__dictionary__name",
    "item__other_feature__dictionary__name",
    "item__other_feature_id",
)


def rows_of_study(study: Study, *, only_core: bool = False) -> Iterator[AnswerRow]:
    """Streamed by item, and within it in the order in which the answers came."""
    measure = MEASURES[study.protocol]
    extra = (*(("payload",) if measure.needs_payload else RATING_COLUMNS), *(("item__truth",) * measure.needs_truth))
    wanted = Annotation.objects.filter(study=study, item__is_core=True) if only_core else study.annotations.all()
    query = wanted.order_by("item_id", "id").values_list(*COLUMNS, *extra)
    n = len(COLUMNS)
    for row in query.iterator(chunk_size=CHUNK):
        given, truth = (row[n:-1], row[-1]) if measure.needs_truth else (row[n:], {})
        payload = given[0] if measure.needs_payload else dict(zip(RATING_COLUMNS, given, strict=True))
        yield AnswerRow._make((*row[:3], payload, truth, *row[3:13], row[13] or "", row[14]))


def collect(
    rows: Iterable[AnswerRow], *, protocol: str, options: Mapping[str, Any], include_simulated: bool
) -> Answers:
    """The answers in force, and a tally of the rest by the reason for which they are left out."""
    packer = _Packer(MEASURES[protocol], options, include_simulated)
    iterator = iter(rows)
    while chunk := list(islice(iterator, CHUNK)):
        packer.add(chunk)
    return packer.answers()


class _Packer:
    """Chunks of rows become chunks of small arrays; names become codes."""

    def __init__(self, measure: Measure, options: Mapping[str, Any], include_simulated: bool) -> None:
        self._measure, self._options, self._include_simulated = measure, options, include_simulated
        self._codes: dict[str, int] = {}
        self._facts: dict[Fact, int] = {}
        self._chunks: list[list[npt.NDArray[Any]]] = []
        self._again: list[list[npt.NDArray[Any]]] = []
        self._left_out: Counter[str] = Counter()
        self._excluded: Counter[str] = Counter()
        self._n_used = self._n_simulated = 0

    def add(self, rows: list[AnswerRow]) -> None:
        used: list[tuple[Any, ...]] = []
        again: list[tuple[Any, ...]] = []
        for row in rows:
            why = left_out(row, include_simulated=self._include_simulated)
            numbers = None if why not in ("", "repeat") else self._measure.of(*row[3:5], row.condition, self._options)
            if why == "excluded":
                self._excluded[row.excluded_reason] += 1
            if not why and numbers is None:
                why = "unscored"
            if why:
                self._left_out[why] += 1
            if why == "repeat" and numbers is not None:
                again.append((row.repeat_of, self._code(row.annotator), *numbers))
            elif not why and numbers is not None:
                used.append(self._packed(row, numbers))
        self._n_used += len(used)
        for packed, chunks in ((used, self._chunks), (again, self._again)):
            if packed:
                chunks.append(self._columns(packed))

    def _packed(self, row: AnswerRow, numbers: tuple[float, ...]) -> tuple[Any, ...]:
        self._n_simulated += row.is_simulated
        fact = Fact(row.condition, row.variant, row.block, row.dictionary, row.other_dictionary)
        gold = UNTOLD if row.is_gold_right is None else int(row.is_gold_right)
        code = self._facts.setdefault(fact, len(self._facts))
        feature = 0 if self._measure.is_by_item else row.feature
        return row.item, self._code(row.annotator), feature, row.other_feature or 0, code, gold, *numbers

    def _code(self, annotator: str) -> int:
        return self._codes.setdefault(annotator, len(self._codes))

    def _columns(self, packed: list[tuple[Any, ...]]) -> list[npt.NDArray[Any]]:
        """The numbers last, in the measure's type; codes and keys in the smallest type that holds this chunk."""
        columns = list(zip(*packed, strict=True))
        n = len(self._measure.names)
        keys = [_smallest(np.array(column, dtype=np.int64)) for column in columns[:-n]]
        return [*keys, np.array(columns[-n:], dtype=self._measure.type)]

    def answers(self) -> Answers:
        numbers = np.zeros((len(self._measure.names), 0), dtype=self._measure.type)
        item, annotator, feature, other, fact, gold, numbers = _joined(
            self._chunks, [np.zeros(0, dtype=np.int32)] * 6 + [numbers]
        )
        names = sorted(self._codes)
        rank = np.zeros(len(names), dtype=np.int32)  # by name, not by who answered first
        rank[[self._codes[name] for name in names]] = np.arange(len(names))
        annotator = _smallest(rank[annotator]) if annotator.size else annotator
        if np.any(item[1:] < item[:-1]):
            order = np.argsort(item, kind="stable")
            item, annotator, feature, other, fact, gold = (
                column[order] for column in (item, annotator, feature, other, fact, gold)
            )
            numbers = numbers[:, order]
        n_items = int(np.sum(item[1:] != item[:-1])) + 1 if item.size else 0
        repeats = self._repeats(item, annotator, numbers, rank)
        if self._measure.is_by_item:
            feature = item
        return Answers(
            item, feature, other, annotator, fact, gold.astype(np.int8), numbers, self._measure.names,
            list(self._facts), names, n_items, repeats, self._tally(),
        )  # fmt: skip

    def _repeats(
        self, item: npt.NDArray[Any], annotator: npt.NDArray[Any], numbers: npt.NDArray[Any], rank: npt.NDArray[Any]
    ) -> dict[str, Pairs]:
        """Each repeat beside the same person's first answer, where that one is in force."""
        if not self._again or not item.size:
            return {}
        first_item, code, again = _joined(self._again, [])
        person = rank[code]
        pairs: list[tuple[int, int]] = []
        for place in range(first_item.size):
            start = int(np.searchsorted(item, first_item[place], side="left"))
            stop = int(np.searchsorted(item, first_item[place], side="right"))
            same = np.flatnonzero(annotator[start:stop] == person[place])
            pairs.extend((int(start + first), place) for first in same[:1])
        if not pairs:
            return {}
        before, after = np.array(pairs).T
        return {
            name: Pairs(first_item[after], person[after], numbers[row, before], again[row, after])
            for row, name in enumerate(self._measure.names)
        }

    def _tally(self) -> Tally:
        left = self._left_out
        return Tally(
            n_rows=self._n_used + sum(left.values()),
            n_used=self._n_used,
            n_used_simulated=self._n_simulated,
            n_revised=left["revised"],
            n_late_extra=left["late"],
            n_repeats=left["repeat"],
            n_simulated_left_out=left["simulated"],
            n_unscored=left["unscored"],
            excluded=dict(sorted(self._excluded.items())),
        )


def _smallest(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    low, high = values.min(initial=0), values.max(initial=0)
    for kind in (np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return values.astype(kind)
    return values


def _joined(chunks: list[list[npt.NDArray[Any]]], empty: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Column after column, each given back as soon as it is copied."""
    if not chunks:
        return empty
    joined = []
    for _ in range(len(chunks[0])):
        joined.append(np.concatenate([chunk.pop(0) for chunk in chunks], axis=-1))
    return joined


def left_out(row: AnswerRow, *, include_simulated: bool) -> str:
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
