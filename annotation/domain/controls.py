"""Controls: what stands among the real features without having been learned, matched so that nothing tells it.

Each control is matched to a sampled feature of the same hookpoint. A map can be cut to the patches of the matched
feature (workers/stimuli) but never filled up, so of the control features that are active on somewhat more patches of an
image, the one is taken that lacks the fewest patches at any place of the sheet and shows as many images twice. A
*shuffled* control takes each cell from another feature of the hookpoint that is active on enough patches there, and
none whose image is on the sheet already: where features share their strongest images (the MLP's own units do), one
sheet in five showed a picture again, which no feature's sheet does.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from django.db.models import QuerySet

from annotation.domain.sampling import Drawn, SampleSpec
from annotation.domain.sheet_counts import (
    Counts,
    Place,
    SheetCounts,
    count_at,
    is_enough,
    panels_at,
    repeats,
    shortfall,
)
from annotation.models import Condition, Dictionary, Feature

N_CELLS = 16
SPREAD_MARGIN = 1.2  # how many times the matched feature's patches a control should have on average
N_COMPARED = 1024  # control features whose sheets are compared at most with that of the matched feature
N_PEERS = 96  # features among which the cells of a shuffled sheet are looked for
CONTROL_CONDITIONS = (
    Condition.RANDOM_DIRECTIONS, Condition.RESIDUAL_BASIS, Condition.UNTRAINED_DICTIONARY,
    Condition.RANDOM_TRANSFORMER, Condition.SHUFFLED,
)  # fmt: skip
EVERY_CONTROL = (*CONTROL_CONDITIONS, Condition.SHUFFLED_EXPLANATION)


class FeatureRef(NamedTuple):
    """The columns of a feature that a plan needs; `spread` is proportional to the patches per image it is active on."""

    id: int
    dictionary: int
    hookpoint: str
    spread: float


class Cell(NamedTuple):
    """A place on the sheet of one feature."""

    feature: int
    place: int


class Control(NamedTuple):
    """A control before it becomes an item; `cells` are those of a shuffled sheet."""

    kind: str
    feature: int
    matched: Drawn
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Pool:
    """What controls are drawn from: eligible features by dictionary and hookpoint, and the control dictionaries.

    `counts` gives the active patches at each place of a feature's sheet.
    """

    by_place: Mapping[tuple[int, str], Sequence[FeatureRef]]
    refs: Mapping[int, FeatureRef]
    controls_of: Mapping[tuple[int, str], Dictionary]
    counts: Callable[[int], Counts]
    used: set[int] = field(default_factory=set)

    def peers(self, feature_id: int) -> Sequence[FeatureRef]:
        ref = self.refs[feature_id]
        return self.by_place.get((ref.dictionary, ref.hookpoint)) or [ref]

    def unlikeness(self, matched: int, other: int) -> int:
        """Patches and cells that are missing, and images shown again on one of the two sheets only."""
        wanted, there = self.counts(matched), self.counts(other)
        return shortfall(wanted, there) + abs(repeats(wanted, wanted) - repeats(there, wanted))


def load_pool(dictionaries: Sequence[Dictionary], spec: SampleSpec, drawn: Sequence[Drawn]) -> Pool:
    """The drawn features, and the eligible ones of these dictionaries and of their controls at the same hookpoints."""
    controls = list(Dictionary.objects.filter(control_of__in=dictionaries).order_by("id"))
    drawn_rows = pool_rows(Feature.objects.filter(pk__in=[one.feature_id for one in drawn]))
    eligible = pool_rows(
        Feature.objects.filter(
            dictionary__in=[*dictionaries, *controls],
            hookpoint__in={ref.hookpoint for ref, _ in drawn_rows},
            n_images_active__gte=spec.min_images,
            density__gt=0,
            prefix_share__lte=spec.max_prefix_share,
        )
    )
    by_place: dict[tuple[int, str], list[FeatureRef]] = defaultdict(list)
    for ref, _ in eligible:
        by_place[ref.dictionary, ref.hookpoint].append(ref)
    for refs in by_place.values():
        refs.sort(key=lambda ref: (ref.spread, ref.id))
    places = {ref.id: place for ref, place in (*drawn_rows, *eligible)}
    read = SheetCounts()
    return Pool(
        by_place=by_place,
        refs={ref.id: ref for ref, _ in (*drawn_rows, *eligible)},
        controls_of={(d.control_of_id, d.kind): d for d in controls if d.control_of_id is not None},
        counts=cache(lambda feature_id: read(places[feature_id])),
    )


def pool_rows(features: QuerySet[Feature]) -> list[tuple[FeatureRef, Place]]:
    """Of each feature what a plan needs, and where its exemplars lie."""
    columns = (
        "id", "dictionary_id", "hookpoint", "density", "n_images_active", "exemplar_set__digest", "pole", "latent",
    )  # fmt: skip
    return [
        (
            FeatureRef(pk, dictionary, hookpoint, density / max(1, n_images)),
            Place(exemplars, hookpoint, pole, latent),
        )
        for pk, dictionary, hookpoint, density, n_images, exemplars, pole, latent in features.values_list(*columns)
    ]


def available_controls(dictionaries: Sequence[Dictionary], kinds: Sequence[str]) -> list[str]:
    """The control kinds of a study for which every sampled dictionary has its dictionary of controls."""
    rows = Dictionary.objects.filter(control_of__in=dictionaries).values_list("control_of_id", "kind")
    there = set(rows)
    needs_none = {Condition.SHUFFLED, Condition.SHUFFLED_EXPLANATION}
    return [
        kind
        for kind in kinds
        if kind in needs_none or all((dictionary.pk, kind) in there for dictionary in dictionaries)
    ]


def matched_controls(
    drawn: Sequence[Drawn], *, pool: Pool, kinds: Sequence[str], n: int, rng: random.Random
) -> list[Control]:
    """n controls, each kind as often, each matched to another sampled feature as far as there are enough.

    The features of every kind are spread evenly over dense and sparse ones: drawn at random, the hundred of one kind
    may be denser than the features they stand among, which tells them as well as a bad match does.
    """
    if not kinds or not drawn:
        return []
    found = []
    for matched, kind in spread_evenly(drawn, kinds, n, pool, rng):
        control = shuffled(matched, pool, rng) if kind == Condition.SHUFFLED else nearest(matched, kind, pool)
        if control is not None:
            found.append(control)
    return found


def spread_evenly(
    drawn: Sequence[Drawn], kinds: Sequence[str], n: int, pool: Pool, rng: random.Random
) -> list[tuple[Drawn, str]]:
    """Pairs of a sampled feature and a kind, in random order; in each run of as many features as kinds, every kind."""
    ordered = sorted(drawn, key=lambda one: (pool.refs[one.feature_id].spread, one.feature_id))
    whole, rest = divmod(n, len(ordered))
    start = rng.random()
    places = sorted([*range(len(ordered))] * whole + [int((k + start) * len(ordered) / rest) for k in range(rest)])
    pairs: list[tuple[Drawn, str]] = []
    while len(pairs) < n:
        pairs += zip([ordered[place] for place in places[len(pairs) :]], rng.sample(kinds, len(kinds)), strict=False)
    return rng.sample(pairs, len(pairs))


def nearest(matched: Drawn, kind: str, pool: Pool) -> Control | None:
    """The control feature of the hookpoint, not used before, whose sheet lacks the least of what the match has."""
    ref = pool.refs[matched.feature_id]
    dictionary = pool.controls_of.get((ref.dictionary, kind))
    candidates = pool.by_place.get((dictionary.pk, ref.hookpoint), ()) if dictionary else ()
    free = [candidate for candidate in candidates if candidate.id not in pool.used]
    if not free:
        return None
    best, least = free[-1], math.inf
    for one in free[min(first_enough(free, ref), max(0, len(free) - N_COMPARED)) :][:N_COMPARED]:
        unlikeness = pool.unlikeness(ref.id, one.id)
        if unlikeness < least:  # of equals the one with the fewest patches, which stands first
            best, least = one, unlikeness
        if least == 0:
            break
    pool.used.add(best.id)
    return Control(kind, best.id, matched)


def first_enough(ordered: Sequence[FeatureRef], matched: FeatureRef) -> int:
    """Where, among features ordered by spread, those begin that are active on enough patches."""
    return bisect_left([one.spread for one in ordered], SPREAD_MARGIN * matched.spread)


def shuffled(matched: Drawn, pool: Pool, rng: random.Random) -> Control:
    """Every cell from the same place of another feature's sheet, patches of the images shown as on any sheet."""
    cells = scattered_cells(matched.feature_id, pool.peers(matched.feature_id), pool, rng)
    return Control(Condition.SHUFFLED, matched.feature_id, matched, cells)


def scattered_cells(matched: int, peers: Sequence[FeatureRef], pool: Pool, rng: random.Random) -> tuple[Cell, ...]:
    """A cell per place, each from another feature, active there on as many patches as the matched one if any is.

    Of those that are, the one that brings as many images again as the matched sheet does there, none twice in a panel.
    """
    wanted = pool.counts(matched)
    others = [ref for ref in peers if ref.id != matched] or list(peers)
    left = [ref.id for ref in rng.sample(others, min(N_PEERS, len(others)))]
    cells: list[Cell] = [Cell(matched, place) for place in range(N_CELLS)]
    there, here, n_owed = Pictures(), Pictures(), 0
    for place in sorted(range(N_CELLS), key=lambda place: -count_at(wanted, place)):
        left = left or [ref.id for ref in others]
        n_owed += there.take(wanted, place)
        fitting = [one for one in left if is_enough(wanted, pool.counts(one), place)]
        if fitting:
            chosen = min(fitting, key=lambda one: here.unlikeness(pool.counts(one), place, n_owed))
        else:
            chosen = max(left, key=lambda one: count_at(pool.counts(one), place))
        n_owed -= here.take(pool.counts(chosen), place)
        left.remove(chosen)
        cells[place] = Cell(chosen, place)
    return tuple(cells)


class Pictures:
    """The images that lie on a sheet that is being made, in its panel of images and in that of patches."""

    def __init__(self) -> None:
        self.panels: tuple[set[int], set[int]] = (set(), set())

    def unlikeness(self, counts: Counts, place: int, n_again: int) -> tuple[int, int]:
        """How many images would come twice in a panel, and how far the number shown again would be from this one."""
        images = panels_at(counts, place)
        n_in_panel = sum(len(panel & new) for panel, new in zip(self.panels, images, strict=True))
        return n_in_panel, abs(self.again(images) - n_again)

    def take(self, counts: Counts, place: int) -> int:
        """Lay the sheet's images of a place down; how many of these cells show an image again."""
        images = panels_at(counts, place)
        n_again = self.again(images)
        for panel, new in zip(self.panels, images, strict=True):
            panel |= new
        return n_again

    def again(self, images: tuple[set[int], set[int]]) -> int:
        n_cells = sum(map(len, images))
        return n_cells - len(set.union(*images).difference(*self.panels))
