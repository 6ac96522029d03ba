"""Items of two features: sets compared pair by pair, and pairs whose alignment is judged.

*pairwise*: within a block and a density band (common to all dictionaries) the features of two dictionaries are paired
in the order of their density, every dictionary with every other; a feature that finds no partner is listed with the
reason. *alignment*: the pairs come from an alignment artefact, in equal parts from its bins.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from django.utils.translation import gettext_noop

from annotation.domain.alignment_pairs import AlignedPair
from annotation.domain.planning_contents import Shown
from annotation.domain.planning_items import PRACTICE, PlannedItem, Shares, new_seed
from annotation.domain.sampling import Drawn
from annotation.models import Condition, ReferenceItem

NO_PARTNER = gettext_noop("no feature of the other dictionary in this block and density band")


class Pairs(NamedTuple):
    """Pairs to compare, and the features left without a partner."""

    pairs: list[tuple[Drawn, Drawn]]
    alone: list[Drawn]


def matched_pairs(drawn: Sequence[Drawn], density: Mapping[int, float], rng: random.Random) -> Pairs:
    """Pairs within (block, band), of different dictionaries, neighbors in density; who comes first is drawn."""
    sets: dict[tuple[int, str], dict[int, list[Drawn]]] = defaultdict(lambda: defaultdict(list))
    for one in drawn:
        sets[one.stratum.block, one.stratum.band][one.stratum.dictionary].append(one)
    pairs: list[tuple[Drawn, Drawn]] = []
    for _, by_dictionary in sorted(sets.items()):
        ordered = {
            dictionary: sorted(members, key=lambda one: (density[one.feature_id], one.feature_id))
            for dictionary, members in sorted(by_dictionary.items())
        }
        for first, second in combinations(ordered, 2):
            pairs += zip(ordered[first], ordered[second], strict=False)
    paired = {one.feature_id for pair in pairs for one in pair}
    alone = [one for one in drawn if one.feature_id not in paired]
    return Pairs([pair if rng.random() < 0.5 else pair[::-1] for pair in pairs], alone)


def plan_pairs(
    pairs: Sequence[tuple[Drawn, Drawn]], *, shares: Shares, references: Sequence[ReferenceItem], rng: random.Random
) -> list[PlannedItem]:
    real = [
        PlannedItem(
            Condition.REAL, one.feature_id, one.feature_id, str(one.stratum), Shown(), new_seed(rng), other.feature_id
        )
        for one, other in pairs
    ]
    return with_references(real, shares, references, rng)


def plan_alignment(
    pairs: Sequence[AlignedPair], *, shares: Shares, references: Sequence[ReferenceItem], rng: random.Random
) -> list[PlannedItem]:
    real = [
        PlannedItem(
            Condition.REAL, pair.feature, pair.feature, str(pair.stratum),
            Shown(variant=f"bin {pair.bin}", truth={"mcs": pair.mcs, "null_percentile": pair.null_percentile}),
            new_seed(rng), pair.other,
        )
        for pair in pairs
    ]  # fmt: skip
    return with_references(real, shares, references, rng)


def with_references(
    real: Sequence[PlannedItem], shares: Shares, references: Sequence[ReferenceItem], rng: random.Random
) -> list[PlannedItem]:
    """Gold mixed in, practice at the end; gold and practice items name both features."""
    gold = [one for one in references if one.kind == ReferenceItem.Kind.GOLD]
    _, n_gold = shares.n_checks(len(real), len(gold), has_catch=False)
    items = [*real, *(pair_reference(one, Condition.GOLD, rng) for one in rng.sample(gold, n_gold))]
    rng.shuffle(items)
    practice = [one for one in references if one.kind == ReferenceItem.Kind.PRACTICE]
    return items + [pair_reference(one, PRACTICE, rng) for one in practice]


def pair_reference(reference: ReferenceItem, condition: str, rng: random.Random) -> PlannedItem:
    stratum = "" if condition == PRACTICE else "gold"
    accepted: dict[str, Any] = dict(reference.accepted)
    return PlannedItem(
        condition, reference.feature_id, reference.feature_id, stratum, Shown(variant=reference.variant),
        new_seed(rng), reference.other_feature_id, reference.pk, accepted,
    )  # fmt: skip
