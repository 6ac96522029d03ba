"""The numbers by which a browser knows slots and items: they tell nothing, and only the server can read them.

The id of a row tells when it was made, and slots of scheduled gold and items shown again are made after the others
(annotation.domain.checks, repeats). So the player gets a number instead: a permutation of 0 .. 2^52 - 1, which
JavaScript holds exactly, by a Feistel network whose round function is keyed BLAKE2s (Luby and Rackoff 1988). Slots,
items and practice items of each study have a permutation of their own; a number that was made up, or is another
study's, reads as an id that no row has. Only the views translate; everything else knows rows by their ids.

The key lies in the study's row and is never changed, because answers wait in browsers for days: a rotated SECRET_KEY
costs none of them.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2s
from typing import NamedTuple

from annotation.models import Study

HALF_BITS = 26
HALF = (1 << HALF_BITS) - 1
END = 1 << 2 * HALF_BITS
N_ROUNDS = 4
NO_ROW = 0  # ids begin at 1


class RowNumbers:
    """One permutation, both ways."""

    def __init__(self, key: str, kind: str) -> None:
        names = (f"{kind} {place}".encode() for place in range(N_ROUNDS))
        self.rounds = tuple(blake2s(digest_size=4, key=key.encode(), person=name) for name in names)

    def number(self, row_id: int) -> int:
        assert 0 <= row_id < END, "more rows than JavaScript counts exactly"
        left, right = row_id >> HALF_BITS, row_id & HALF
        for keyed in self.rounds:
            left, right = right, left ^ mixed(keyed, right)
        return left << HALF_BITS | right

    def row_id(self, number: int) -> int:
        """What `number` was made of; the id of no row for what was never given out."""
        if not 0 <= number < END:
            return NO_ROW
        left, right = number >> HALF_BITS, number & HALF
        for keyed in reversed(self.rounds):
            left, right = right ^ mixed(keyed, left), left
        return left << HALF_BITS | right


def mixed(keyed: blake2s, half: int) -> int:
    state = keyed.copy()
    state.update(half.to_bytes(4, "big"))
    return int.from_bytes(state.digest(), "big") & HALF


class StudyNumbers(NamedTuple):
    """The permutations of one study."""

    slots: RowNumbers
    items: RowNumbers
    practice: RowNumbers


def numbers_of(study: Study) -> StudyNumbers:
    return keyed_numbers(study.number_key)


@lru_cache(maxsize=256)
def keyed_numbers(key: str) -> StudyNumbers:
    return StudyNumbers(RowNumbers(key, "slot"), RowNumbers(key, "item"), RowNumbers(key, "ref"))
