"""Simulated studies with known truth, one kind per protocol: people and features with random effects answer.

Features and annotators differ by normal effects on the logit (or on the evidence) with the standard deviations of
research/annotation.md §3; each answer is a payload as the player sends it and is read by the same code
(analysis.domain.measures). The truth is a property of the population, features and annotators drawn anew without end;
it is computed from a large sample of that population, never by the estimator from a study's own answers.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.domain.measures import MEASURES
from analysis.statistics.measured import Measured, make_measured
from annotation.models import Condition

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
POPULATION = 2_000_000
FEATURE_SD, ANNOTATOR_SD = 1.5, 0.5
REAL, CONTROL = str(Condition.REAL), str(Condition.RANDOM_DIRECTIONS)


class Design(NamedTuple):
    """Who answers what: each feature is judged by `overlap` of the annotators, drawn at random."""

    n_features: int
    n_annotators: int
    overlap: int

    def draw(self, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Feature and annotator of each answer."""
        order = rng.random((self.n_features, self.n_annotators)).argsort(axis=1)[:, : self.overlap]
        return np.repeat(np.arange(self.n_features), self.overlap), order.ravel()


class Answer(NamedTuple):
    payload: dict[str, Any]
    truth: dict[str, Any]
    condition: str = REAL


def read(protocol: str, options: dict[str, Any], answers: Iterable[Answer]) -> npt.NDArray[Any]:
    """[number, answer], by the functions that the report uses."""
    measure = MEASURES[protocol]
    rows = [measure.of(answer.payload, answer.truth, answer.condition, options) for answer in answers]
    return np.array(rows, dtype=measure.type).T


def measured(protocol: str, options: dict[str, Any], who: tuple[Ints, Ints], answers: Iterable[Answer]) -> Measured:
    return make_measured(who[0], who[1], read(protocol, options, answers))


def chance_of(logit: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logit)))


class Effects(NamedTuple):
    """Effects of features and annotators, drawn per study or for the population."""

    mean: float
    feature_sd: float = FEATURE_SD
    annotator_sd: float = ANNOTATOR_SD

    def draw(self, rng: np.random.Generator, design: Design, who: tuple[Ints, Ints]) -> Floats:
        """The logit of each answer."""
        features = rng.normal(self.mean, self.feature_sd, design.n_features)
        annotators = rng.normal(0, self.annotator_sd, design.n_annotators)
        return np.asarray(features[who[0]] + annotators[who[1]])

    def population(self, rng: np.random.Generator, n: int = POPULATION) -> Floats:
        return rng.normal(self.mean, self.feature_sd, n) + rng.normal(0, self.annotator_sd, n)

    def mean_chance(self) -> float:
        """By Gauss and Hermite's quadrature: features' and annotators' effects add up to one normal effect."""
        at, weight = np.polynomial.hermite_e.hermegauss(80)
        sd = float(np.hypot(self.feature_sd, self.annotator_sd))
        return float(np.sum(weight * chance_of(self.mean + sd * at)) / np.sum(weight))


def ratings_of(evidence: Floats) -> Ints:
    """1 to 4 from evidence with fixed cuts."""
    return np.asarray(np.digitize(evidence, (-1.0, 0.0, 1.0)) + 1)


def rating_answers(ratings: Ints, is_control: npt.NDArray[np.bool_]) -> Iterable[Answer]:
    conditions = (CONTROL if control else REAL for control in is_control)
    for rating, condition in zip(ratings.tolist(), conditions, strict=True):
        yield Answer({"patch_rating": rating, "image_rating": rating, "category": "", "label": ""}, {}, condition)


def forced_choices(name: str, right: npt.NDArray[np.bool_], places: Ints, n_places: int) -> Iterable[Answer]:
    """A payload that names the right place, or the next one."""
    for is_right, place in zip(right.tolist(), places.tolist(), strict=True):
        chosen = place if is_right else (place + 1) % n_places
        yield Answer({name: chosen, "confidence": 2}, {name: place})


PANEL = {"matches": [True] * 4 + [False] * 4, "kinds": ["active"] * 4 + ["random"] * 2 + ["hard"] * 2}


def panel_answers(called: npt.NDArray[np.bool_]) -> Iterable[Answer]:
    """`called` [answer, image]: the images that were marked."""
    for marked in called:
        yield Answer({"matches": np.flatnonzero(marked).tolist()}, PANEL)


def comparison_answers(outcomes: Ints, is_left: npt.NDArray[np.bool_]) -> Iterable[Answer]:
    """Outcomes 0 the item's feature, 1 the other, 2 a tie; `is_left`: the item's feature stands on the left."""
    for outcome, left in zip(outcomes.tolist(), is_left.tolist(), strict=True):
        easier = "tie" if outcome == 2 else "left" if (outcome == 0) == left else "right"
        yield Answer({"easier": easier}, {"left": "feature" if left else "other"})


def encode_map(values: Floats) -> str:
    """As frozen with a stimulus: one byte per patch."""
    return base64.b64encode((255 * values / values.max()).astype(np.uint8).tobytes()).decode()


def nature_answers(
    natures: list[str], says_feature: npt.NDArray[np.bool_], is_control: npt.NDArray[np.bool_]
) -> Iterable[Answer]:
    for nature, said, control in zip(natures, says_feature.tolist(), is_control.tolist(), strict=True):
        yield Answer({"nature": nature, "origin": "feature" if said else "control"}, {}, CONTROL if control else REAL)


def yes_no_answers(name: str, yes: npt.NDArray[np.bool_], truth: dict[str, Any]) -> Iterable[Answer]:
    for says_yes in yes.tolist():
        yield Answer({name: "yes" if says_yes else "no"}, truth)


def verdict_answers(overturned: npt.NDArray[np.bool_]) -> Iterable[Answer]:
    for is_overturned in overturned.tolist():
        yield Answer({"verdict": "no" if is_overturned else "yes", "rationale": "seen"}, {"majority": "yes"})
