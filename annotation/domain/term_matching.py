"""Finding terms by what is typed, and terms that are nearly the same; plain Python over what memory holds.

A study has tens of thousands of terms at most: one pass over their folded texts answers a prefix in a millisecond, and
an inverted index of trigrams answers the rest. No database function is needed, so SQLite and PostgreSQL agree.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

LEAST_SIMILARITY = 0.3  # pg_trgm's own threshold for a suggestion
NEAR_SIMILARITY = 0.6
MOST_EDITS = 2
LINE = "\n"
NOT_WORDS = re.compile(r"[\W_]+")
DIGITS = re.compile(r"\d+")


class Entry(NamedTuple):
    """One wording: its id, its text, the id of the term it stands for, and how often that term was used."""

    pk: int
    text: str
    canonical: int
    n_uses: int


def fold(text: str) -> str:
    """How a text is compared when typing: without case, accents and double spaces."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(letter for letter in decomposed if not unicodedata.combining(letter)).split())


def bare(text: str) -> str:
    """How two terms are compared: folded, without signs, each word without what makes a plural."""
    return " ".join(singular(word) for word in NOT_WORDS.sub(" ", fold(text)).split())


def singular(word: str) -> str:
    """Roughly: 'stripes' and 'stripe', 'bodies' and 'body'. A word cut wrongly is cut wrongly on both sides."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def trigrams(text: str) -> frozenset[str]:
    """As pg_trgm makes them: each word with two spaces before and one after."""
    padded = [f"  {word} " for word in text.split()]
    return frozenset(word[start : start + 3] for word in padded for start in range(len(word) - 2))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one and other else 0.0


def edits(one: str, other: str, most: int = MOST_EDITS) -> int:
    """Damerau–Levenshtein distance (insert, delete, replace, swap neighbors); most + 1 for anything farther."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        twice_before, before, row = before, row, [i]
        for j, wanted in enumerate(other, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, twice_before[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return row[-1]


def edits_allowed(text: str) -> int:
    """A short word changed by two letters is another word."""
    return min(MOST_EDITS, max(0, (len(text) - 1) // 3))


def is_near(one: str, other: str) -> bool:
    """Whether two bare texts look like one term written twice. Another number is another thing."""
    if one.replace(" ", "") == other.replace(" ", ""):
        return True
    if DIGITS.findall(one) != DIGITS.findall(other):
        return False
    if similarity(trigrams(one), trigrams(other)) >= NEAR_SIMILARITY:
        return True
    most = min(edits_allowed(one), edits_allowed(other))
    return most > 0 and edits(one, other, most) <= most


def least_shared(wanted: str, asked: frozenset[str]) -> int:
    """How many trigrams a near text shares at least: an edit takes three or four away."""
    after_edits = len(asked) - (3 * edits_allowed(wanted) + 1)
    return max(2 if len(asked) > 4 else 1, min(after_edits, math.ceil(NEAR_SIMILARITY * len(asked))))


class TermIndex:
    """The wordings of one study, to be searched while somebody types. Grows; is made anew when terms are merged."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: list[Entry] = []
        self._folded: list[str] = []
        self._bare: list[str] = []
        self._trigrams: list[frozenset[str]] = []
        self._places: dict[str, list[int]] = defaultdict(list)
        self._lines = LINE
        self._starts: list[int] = []
        self._n_indexed = 0
        self.last_pk = 0
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._folded.append(fold(entry.text))
        self.last_pk = max(self.last_pk, entry.pk)

    def search(self, typed: str, limit: int = 7) -> list[Entry]:
        """One wording per term: those that begin so, those with a word that does, those that look alike."""
        wanted = fold(typed)
        if not wanted:
            return []
        found: dict[int, Entry] = {}
        for opening in (LINE, " "):
            for entry in self._by_use(self._lines_with(opening + wanted)):
                found.setdefault(entry.canonical, entry)
            if len(found) >= limit:
                return list(found.values())[:limit]
        for entry in self._alike(wanted):
            found.setdefault(entry.canonical, entry)
        return list(found.values())[:limit]

    def near(self, text: str, limit: int = 3, *, besides: int | None = None) -> list[Entry]:
        """Terms that `text` may be another spelling of, the likeliest first.

        A text that is there itself has none, unless it is asked about the term `besides`, which is left out then.
        """
        self._index_trigrams()
        wanted, folded = bare(text), fold(text)
        if not wanted:
            return []
        asked = trigrams(wanted)
        sharing = self._sharing(asked, least_shared(wanted, asked))
        likely = [
            place
            for place, n in sharing.items()
            if self._could_be(wanted, self._similarity(asked, place, n), place) and is_near(wanted, self._bare[place])
        ]
        if besides is None and any(self._folded[place] == folded for place in likely):
            return []
        likely.sort(key=lambda place: (self._bare[place] != wanted, -similarity(asked, self._trigrams[place])))
        found: dict[int, Entry] = {}
        for place in likely:
            if self.entries[place].canonical != besides:
                found.setdefault(self.entries[place].canonical, self.entries[place])
        return list(found.values())[:limit]

    def _could_be(self, wanted: str, likeness: float, place: int) -> bool:
        """A cheap look before the full one: as long, or alike."""
        return likeness >= NEAR_SIMILARITY or abs(len(self._bare[place]) - len(wanted)) <= MOST_EDITS

    def _lines_with(self, wanted: str) -> Iterator[int]:
        """Places of the folded texts that have it, in order: one long text is searched faster than many short ones."""
        if len(self._starts) != len(self._folded):
            self._lines = LINE + LINE.join(self._folded) + LINE
            self._starts = list(accumulate((len(text) + 1 for text in self._folded[:-1]), initial=0))
        at = self._lines.find(wanted)
        while at >= 0:
            place = bisect_right(self._starts, at) - 1
            yield place
            at = self._lines.find(wanted, self._starts[place] + len(self._folded[place]) + 1)

    def _by_use(self, places: Iterable[int]) -> list[Entry]:
        found = [self.entries[place] for place in places]
        return sorted(found, key=lambda entry: (-entry.n_uses, entry.pk != entry.canonical, len(entry.text), entry.pk))

    def _alike(self, wanted: str) -> list[Entry]:
        self._index_trigrams()
        asked = trigrams(bare(wanted))
        scored = []
        for place, n in self._sharing(asked, max(1, math.ceil(LEAST_SIMILARITY * len(asked)))).items():
            likeness = self._similarity(asked, place, n)
            if likeness >= LEAST_SIMILARITY:
                scored.append((-likeness, -self.entries[place].n_uses, place))
        return [self.entries[place] for _, _, place in sorted(scored)]

    def _sharing(self, asked: frozenset[str], least: int) -> dict[int, int]:
        """How many of the trigrams each place has, of those that have `least`."""
        shared: Counter[int] = Counter()
        for trigram in asked:
            shared.update(self._places.get(trigram, ()))
        return {place: n for place, n in shared.items() if n >= least}

    def _similarity(self, asked: frozenset[str], place: int, n_shared: int) -> float:
        return n_shared / (len(asked) + len(self._trigrams[place]) - n_shared)

    def _index_trigrams(self) -> None:
        """The costly part, made when it is first needed and then kept up."""
        for place in range(self._n_indexed, len(self.entries)):
            text = bare(self.entries[place].text)
            self._bare.append(text)
            self._trigrams.append(trigrams(text))
            for trigram in self._trigrams[place]:
                self._places[trigram].append(place)
        self._n_indexed = len(self.entries)
