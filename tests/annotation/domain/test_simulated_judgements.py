"""Simulated judgements are well formed by their protocol, and as accurate as they are said to be."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

import pytest

from annotation.domain.protocols import PROTOCOLS, validate
from annotation.domain.simulated_judgements import JUDGES, LEAD, UNRELATED, Skill, judge_payload
from annotation.domain.simulation import alike, annotators_from
from annotation.domain.studies import StudyError
from annotation.models import Condition, Item

N = 1500
MAP = base64.b64encode(bytes([200, 180, 0, 0, 0, 0, 0, 0, 0])).decode()
TRUTHS: dict[str, dict[str, Any]] = {
    "two-alternative": {"query": 1},
    "intruder": {"intruder": 3},
    "verification": {"matches": [True, False, True, False, True, False, True, False]},
    "pairwise": {"left": "other"},
    "patch-marking": {"maps": [MAP] * 4},
    "nature-origin": {},
    "alignment": {"mcs": 0.8, "null_percentile": 99},
    "spurious": {"class": "cat"},
    "rate-describe-categorise": {},
}
SKILL = Skill(accuracy=0.8, separation=1.5, lapse_rate=0.0)


def payloads(name: str, skill: Skill = SKILL, **fields: Any) -> Iterator[dict[str, Any]]:
    """N answers, each to an item of its own."""
    protocol, rng = PROTOCOLS[name], random.Random(5)
    options = protocol.settle_options({})
    for number in range(N):
        values = {"truth": TRUTHS[name], "condition": Condition.REAL, "stimulus_id": f"{number}"} | fields
        yield judge_payload(protocol, options, Item(**values), skill, rng, categories=["shape"])


def share(values: list[bool]) -> float:
    return sum(values) / len(values)


def scores(name: str, skill: Skill = SKILL, **fields: Any) -> float:
    protocol = PROTOCOLS[name]
    truth = fields.get("truth", TRUTHS[name])
    given = [protocol.score(payload, truth, protocol.settle_options({})) for payload in payloads(name, skill, **fields)]
    return sum(score or 0.0 for score in given) / len(given)


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"adjudication"}))
def test_every_protocol_gets_well_formed_answers(name: str) -> None:
    questions = PROTOCOLS[name].questions(PROTOCOLS[name].settle_options({}))
    for payload in list(payloads(name, Skill(lapse_rate=0.2)))[:100]:
        assert validate(questions, payload, categories=["shape"]) == validate(questions, payload, categories=["shape"])
        assert set(payload) == {question.name for question in questions}


def test_adjudication_has_no_items_of_its_own() -> None:
    with pytest.raises(ValueError, match="no items of its own"):
        judge_payload(PROTOCOLS["adjudication"], {}, Item(), SKILL, random.Random(0))
    assert set(JUDGES) == set(TRUTHS)


@pytest.mark.parametrize("name", ["two-alternative", "intruder", "verification"])
def test_the_share_right_is_the_accuracy(name: str) -> None:
    assert scores(name) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("name", ["two-alternative", "intruder"])
@pytest.mark.parametrize("condition", [Condition.RANDOM_DIRECTIONS, Condition.UNTRAINED_DICTIONARY])
def test_controls_are_answered_at_chance(name: str, condition: str) -> None:
    chance = PROTOCOLS[name].chance(PROTOCOLS[name].settle_options({}))
    assert scores(name, condition=condition) == pytest.approx(chance, abs=0.04)


@pytest.mark.parametrize(
    ("variant", "wanted"), [("easy", 0.8), ("hard", 0.71), ("graded", 0.65), ("no-reference", 0.5)]
)
def test_harder_contrasts_lower_the_share(variant: str, wanted: float) -> None:
    assert scores("two-alternative", variant=variant) == pytest.approx(wanted, abs=0.04)
    assert set(LEAD) == {"hard", "graded", "no-reference"}


def test_a_shuffled_explanation_fits_by_chance() -> None:
    assert scores("verification", condition=Condition.SHUFFLED_EXPLANATION) == pytest.approx(0.5, abs=0.03)


def test_marks_lie_on_the_map_as_often_as_the_accuracy_says() -> None:
    marks = [mark for payload in payloads("patch-marking") for mark in payload["marks"]]
    on = share([patch in (0, 1) for _, patch in marks])
    assert on > 0.75
    control = [
        mark for payload in payloads("patch-marking", condition="random_directions") for mark in payload["marks"]
    ]
    assert share([patch in (0, 1) for _, patch in control]) < on - 0.2


def test_ratings_of_features_and_controls_lie_the_separation_apart() -> None:
    def z(condition: str) -> float:
        rated = [payload["image_rating"] >= 2 for payload in payloads("rate-describe-categorise", condition=condition)]
        return NormalDist().inv_cdf(share(rated))

    assert z(Condition.REAL) - z(Condition.SHUFFLED) == pytest.approx(1.5, abs=0.2)


def test_the_origin_is_guessed_as_well_as_the_separation_allows() -> None:
    wanted = NormalDist().cdf(1.5 / 2)
    features = share([payload["origin"] == "feature" for payload in payloads("nature-origin")])
    controls = [payload["origin"] == "control" for payload in payloads("nature-origin", condition=Condition.SHUFFLED)]
    assert features == pytest.approx(wanted, abs=0.04)
    assert share(controls) == pytest.approx(wanted, abs=0.04)
    blind = [payload["origin"] == "feature" for payload in payloads("nature-origin", Skill(separation=0))]
    assert share(blind) == pytest.approx(0.5, abs=0.04)


def test_pairs() -> None:
    chosen = [payload["easier"] for payload in payloads("pairwise")]
    decided = [choice for choice in chosen if choice != "tie"]
    assert share([choice == "tie" for choice in chosen]) == pytest.approx(0.15, abs=0.03)
    assert share([choice == "right" for choice in decided]) == pytest.approx(0.8, abs=0.03)
    alike_pairs = [payload["same"] for payload in payloads("alignment", truth={"mcs": 0.1})]
    assert share([same == "no" for same in alike_pairs]) == pytest.approx(0.8, abs=0.03)


def test_people_agree_about_an_item() -> None:
    """Half of what varies lies in the item."""
    first, second = (list(payloads("nature-origin", Skill(separation=0), condition="real")) for _ in range(2))
    rng = random.Random(9)
    protocol = PROTOCOLS["nature-origin"]
    items = [Item(condition="real", stimulus_id=f"{n}") for n in range(N)]
    second = [judge_payload(protocol, {}, item, Skill(separation=0), rng) for item in items]
    same = share([a["origin"] == b["origin"] for a, b in zip(first, second, strict=True)])
    assert same == pytest.approx(2 / 3, abs=0.04)


def test_every_control_is_unrelated() -> None:
    assert set(Condition.values) - {str(one) for one in UNRELATED} == {"real", "catch", "gold"}


def test_annotators_from_a_file() -> None:
    [one] = annotators_from([{"name": "ada", "accuracy": 0.7, "seconds": 5}])
    assert (one.skill.accuracy, one.seconds) == (0.7, 5)
    assert [one.name for one in alike(2, accuracy=0.6)] == ["bot 1", "bot 2"]
    for rows, sentence in (
        ([], "List 1 to"), ([{"accuracy": 1}], "needs a name"), ([{"name": "a", "sight": 1}], "no property 'sight'"),
        ([{"name": "a", "accuracy": "x"}], "must be numbers"), ([{"name": "a", "accuracy": 2}], "between 0 and 1"),
        ([{"name": "a", "seconds": 0}], "out of range"), ([{"name": "a"}, {"name": "a"}], "same name"),
    ):  # fmt: skip
        with pytest.raises(StudyError, match=sentence):
            annotators_from(rows)
