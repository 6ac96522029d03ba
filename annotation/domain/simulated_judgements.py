"""What a simulated annotator answers, protocol by protocol, with an accuracy and a separation that are known.

Where an item has a truth, the answer is right with probability

    p = c + (accuracy - c) · lead,   c the chance level of the protocol,

`lead` 1 for a feature and 0 for a control (nothing in it can be perceived, so it is answered at chance), and less for a
harder contrast; a wrong answer is any of the wrong ones. Where it has none, the item is perceived as

    x = separation · [it is a feature] + √½ · (what lies in the item) + √½ · (what lies in the look) + bias,

both of them standard normal, the first drawn from the item so that people agree about it; a rating is x cut at fixed
thresholds. So real and control items lie `separation` apart: d′ is known.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from annotation.domain.protocols import Protocol
from annotation.models import Condition, Item

LEAD = {"hard": 0.7, "graded": 0.5, "no-reference": 0.0}
UNRELATED = frozenset({
    Condition.RANDOM_DIRECTIONS, Condition.RESIDUAL_BASIS, Condition.UNTRAINED_DICTIONARY,
    Condition.RANDOM_TRANSFORMER, Condition.SHUFFLED, Condition.SHUFFLED_EXPLANATION,
})  # fmt: skip
CUTS = (0.0, 0.75, 1.5)  # between 1 no, 2 a hint, 3 mostly, 4 clearly
TIES = 0.15
MOST_MARKED = 12
SURE, UNSURE = (0.15, 0.35, 0.5), (0.5, 0.35, 0.15)


@dataclass(frozen=True)
class Skill:
    """How well somebody judges; `bias` is added to what they perceive, `lapse_rate` is how often they look away."""

    accuracy: float = 0.85
    separation: float = 1.5
    bias: float = 0.0
    lapse_rate: float = 0.02


@dataclass(frozen=True)
class Judging:
    """One look of one person at one item."""

    options: Mapping[str, Any]
    item: Item
    skill: Skill
    rng: random.Random
    chance: float
    categories: Sequence[str]

    @property
    def truth(self) -> Mapping[str, Any]:
        truth: Mapping[str, Any] = self.item.truth
        return truth

    @property
    def is_related(self) -> bool:
        return self.item.condition not in UNRELATED

    def is_right(self) -> bool:
        """Whether a question with a right answer is answered rightly this time."""
        lead = LEAD.get(self.item.variant, 1.0) if self.is_related else 0.0
        looks = self.rng.random() >= self.skill.lapse_rate
        p = self.chance + (self.skill.accuracy - self.chance) * lead if looks else self.chance
        return self.rng.random() < p

    def one_of(self, n: int, right: int) -> int:
        """The right cell of n, or one of the others."""
        if self.is_right():
            return right
        return self.rng.choice([cell for cell in range(n) if cell != right])

    def perceived(self) -> float:
        in_the_item = random.Random(f"seen in {self.item.stimulus_id}").gauss(0, 1)
        noise = sqrt(0.5) * in_the_item + sqrt(0.5) * self.rng.gauss(0, 1)
        return self.skill.separation * self.is_related + noise + self.skill.bias

    def rating(self) -> int | None:
        if self.rng.random() < self.skill.lapse_rate:
            return self.rng.choice([1, 2, 3, 4, None])
        x = self.perceived()
        return 1 + sum(x >= cut for cut in CUTS)

    def of_the_item(self, *choices: str, share: float) -> str:
        """What the item is where nothing else tells: the first with probability `share`, the same for everybody."""
        return choices[0] if random.Random(f"kind of {self.item.stimulus_id}").random() < share else choices[1]


def judge_payload(
    protocol: Protocol, options: Mapping[str, Any], item: Item, skill: Skill, rng: random.Random,
    *, categories: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """An answer to the item, well formed by the protocol. Adjudication has no items of its own: ValueError."""
    if protocol.name not in JUDGES:
        raise ValueError(f"The protocol {protocol.name} has no items of its own to judge.")
    chance = protocol.chance(options)
    return JUDGES[protocol.name](Judging(options, item, skill, rng, 0.5 if chance is None else chance, categories))


def two_alternative(one: Judging) -> dict[str, Any]:
    query = one.one_of(2, one.truth["query"])
    weights = SURE if query == one.truth["query"] and one.is_related else UNSURE
    return {"query": query, "confidence": one.rng.choices((1, 2, 3), weights)[0]}


def intruder(one: Judging) -> dict[str, Any]:
    return {"intruder": one.one_of(int(one.options.get("n_images", 5)), one.truth["intruder"])}


def verification(one: Judging) -> dict[str, Any]:
    judged = [bool(is_match) == one.is_right() for is_match in one.truth["matches"]]
    if int(one.options.get("n_images", 8)) > 1:
        return {"matches": [cell for cell, fits in enumerate(judged) if fits]}
    if one.rng.random() < one.skill.lapse_rate:
        return {"match": None}
    return {"match": one.rng.choice((3, 4) if judged[0] else (1, 2))}


def pairwise(one: Judging) -> dict[str, Any]:
    """The study's own feature is the easier one with probability `accuracy`; some pairs are ties."""
    if one.rng.random() < TIES:
        return {"easier": "tie"}
    prefers_feature = one.rng.random() < one.skill.accuracy
    is_left = (one.truth.get("left", "feature") == "feature") == prefers_feature
    return {"easier": "left" if is_left else "right"}


def patch_marking(one: Judging) -> dict[str, Any]:
    """As many marks as the map has places above half of its maximum; each on one of them, or anywhere."""
    marks = []
    for cell, text in enumerate(one.truth["maps"]):
        values = base64.b64decode(text)
        places = [patch for patch, value in enumerate(values) if value and value >= max(values) / 2]
        others = [patch for patch in range(len(values)) if patch not in set(places)]
        for place in places[:MOST_MARKED]:
            marks.append([cell, place if one.is_right() or not others else one.rng.choice(others)])
    return {"marks": [list(pair) for pair in sorted({(cell, patch) for cell, patch in marks})]}


def nature_origin(one: Judging) -> dict[str, Any]:
    x = one.perceived() - one.skill.separation / 2
    natures = ("uninterpretable", "superficial", "conceptual")
    return {"nature": natures[sum(x >= cut for cut in (-0.25, 0.75))], "origin": "feature" if x > 0 else "control"}


def alignment(one: Judging) -> dict[str, Any]:
    """The same where the decoder directions are more alike than not."""
    if one.rng.random() < one.skill.lapse_rate:
        return {"same": None}
    return {"same": "yes" if (one.truth.get("mcs", 0.0) >= 0.5) == one.is_right() else "no"}


def spurious(one: Judging) -> dict[str, Any]:
    if one.rng.random() < one.skill.lapse_rate:
        return {"spurious": None, "label": ""}
    it_is = one.of_the_item("yes", "no", share=0.3)
    return {"spurious": it_is if one.is_right() else {"yes": "no", "no": "yes"}[it_is], "label": ""}


def rate_describe(one: Judging) -> dict[str, Any]:
    """Gold and catch items are known by their accepted answers; the others by what is perceived."""
    ratings = {name: one.rating() for name in ("patch_rating", "image_rating")}
    for name, accepted in one.item.accepted.items():
        if name in ratings and accepted and one.rng.random() < one.skill.accuracy:
            ratings[name] = one.rng.choice(accepted)
    is_named = max(rating or 0 for rating in ratings.values()) >= 3
    named = random.Random(f"category of {one.item.stimulus_id}")
    return ratings | {
        "category": named.choice(one.categories) if is_named and one.categories else "",
        "label": f"kind {named.randrange(12) + 1}" if is_named else "",
    }


JUDGES: dict[str, Callable[[Judging], dict[str, Any]]] = {
    "two-alternative": two_alternative, "intruder": intruder, "verification": verification, "pairwise": pairwise,
    "patch-marking": patch_marking, "nature-origin": nature_origin, "alignment": alignment, "spurious": spurious,
    "rate-describe-categorise": rate_describe,
}  # fmt: skip
