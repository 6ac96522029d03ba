"""What stands among the real features of a study: controls, catch items and gold, mixed so that nothing tells them.

Each control is matched to a sampled feature of the same hookpoint, and its maps are later cut to that feature's
patch counts (workers/stimuli.py). A map can be cut but never filled up, so a control is one of those that are active
on somewhat more patches of an image than the matched feature. A shuffled control takes each cell from another such
feature of the hookpoint. A catch item has a known answer: *clear* shows one patch and one image over
and over (accepted: 3 or 4); *none* shows patches and maps of unrelated features at wrong places (accepted: 1, 2, or
cannot tell). Gold items come from the study's own reference items.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from annotation.domain.sampling import Drawn, SampleSpec
from annotation.models import Condition, Dictionary, Feature, ReferenceItem

N_CELLS = 16
SPREAD_MARGIN = 1.5  # how many times the matched feature's patches a control should have before its maps are cut
CONTROL_CONDITIONS = (
    Condition.RANDOM_DIRECTIONS, Condition.RESIDUAL_BASIS, Condition.UNTRAINED_DICTIONARY, Condition.SHUFFLED,
)  # fmt: skip
CLEAR = {"patch_rating": [3, 4], "image_rating": [3, 4]}
NONE = {"patch_rating": [1, 2, None], "image_rating": [1, 2, None]}


class FeatureRef(NamedTuple):
    """The columns of a feature that a plan needs; `spread` is proportional to the patches per image it is active on."""

    id: int
    dictionary: int
    hookpoint: str
    spread: float


class Cell(NamedTuple):
    """A place on the sheet of one feature: image from there, map from there or from another."""

    image: tuple[int, int]
    map: tuple[int, int] | None = None


@dataclass(frozen=True)
class PlannedItem:
    """An item before its stimulus is frozen; cells are (feature id, place)."""

    condition: str
    feature: int
    matched: int
    stratum: str
    patches: list[Cell]
    images: list[Cell]
    reference: int | None = None
    accepted: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shares:
    """Shares of all items."""

    control: float = 0.1
    catch: float = 0.05
    gold: float = 0.05

    def counts(self, n_real: int, n_gold_there: int) -> tuple[int, int, int]:
        """Controls, catch and gold items; gold that is not there is made up for by catch items."""
        total = n_real / max(0.05, 1 - self.control - self.catch - self.gold)
        n_gold = min(round(total * self.gold), n_gold_there)
        n_catch = round(total * (self.catch + self.gold)) - n_gold
        return round(total * self.control), n_catch, n_gold


@dataclass(frozen=True)
class Pool:
    """What controls are drawn from: eligible features by dictionary and hookpoint, and the control dictionaries."""

    by_place: Mapping[tuple[int, str], Sequence[FeatureRef]]
    refs: Mapping[int, FeatureRef]
    controls_of: Mapping[tuple[int, str], Dictionary]

    def peers(self, feature_id: int) -> Sequence[FeatureRef]:
        ref = self.refs[feature_id]
        return self.by_place.get((ref.dictionary, ref.hookpoint)) or [ref]


def load_pool(dictionaries: Sequence[Dictionary], spec: SampleSpec, drawn: Sequence[Drawn]) -> Pool:
    """The drawn features, and the eligible ones of these dictionaries and of their controls at the same hookpoints."""
    controls = list(Dictionary.objects.filter(control_of__in=dictionaries).order_by("id"))
    drawn_rows = Feature.objects.in_bulk([one.feature_id for one in drawn])
    eligible = Feature.objects.filter(
        dictionary__in=[*dictionaries, *controls],
        hookpoint__in={feature.hookpoint for feature in drawn_rows.values()},
        n_images_active__gte=spec.min_images,
        density__gt=0,
        prefix_share__lte=spec.max_prefix_share,
    )
    by_place: dict[tuple[int, str], list[FeatureRef]] = defaultdict(list)
    refs = {pk: ref_of(feature) for pk, feature in drawn_rows.items()}
    for feature in eligible.only("id", "dictionary_id", "hookpoint", "density", "n_images_active"):
        ref = refs[feature.pk] = ref_of(feature)
        by_place[ref.dictionary, ref.hookpoint].append(ref)
    for place in by_place.values():
        place.sort(key=lambda ref: (ref.spread, ref.id))
    controls_of = {(d.control_of_id, d.kind): d for d in controls if d.control_of_id is not None}
    return Pool(by_place, refs, controls_of)


def ref_of(feature: Feature) -> FeatureRef:
    spread = feature.density / feature.n_images_active
    return FeatureRef(feature.pk, feature.dictionary_id, feature.hookpoint, spread)


def available_controls(dictionaries: Sequence[Dictionary], kinds: Sequence[str]) -> list[str]:
    """The control kinds of a study for which every sampled dictionary has its dictionary of controls."""
    rows = Dictionary.objects.filter(control_of__in=dictionaries).values_list("control_of_id", "kind")
    there = set(rows)
    return [
        kind
        for kind in kinds
        if kind == Condition.SHUFFLED or all((dictionary.pk, kind) in there for dictionary in dictionaries)
    ]


def plan_items(
    drawn: Sequence[Drawn], *, pool: Pool, kinds: Sequence[str], shares: Shares, gold: Sequence[ReferenceItem],
    rng: random.Random,
) -> list[PlannedItem]:  # fmt: skip
    """All items of a study in an order that tells nothing."""
    n_control, n_catch, n_gold = shares.counts(len(drawn), len(gold))
    items = [real_item(one.feature_id, str(one.stratum)) for one in drawn]
    items += control_items(drawn, pool=pool, kinds=kinds if n_control else [], n=n_control, rng=rng)
    items += [catch_item(drawn, pool, is_clear=index % 2 == 0, rng=rng) for index in range(n_catch)]
    items += [gold_item(reference) for reference in rng.sample(list(gold), n_gold)]
    rng.shuffle(items)
    return items


def sheet_of(feature: int) -> list[Cell]:
    return [Cell((feature, place)) for place in range(N_CELLS)]


def real_item(feature: int, stratum: str) -> PlannedItem:
    return PlannedItem(Condition.REAL, feature, feature, stratum, sheet_of(feature), sheet_of(feature))


def reference_item(reference: ReferenceItem) -> PlannedItem:
    """A practice item: shown as any other."""
    sheet = sheet_of(reference.feature_id)
    return PlannedItem("practice", reference.feature_id, reference.feature_id, "", sheet, sheet, reference.pk)


def gold_item(reference: ReferenceItem) -> PlannedItem:
    feature, sheet = reference.feature_id, sheet_of(reference.feature_id)
    accepted = dict(reference.accepted)
    return PlannedItem(Condition.GOLD, feature, feature, "gold", sheet, sheet, reference.pk, accepted)


def control_items(
    drawn: Sequence[Drawn], *, pool: Pool, kinds: Sequence[str], n: int, rng: random.Random
) -> list[PlannedItem]:
    """n controls, the kinds in turn, each matched to another sampled feature as far as there are enough."""
    if not kinds:
        return []
    order = rng.sample(list(drawn), len(drawn))
    used: set[int] = set()
    items = []
    for index in range(n):
        matched, kind = order[index % len(order)], kinds[index % len(kinds)]
        item = shuffled(matched, pool, rng) if kind == Condition.SHUFFLED else nearest(matched, kind, pool, used)
        if item is not None:
            items.append(item)
    return items


def nearest(matched: Drawn, kind: str, pool: Pool, used: set[int]) -> PlannedItem | None:
    """The control feature of the same hookpoint, not used before, that is just active enough to be cut to the match."""
    ref = pool.refs[matched.feature_id]
    dictionary = pool.controls_of.get((ref.dictionary, kind))
    candidates = pool.by_place.get((dictionary.pk, ref.hookpoint), ()) if dictionary else ()
    free = [candidate for candidate in candidates if candidate.id not in used]
    if not free:
        return None
    best = free[min(first_enough(free, ref), len(free) - 1)]
    used.add(best.id)
    return PlannedItem(kind, best.id, ref.id, str(matched.stratum), sheet_of(best.id), sheet_of(best.id))


def first_enough(ordered: Sequence[FeatureRef], matched: FeatureRef) -> int:
    """Where, among features ordered by spread, those begin that are active on enough patches."""
    return bisect_left([one.spread for one in ordered], SPREAD_MARGIN * matched.spread)


def shuffled(matched: Drawn, pool: Pool, rng: random.Random) -> PlannedItem:
    """Every cell from the same place of another feature's sheet, patches of the images shown as on any sheet."""
    ordered = pool.peers(matched.feature_id)
    enough = min(first_enough(ordered, pool.refs[matched.feature_id]), max(0, len(ordered) - N_CELLS))
    peers = [ref.id for ref in ordered[enough:]]
    cells = [Cell((feature, place)) for place, feature in enumerate(several(peers, rng))]
    stratum = str(matched.stratum)
    return PlannedItem(Condition.SHUFFLED, matched.feature_id, matched.feature_id, stratum, cells, cells)


def catch_item(drawn: Sequence[Drawn], pool: Pool, *, is_clear: bool, rng: random.Random) -> PlannedItem:
    feature = rng.choice(list(drawn)).feature_id
    if is_clear:
        cells = [Cell((feature, 0))] * N_CELLS
        return PlannedItem(Condition.CATCH, feature, feature, "catch", cells, cells, accepted=dict(CLEAR))
    everything = sorted(pool.refs)
    cells = wrong_places(everything, rng)
    return PlannedItem(Condition.CATCH, feature, feature, "catch", cells, cells, accepted=dict(NONE))


def wrong_places(features: Sequence[int], rng: random.Random) -> list[Cell]:
    """Images of some features with the maps of others."""
    images, maps = several(features, rng), several(features, rng)
    return [Cell((image, place), (other, place)) for place, (image, other) in enumerate(zip(images, maps, strict=True))]


def several(features: Sequence[int], rng: random.Random) -> list[int]:
    """As many as a sheet has cells, different ones where there are enough."""
    if len(features) >= N_CELLS:
        return rng.sample(list(features), N_CELLS)
    return [rng.choice(list(features)) for _ in range(N_CELLS)]
