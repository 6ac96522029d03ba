"""How items are dealt: variants in equal parts, controls as a share, sentences deranged, pairs within a band."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from annotation.domain.controls import Pool
from annotation.domain.planning_contents import content_of, two_alternative_content
from annotation.domain.planning_items import Draft, Shares, derangement, has_catch
from annotation.domain.planning_items_pairs import matched_pairs
from annotation.domain.protocols import PROTOCOLS
from annotation.domain.sampling import Drawn, Stratum


@pytest.mark.parametrize("texts", [["a", "b", "c", "d"], ["a", "a", "b", "b", "c"], ["a", "a", "b", "b"]])
def test_a_derangement_uses_the_same_texts_and_leaves_none_in_its_place(texts: list[str]) -> None:
    for seed in range(20):
        turned = derangement(texts, texts, random.Random(seed))
        assert sorted(turned) == sorted(texts)
        assert all(one != other for one, other in zip(texts, turned, strict=True))


def test_where_one_text_prevails_another_of_the_study_stands_in() -> None:
    turned = derangement(["a", "a", "a", "b"], ["a", "b", "c"], random.Random(0))
    assert all(one != other for one, other in zip(["a", "a", "a", "b"], turned, strict=True))
    assert derangement(["a", "a"], ["a", "a"], random.Random(0)) == ["", ""]


def test_controls_are_a_share_of_features_and_controls_and_checks_of_all_items() -> None:
    shares = Shares(control=0.5, catch=0.1, gold=0.1)
    assert shares.n_controls(80) == 80
    assert shares.n_checks(160, 30, has_catch=True) == (20, 20)
    assert shares.n_checks(160, 5, has_catch=True) == (35, 5)
    assert shares.n_checks(160, 30, has_catch=False) == (0, 30)
    assert Shares(0.0, 0.0, 0.0).n_checks(100, 5, has_catch=True) == (0, 0)


def test_variants_come_in_equal_parts_and_no_reference_has_every_contrast() -> None:
    options = {"variants": ["easy", "hard", "no-reference"], "n_references": 9, "items_per_feature": 2}
    content = content_of(PROTOCOLS["two-alternative"], options, {})
    shown = [content(1, index) for index in range(12)]
    assert Counter(one.variant for one in shown) == {"easy": 4, "hard": 4, "no-reference": 4}
    without = [one.options["contrast"] for one in shown if one.variant == "no-reference"]
    assert without == ["easy", "hard", "easy", "hard"]
    assert shown[0].options == {"n_references": 9, "contrast": "easy"}
    assert two_alternative_content(["no-reference"], {}, 0).options == {"contrast": "easy"}


def test_two_alternatives_have_catch_items_where_references_are_shown() -> None:
    pool = Pool(by_place={}, refs={}, controls_of={}, counts=lambda feature: pytest.fail("no counts"))
    shown = [["no-reference"], ["easy"], ["hard", "no-reference"]]
    drafts = [
        Draft(PROTOCOLS["two-alternative"], {"variants": one}, [], pool, [], Shares(), []) for one in shown
    ]  # fmt: skip
    assert [has_catch(draft) for draft in drafts] == [False, True, True]


def test_pairs_are_neighbors_in_density_of_different_dictionaries() -> None:
    def drawn(dictionary: int, ids: list[int], band: str = "rare") -> list[Drawn]:
        return [Drawn(pk, Stratum(dictionary, 0, band)) for pk in ids]

    density = {pk: pk % 10 / 10 for pk in range(40)}
    found = matched_pairs(
        [*drawn(1, [12, 11, 13]), *drawn(2, [21, 23]), *drawn(2, [25], "frequent")], density, random.Random(0)
    )
    assert {frozenset(one.feature_id for one in pair) for pair in found.pairs} == {
        frozenset({11, 21}),
        frozenset({12, 23}),
    }
    assert [one.feature_id for one in found.alone] == [13, 25]
    three = matched_pairs([*drawn(1, [11]), *drawn(2, [21]), *drawn(3, [31])], density, random.Random(0))
    assert len(three.pairs) == 3
