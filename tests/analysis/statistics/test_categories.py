"""Shares of choices, Wilson's interval, the guess of the origin, alignment by bin, adjudication and repeats."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.statistics.adjudication import agreement_figure, agreement_with_verdicts, majority, share_overturned
from analysis.statistics.alignment import share_matched_by_bin
from analysis.statistics.categories import choice_shares, origin, share, wilson
from analysis.statistics.measured import make_measured
from analysis.statistics.repeats import Pairs, expected_by_chance, self_agreement


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_wilson_is_the_published_interval() -> None:
    # the shares of the FF-KV study, n = 50 (research/ffkv_saebench.md §1.4)
    for percent, low, high in ((28, 0.17, 0.42), (36, 0.24, 0.50), (30, 0.19, 0.44), (54, 0.40, 0.67)):
        assert wilson(percent / 2, 50) == pytest.approx((low, high), abs=0.006)
    assert wilson(0, 10)[0] == 0.0


def test_one_annotator_gets_wilson_and_several_the_two_way_interval() -> None:
    one = share(make_measured(np.arange(50), np.zeros(50), np.arange(50) < 14), rng(), of="test")
    assert (one.low, one.high) == wilson(14, 50)
    assert "one annotator" in one.note
    two = share(make_measured(np.arange(50), np.arange(50) % 9, np.arange(50) < 14), rng(), of="test")
    assert two.value == one.value
    assert "Wilson" not in two.note


def test_shares_of_choices_sum_to_one() -> None:
    codes = np.array([0, 0, 1, 2, 2, 2])
    figures = choice_shares(
        make_measured(np.arange(6), np.arange(6) % 2, codes), rng(), choices={0: "a", 1: "b", 2: "c"}, of="natures"
    )
    assert [figure.value for figure in figures] == pytest.approx([2 / 6, 1 / 6, 3 / 6])
    assert figures[1].of == "share b: natures"


def test_the_guess_of_the_origin_is_detection() -> None:
    said, is_feature = np.array([1, 1, 0, 1, 0, 0]), np.array([1, 1, 1, 0, 0, 0])
    found = origin(make_measured(np.arange(6), np.arange(6) % 2, np.stack([said, is_feature])), rng(), of="test")
    assert [found.hit.value, found.false_alarm.value] == pytest.approx([2 / 3, 1 / 3])
    assert found.balanced_accuracy.value == pytest.approx(2 / 3)


def test_each_bin_has_its_share_and_where_its_cosines_lie() -> None:
    bins = np.array([0, 0, 1, 1, 1])
    cosine = np.array([0.1, 0.2, 0.8, 0.9, 0.9])
    low, high = share_matched_by_bin(
        make_measured(np.arange(5), np.arange(5) % 2, [0, 0, 1, 1, 0]), rng(), bins=bins, cosine=cosine,
        null_percentile=100 * cosine,
    )  # fmt: skip
    assert (low.name, low.matched.value) == ("0.10 to 0.20", 0.0)
    assert low.mean_null_percentile == pytest.approx(15.0)
    assert [high.matched.value, high.mean_cosine] == pytest.approx([2 / 3, 2.6 / 3])


def test_a_tie_is_no_majority() -> None:
    assert (majority(["yes", "yes", "no"]), majority(["yes", "no"]), majority([])) == ("yes", None, None)


def test_overturned_verdicts_and_who_agrees_with_them() -> None:
    figure = share_overturned(make_measured(np.arange(4), [0, 1, 0, 1], [1, 0, 0, 0]), rng(), of="test")
    assert figure.value == 0.25
    good, poor = agreement_with_verdicts({"B": [("no", "yes"), ("no", "no")], "A": [("yes", "yes")] * 4})
    assert (good.annotator, good.share, poor.share) == ("A", 1.0, 0.5)
    assert (poor.low, poor.high) == wilson(1, 2)
    assert agreement_figure(poor, "agreement of B").n_answers == 2


def test_answers_to_repeats_against_before_and_against_chance() -> None:
    pairs = Pairs(
        np.array([1, 2, 3, 4]), np.array([0, 0, 1, 1], np.int32), np.array([1, 2, 3, 4], np.float32),
        np.array([1, 3, 3, 1], np.float32),
    )  # fmt: skip
    assert self_agreement(pairs, rng(), of="test").value == 0.5
    assert self_agreement(pairs, rng(), of="test", tolerance=1).value == 0.75
    # annotator 0 gave 1 2 1 3: (4 + 1 + 1) / 16; annotator 1 gave 3 4 3 1: the same
    assert expected_by_chance(pairs) == pytest.approx(6 / 16)
