"""What each protocol asks, takes and scores."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.domain.answer_message import AnswerError
from annotation.domain.keyboards import clashes_anywhere
from annotation.domain.player_keys import fixed_bindings
from annotation.domain.protocols import PROTOCOLS, OptionError, Protocol, columns_of, validate, validate_accepted
from annotation.domain.protocols.patch_marking import area_under_curve

MAP = base64.b64encode(bytes([0, 0, 9, 200])).decode()
# protocol, options, a payload, what is stored in typed columns, a truth, the score
CASES: tuple[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any], float | None], ...] = (
    (
        "rate-describe-categorise", {},
        {"patch_rating": 3, "image_rating": None, "category": "shape", "label": " a  b "},
        {"patch_rating": 3, "image_rating": None, "category": "shape", "label": "a b"}, {}, None,
    ),
    ("two-alternative", {}, {"query": 1, "confidence": 2}, {"choice": "1", "confidence": 2}, {"query": 0}, 0.0),
    ("intruder", {"n_images": 4}, {"intruder": 3}, {"choice": "3"}, {"intruder": 3}, 1.0),
    ("verification", {"n_images": 1}, {"match": 4}, {"choice": "4"}, {"matches": [True]}, 1.0),
    ("verification", {"n_images": 1}, {"match": None}, {"choice": ""}, {"matches": [True]}, 0.0),
    (
        "verification", {}, {"matches": [4, 0, 1]}, {},
        {"matches": [True, True, False, False, True, False, False, True]}, 0.875,
    ),
    ("pairwise", {}, {"easier": "tie"}, {"choice": "tie"}, {"left": "feature"}, None),
    ("patch-marking", {}, {"marks": [[0, 3], [0, 3]]}, {}, {"maps": [MAP, MAP, "", ""]}, 0.75),
    (
        "nature-origin", {}, {"nature": "superficial", "origin": "control"}, {"choice": "superficial"},
        {"origin": "control"}, 1.0,
    ),
    ("alignment", {}, {"same": "no"}, {"choice": "no"}, {"mcs": 0.4}, None),
    ("spurious", {}, {"spurious": "yes", "label": "snow"}, {"choice": "yes", "label": "snow"}, {"class": "dog"}, None),
    ("adjudication", {}, {"rationale": "All are red."}, {}, {}, None),
)  # fmt: skip
WRONG: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("intruder", {"intruder": 5}, "it is a number from 0 to 4"),
    ("intruder", {"intruder": True}, "it is a number from 0 to 4"),
    ("intruder", {}, "no intruder"),
    ("intruder", {"intruder": 1, "extra": 1}, "'extra'"),
    ("two-alternative", {"query": 0, "confidence": "2"}, "it can be 1, 2, 3"),
    ("verification", {"matches": [1, 1]}, "names a picture twice"),
    ("verification", {"matches": 3}, "a list"),
    ("patch-marking", {"marks": [[0]]}, "a pair"),
    ("patch-marking", {"marks": [[4, 0]]}, "names picture 4"),
    ("patch-marking", {"marks": [[0, -1]]}, "a pair"),
    ("rate-describe-categorise", {"patch_rating": 5, "image_rating": 1}, "it can be 1, 2, 3, 4, null"),
    ("rate-describe-categorise", {"patch_rating": 1, "image_rating": 1, "category": "none"}, "no category 'none'"),
    ("spurious", {"spurious": "maybe"}, "it can be yes, no, null"),
    ("adjudication", {"rationale": "  "}, "is empty"),
)


@pytest.mark.parametrize(("name", "options", "payload", "columns", "truth", "score"), CASES)
def test_an_answer_is_taken_and_scored(
    name: str, options: dict[str, Any], payload: dict[str, Any], columns: dict[str, Any], truth: dict[str, Any],
    score: float | None,
) -> None:  # fmt: skip
    protocol = PROTOCOLS[name]
    settled = protocol.settle_options(options)
    questions = protocol.questions(settled)
    taken = validate(questions, payload, categories={"shape"})
    assert set(taken) == {question.name for question in questions}
    assert columns_of(questions, taken) == columns
    assert protocol.score(taken, truth, settled) == score


@pytest.mark.parametrize(("name", "payload", "words"), WRONG)
def test_a_wrong_answer_is_refused_in_words(name: str, payload: dict[str, Any], words: str) -> None:
    protocol = PROTOCOLS[name]
    with pytest.raises(AnswerError, match=words.replace("[", r"\[")):
        validate(protocol.questions(protocol.settle_options({})), payload, categories={"shape"})


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_no_two_keys_of_a_protocol_clash(protocol: Protocol) -> None:
    assert clashes_anywhere(fixed_bindings(protocol)) == []


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_what_is_right_by_truth_can_be_accepted(protocol: Protocol) -> None:
    options = protocol.settle_options({})
    truth = {"query": 1, "intruder": 2, "matches": [True]}
    accepted = protocol.accepted(truth, options)
    if accepted:
        assert validate_accepted(protocol.questions(options), accepted) == accepted
    assert bool(accepted) == (protocol.name in {"two-alternative", "intruder"})


def test_an_option_is_checked() -> None:
    protocol = PROTOCOLS["two-alternative"]
    assert protocol.settle_options({"n_references": 4})["variants"] == ("easy", "hard", "no-reference")
    for options, words in (
        ({"n_references": 5}, "it can be 4, 6, 9"),
        ({"variants": []}, "a list of easy, hard"),
        ({"items_per_feature": 0}, "a whole number from 1"),
        ({"wings": 2}, "no option 'wings'"),
    ):
        with pytest.raises(OptionError, match=words):
            protocol.settle_options(options)


def slow_area(patch_map: bytes, marked: set[int]) -> float | None:
    """Every pair of a marked and another patch."""
    pairs = [
        (patch_map[a] > patch_map[b]) + 0.5 * (patch_map[a] == patch_map[b])
        for a in marked
        for b in set(range(len(patch_map))) - marked
    ]
    if len(set(patch_map)) < 2:
        return None
    return sum(pairs) / len(pairs) if pairs else 0.5


@given(st.binary(min_size=1, max_size=30), st.data())
def test_the_area_under_the_curve_is_that_of_all_pairs(patch_map: bytes, data: st.DataObject) -> None:
    marked = data.draw(st.sets(st.integers(0, len(patch_map) - 1)))
    assert area_under_curve(patch_map, marked) == pytest.approx(slow_area(patch_map, marked))
