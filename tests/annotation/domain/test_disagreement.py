"""How far answers lie apart, by numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from annotation.domain.disagreement import disagreement
from annotation.domain.protocols import PROTOCOLS, Question

RATE, CHOOSE = PROTOCOLS["rate-describe-categorise"], PROTOCOLS["two-alternative"]


def asked(name: str, **options: Any) -> tuple[Question, ...]:
    protocol = PROTOCOLS[name]
    return protocol.questions(protocol.settle_options(options))


def rated(patches: int | None, images: int | None, category: str = "") -> dict[str, Any]:
    return {"patch_rating": patches, "image_rating": images, "category": category, "label": "any"}


def test_ratings_disagree_by_their_distance_and_categories_by_their_entropy() -> None:
    questions = asked("rate-describe-categorise")
    found = disagreement(questions, [rated(1, 2, "a"), rated(4, 3, "b"), rated(2, None, "b")])
    assert [one.amount for one in found.spreads] == pytest.approx([1.0, 1 / 3, 0.9183 / 1.5850], abs=1e-4)
    assert found.largest == 1.0
    assert found.mean == pytest.approx((1 + 1 / 3 + 0.9183 / 1.5850) / 3, abs=1e-4)


def test_answers_that_are_alike_or_alone_do_not_disagree() -> None:
    questions = asked("rate-describe-categorise")
    cases: list[list[dict[str, Any]]] = [[rated(3, 3, "a")] * 3, [rated(1, 4)], []]
    for answers in cases:
        assert disagreement(questions, answers)[:2] == (0.0, 0.0)


@pytest.mark.parametrize(("votes", "amount"), [([0, 1], 1.0), ([0, 0, 1, 1], 1.0), ([0, 0, 1], 0.9183), ([1, 1], 0.0)])
def test_a_split_vote_is_one_when_it_is_even(votes: list[int], amount: float) -> None:
    answers = [{"query": vote, "confidence": 1 + place % 3} for place, vote in enumerate(votes)]
    found = disagreement(asked("two-alternative"), answers)
    assert [one.question.name for one in found.spreads] == ["query"]
    assert found.largest == pytest.approx(amount, abs=1e-4)


def test_marked_pictures_disagree_by_what_they_do_not_share() -> None:
    questions = asked("verification", n_images=8)
    answers: list[dict[str, Any]] = [{"matches": [0, 1]}, {"matches": [1, 2]}, {"matches": []}]
    assert disagreement(questions, answers).largest == pytest.approx(1 - (1 / 3 + 0 + 0) / 3)
    assert disagreement(questions, [{"matches": []}, {"matches": []}]).largest == 0.0
