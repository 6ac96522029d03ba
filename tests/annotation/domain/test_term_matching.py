"""Terms are found by what is typed, and those that are nearly the same are told."""

from __future__ import annotations

import random
from time import perf_counter

import pytest

from annotation.domain.term_matching import Entry, TermIndex, bare, edits, fold, is_near


def index_of(*texts: str, uses: dict[str, int] | None = None) -> TermIndex:
    counts = uses or {}
    return TermIndex(Entry(pk, text, pk, counts.get(text, 0)) for pk, text in enumerate(texts, start=1))


def texts(entries: list[Entry]) -> list[str]:
    return [entry.text for entry in entries]


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("stripe", "stripe", 0),
        ("stripe", "strpie", 1),
        ("stripe", "tripe", 1),
        ("curve", "cruved", 2),
        ("dog", "cat", 3),
    ],
)
def test_counts_edits_and_swapped_neighbors(one: str, other: str, distance: int) -> None:
    assert edits(one, other) == edits(other, one) == distance


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("Vertical Stripes", "vertical stripe", True),
        ("dogs' bodies", "dog body", True),
        ("check-board", "checkboard", True),
        ("horizontal stripe", "horizontla stripe", True),
        ("two dots", "dots", False),
        ("2 dots", "3 dots", False),
        ("red", "bed", False),
        ("left edge", "right edge", False),
    ],
)
def test_tells_spellings_from_other_terms(one: str, other: str, near: bool) -> None:
    assert is_near(bare(one), bare(other)) is near


def test_folding_takes_case_accents_and_double_spaces_away() -> None:
    assert fold("  Crème   BRÛLÉE ") == "creme brulee"


def test_offers_prefixes_then_words_then_what_looks_alike() -> None:
    index = index_of("dark edge", "edge at the top", "edge", "hedge rows", "edeg", uses={"edge at the top": 4})
    assert texts(index.search("edge")) == ["edge at the top", "edge", "dark edge"]
    assert texts(index.search("egde at the topp")) == ["edge at the top"]


def test_offers_a_term_once_however_many_of_its_wordings_fit() -> None:
    index = TermIndex([Entry(1, "stripes", 1, 5), Entry(2, "striped", 1, 5), Entry(3, "string", 3, 0)])
    assert texts(index.search("stri")) == ["stripes", "string"]


def test_offers_no_more_than_asked_for() -> None:
    index = index_of(*(f"thing {number}" for number in range(20)))
    assert len(index.search("thing", limit=7)) == 7


def test_names_near_terms_unless_the_text_itself_is_one() -> None:
    index = index_of("vertical stripes", "vertical", "red circle")
    assert texts(index.near("Vertical  stripe")) == ["vertical stripes"]
    assert texts(index.near("vertical STRIPES")) == []
    assert texts(index.near("blue square")) == []


def test_a_term_added_later_is_found() -> None:
    index = index_of("red circle")
    assert index.near("green circel") == []
    index.add(Entry(9, "green circle", 9, 0))
    assert texts(index.near("green circel")) == ["green circle"]
    assert index.last_pk == 9


def test_twenty_thousand_terms_are_searched_while_somebody_types() -> None:
    rng = random.Random(3)
    syllables = [a + b + c for a in "bcdfghklmnprstvw" for b in "aeiou" for c in ("", "n", "r", "st")]
    words = ["".join(rng.choices(syllables, k=rng.randint(2, 3))) for _ in range(4000)]
    index = index_of(*(" ".join(rng.choices(words, k=rng.randint(1, 4))) for _ in range(20_000)))
    index.near("warm up")
    took = []
    for query in ("b", "corfen", "stagra tri", "zzzqq", "lumkel morri", "jofen dilba hin"):
        start = perf_counter()
        index.search(query)
        index.near(query)
        took.append(perf_counter() - start)
    assert sorted(took)[len(took) // 2] < 0.05, took
