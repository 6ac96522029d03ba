"""The numbers a browser knows slots and items by: exact, reversible, and silent about when a row was made."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from annotation.domain.row_numbers import END, NO_ROW, StudyNumbers, keyed_numbers, numbers_of
from annotation.models import Study
from annotation.models.study import new_number_key

KEY = "the key of one study"
N_IDS = 10_000
HALF_OF_ALL = END / 2


@pytest.fixture(scope="module")
def numbers() -> StudyNumbers:
    return keyed_numbers(KEY)


@given(row_id=st.integers(0, END - 1), kind=st.sampled_from(["slots", "items", "practice"]))
def test_a_number_reads_as_the_id_it_was_made_of(row_id: int, kind: str) -> None:
    one = getattr(keyed_numbers(KEY), kind)
    assert one.row_id(one.number(row_id)) == row_id


def test_no_two_ids_share_a_number_and_javascript_holds_every_one(numbers: StudyNumbers) -> None:
    for one in numbers:
        given_out = [one.number(row_id) for row_id in [*range(N_IDS), END - 1]]
        assert len(set(given_out)) == len(given_out)
        assert 0 <= min(given_out) <= max(given_out) <= 2**53 - 1
        assert all(float(number) == number for number in given_out)


@pytest.mark.parametrize("kind", ["slots", "items"])
def test_order_and_distance_of_numbers_say_nothing(numbers: StudyNumbers, kind: str) -> None:
    one = getattr(numbers, kind)
    given_out = [one.number(row_id) for row_id in range(1, N_IDS + 1)]
    assert abs(spearmanr(range(N_IDS), given_out).statistic) < 4 / N_IDS**0.5
    steps = [abs(b - a) for a, b in pairwise(given_out)]
    assert sum(steps) / len(steps) == pytest.approx(END / 3, rel=0.05)  # as of any two places drawn at random
    late = given_out[-N_IDS // 20 :]  # checks, made after the others
    above = sum(number > HALF_OF_ALL for number in late) / len(late)
    assert above == pytest.approx(0.5, abs=0.1)
    assert sum(number & 1 for number in late) / len(late) == pytest.approx(0.5, abs=0.1)


def test_a_slot_does_not_tell_its_item(numbers: StudyNumbers) -> None:
    slots, items = ([one.number(row_id) for row_id in range(1, N_IDS + 1)] for one in numbers[:2])
    assert not set(slots) & set(items)
    assert abs(spearmanr(slots, items).statistic) < 4 / N_IDS**0.5


def test_another_studys_number_and_one_made_up_read_as_no_row(numbers: StudyNumbers) -> None:
    other = keyed_numbers("the key of another study")
    read = [
        one.row_id(theirs.number(row_id)) for one, theirs in zip(numbers, other, strict=True) for row_id in range(99)
    ]
    assert min(read) > 2**32
    rng = random.Random(0)
    assert min(numbers.items.row_id(rng.randrange(END)) for _ in range(N_IDS)) > 2**32
    assert [numbers.items.row_id(number) for number in (-1, END, 2**63)] == [NO_ROW] * 3


def test_every_study_has_a_key_of_its_own_and_a_copy_does_not_inherit_it() -> None:
    first, second = Study(), Study()
    assert first.number_key != second.number_key
    assert len({new_number_key() for _ in range(99)}) == 99
    assert numbers_of(first).slots.number(1) != numbers_of(second).slots.number(1)
    assert numbers_of(first).slots.number(1) == numbers_of(first).slots.number(1)


def test_numbers_never_change_because_answers_on_their_way_name_them(numbers: StudyNumbers) -> None:
    """Pinned: another permutation would refuse what waits in browsers' outboxes."""
    assert [one.number(1) for one in numbers] == [3389948433177486, 1250854534790328, 627881878947989]
