"""The items of a study, in an order that tells nothing: features, controls, checks and practice, by protocol.

A *content* makes what one item of a feature shows (planning_contents.py); pairs are planned apart
(planning_items_pairs.py). Catch items have an answer that whoever looks can give, and look like any other:

- rate-describe-categorise, nature-origin: *nothing shared*, a shuffled sheet over all hookpoints, cut to the patch
  counts of a sampled feature. What is clearly shared only the researcher can know: that is what gold items are for.
- two-alternative: the activating query is one of the references.
- intruder: features of the gold items again, other images of them.
- all others: none; gold items take their share.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from annotation.domain.controls import EVERY_CONTROL, Control, FeatureRef, Pool, matched_controls, scattered_cells
from annotation.domain.planning_contents import NO_REFERENCE, Content, Shown, sheet_of
from annotation.domain.protocols import Protocol
from annotation.domain.sampling import Drawn
from annotation.models import Condition, ReferenceItem
from annotation.models.study import QUEUE_KEYS

PRACTICE = "practice"
NOTHING_SHARED: dict[str, dict[str, Any]] = {
    "rate-describe-categorise": {"patch_rating": [1, 2, None], "image_rating": [1, 2, None]},
    "nature-origin": {"nature": ["uninterpretable"]},
}


@dataclass(frozen=True)
class PlannedItem:
    """An item before its stimulus is frozen."""

    condition: str
    feature: int
    matched: int
    stratum: str
    shown: Shown = field(default_factory=Shown)
    seed: int = 0
    other: int | None = None
    reference: int | None = None
    accepted: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shares:
    """Controls as a share of features and controls; catch and gold as shares of all items."""

    control: float = 0.1
    catch: float = 0.05
    gold: float = 0.05

    def n_controls(self, n_real: int) -> int:
        return round(n_real * self.control / max(0.05, 1 - self.control))

    def n_checks(self, n_judged: int, n_gold_there: int, *, has_catch: bool) -> tuple[int, int]:
        """Catch and gold items among so many others; each makes up for what the other has not."""
        total = n_judged / max(0.05, 1 - self.catch - self.gold)
        n_checks = round(total * (self.catch + self.gold))
        wanted = round(total * self.gold) if has_catch else n_checks
        n_gold = min(wanted, n_gold_there)
        return (n_checks - n_gold if has_catch else 0), n_gold


@dataclass(frozen=True)
class Draft:
    """What the items of a study are made of."""

    protocol: Protocol
    options: Mapping[str, Any]
    drawn: Sequence[Drawn]
    pool: Pool
    kinds: Sequence[str]
    shares: Shares
    references: Sequence[ReferenceItem]

    @cached_property
    def own(self) -> list[FeatureRef]:
        """The eligible features of the sampled dictionaries, without their controls."""
        dictionaries = {one.stratum.dictionary for one in self.drawn}
        return [ref for _, ref in sorted(self.pool.refs.items()) if ref.dictionary in dictionaries]

    @property
    def gold(self) -> list[ReferenceItem]:
        return [one for one in self.references if one.kind == ReferenceItem.Kind.GOLD]

    @property
    def practice(self) -> list[ReferenceItem]:
        return [one for one in self.references if one.kind == ReferenceItem.Kind.PRACTICE]


def plan_items(draft: Draft, content: Content, rng: random.Random) -> list[PlannedItem]:
    """All items of a study of single features; practice comes last."""
    real = real_items(draft, content, rng)
    n_controls = draft.shares.n_controls(len(real))
    controls = control_items(draft, content, real, n_controls, rng)
    items = [*real, *controls]
    n_catch, n_gold = draft.shares.n_checks(len(items), len(draft.gold), has_catch=has_catch(draft))
    items += catch_items(draft, content, n_catch, rng)
    items += [reference_item(one, content, Condition.GOLD, rng) for one in rng.sample(draft.gold, n_gold)]
    if Condition.SHUFFLED_EXPLANATION in draft.kinds:
        items = in_parts(items, rng)
    rng.shuffle(items)
    return items + [reference_item(one, content, PRACTICE, rng) for one in draft.practice]


def new_seed(rng: random.Random) -> int:
    return rng.randrange(QUEUE_KEYS)


def real_items(draft: Draft, content: Content, rng: random.Random) -> list[PlannedItem]:
    """As many items per feature as asked, the variants in equal parts."""
    n_each = int(draft.options.get("items_per_feature", 1))
    return [
        PlannedItem(
            Condition.REAL, one.feature_id, one.feature_id, str(one.stratum),
            content(one.feature_id, place * n_each + index), new_seed(rng),
        )
        for place, one in enumerate(draft.drawn)
        for index in range(n_each)
    ]  # fmt: skip


def control_items(
    draft: Draft, content: Content, real: Sequence[PlannedItem], n: int, rng: random.Random
) -> list[PlannedItem]:
    if Condition.SHUFFLED_EXPLANATION in draft.kinds:
        return shuffled_explanations(draft, content, rng.sample(list(real), min(n, len(real))), rng)
    kinds = [kind for kind in draft.kinds if kind in draft.protocol.conditions]
    found = matched_controls(draft.drawn, pool=draft.pool, kinds=kinds, n=n, rng=rng)
    return [control_item(control, content, index, rng) for index, control in enumerate(found)]


def control_item(control: Control, content: Content, index: int, rng: random.Random) -> PlannedItem:
    shown = content(control.feature, index)
    if not shown.text:  # a control that promotes no class is asked about that of its match
        matched = content(control.matched.feature_id, index)
        shown = replace(shown, text=matched.text, truth=matched.truth)
    if control.cells:
        shown = replace(shown, patches=control.cells, images=control.cells)
    return PlannedItem(
        control.kind, control.feature, control.matched.feature_id, str(control.matched.stratum), shown, new_seed(rng)
    )


def shuffled_explanations(
    draft: Draft, content: Content, chosen: Sequence[PlannedItem], rng: random.Random
) -> list[PlannedItem]:
    """The features of some items again, each under the sentence of another feature.

    It is one that nobody meets otherwise, as far as there are such: of a sentence met twice one could tell that it is
    false at least once.
    """
    texts = unmet_sentences(draft, content, chosen, rng)
    left = [place for place, text in enumerate(texts) if not text]
    known = [content(one.feature_id, 0).text for one in draft.drawn]
    for place, text in zip(left, derangement([chosen[place].shown.text for place in left], known, rng), strict=True):
        texts[place] = text
    return [
        replace(
            item, condition=Condition.SHUFFLED_EXPLANATION, matched=item.feature, seed=new_seed(rng),
            shown=replace(item.shown, text=text),
        )
        for item, text in zip(chosen, texts, strict=True)
        if text
    ]  # fmt: skip


def unmet_sentences(draft: Draft, content: Content, items: Sequence[PlannedItem], rng: random.Random) -> list[str]:
    """A sentence for each item of a feature that is not in the study, of the same hookpoint first; "" where none is."""
    shown = [*(one.feature_id for one in draft.drawn), *(one.feature_id for one in draft.references)]
    met = {"", *(content(feature, 0).text for feature in shown), *(one.text for one in draft.references)}
    spare: dict[str, str] = {}
    for ref in rng.sample(draft.own, len(draft.own)):
        text = content(ref.id, 0).text
        if text not in met:
            spare.setdefault(text, ref.hookpoint)
    found = []
    for item in items:
        near = (text for text, hookpoint in spare.items() if hookpoint == draft.pool.refs[item.feature].hookpoint)
        text = next(near, None) or next(iter(spare), "")
        spare.pop(text, None)
        found.append(text)
    return found


def in_parts(items: Sequence[PlannedItem], rng: random.Random) -> list[PlannedItem]:
    """Each item told which part of its feature's images is its own, so that those of one feature share none.

    All features have as many parts and which is whose is drawn, so that a part tells nothing of what an item is.
    """
    n_parts = max(Counter(item.feature for item in items).values(), default=1)
    free = {item.feature: rng.sample(range(n_parts), n_parts) for item in items}
    return [in_part(item, free[item.feature].pop(), n_parts) for item in items]


def in_part(item: PlannedItem, part: int, n_parts: int) -> PlannedItem:
    options = {**item.shown.options, "part": part, "n_parts": n_parts}
    return replace(item, shown=replace(item.shown, options=options))


def derangement(texts: Sequence[str], spare: Sequence[str], rng: random.Random) -> list[str]:
    """The texts in another order, nowhere the same words as before; "" where all texts there are say the same.

    Where the order runs into its own words, a text of `spare` with other words stands in.
    """
    rank = {text: rng.random() for text in sorted(set(texts))}
    order = sorted(range(len(texts)), key=lambda index: (rank[texts[index]], index))
    most = max((texts.count(text) for text in set(texts)), default=0)
    turned = {index: texts[order[(place + most) % len(order)]] for place, index in enumerate(order)}
    found = []
    for index, text in enumerate(texts):
        others = sorted({one for one in spare if one != text})
        is_other = turned[index] != text
        found.append(turned[index] if is_other else rng.choice(others) if others else "")
    return found


def has_catch(draft: Draft) -> bool:
    """Two alternatives without references have none: one with references would be known by them."""
    match draft.protocol.name:
        case "two-alternative":
            return any(variant != NO_REFERENCE for variant in draft.options["variants"])
        case "intruder":
            return bool(draft.gold)
        case name:
            return name in NOTHING_SHARED


def catch_items(draft: Draft, content: Content, n: int, rng: random.Random) -> list[PlannedItem]:
    """Items with an answer that whoever looks can give; answers that follow from the truth are filled in at opening."""
    name = draft.protocol.name
    if name in NOTHING_SHARED:
        return [nothing_shared(draft, content, NOTHING_SHARED[name], rng) for _ in range(n)]
    if name == "two-alternative":
        return [repeated_reference(draft, content, index, rng) for index in range(n)]
    return [
        replace(reference_item(draft.gold[index % len(draft.gold)], content, Condition.CATCH, rng), reference=None)
        for index in range(n)
    ]


def nothing_shared(draft: Draft, content: Content, accepted: dict[str, Any], rng: random.Random) -> PlannedItem:
    matched = rng.choice(list(draft.drawn)).feature_id
    cells = scattered_cells(matched, draft.own, draft.pool, rng)
    shown = replace(content(matched, 0), patches=cells, images=cells)
    return PlannedItem(Condition.CATCH, matched, matched, "catch", shown, new_seed(rng), accepted=dict(accepted))


def repeated_reference(draft: Draft, content: Content, index: int, rng: random.Random) -> PlannedItem:
    """A feature that nobody judges otherwise, where there is one."""
    drawn = {one.feature_id for one in draft.drawn} | {one.feature_id for one in draft.references}
    spare = [ref.id for ref in draft.own if ref.id not in drawn]
    feature = rng.choice(spare or sorted(one.feature_id for one in draft.drawn))
    shown = content(feature, index)
    options = dict(shown.options) | {"repeat_reference": True, "contrast": "easy"}
    shown = replace(shown, variant="easy", options=options)
    return PlannedItem(Condition.CATCH, feature, feature, "catch", shown, new_seed(rng))


def reference_item(reference: ReferenceItem, content: Content, condition: str, rng: random.Random) -> PlannedItem:
    """A practice, gold or catch item of a feature the researcher chose: shown as any other."""
    shown = content(reference.feature_id, 0)
    changes = {name: value for name in ("variant", "text") if (value := getattr(reference, name))}
    return PlannedItem(
        condition, reference.feature_id, reference.feature_id, "" if condition == PRACTICE else str(condition),
        replace(shown, **changes), new_seed(rng), reference.other_feature_id, reference.pk, dict(reference.accepted),
    )  # fmt: skip


def kinds_of(protocol: Protocol, wanted: Sequence[str]) -> list[str]:
    """The chosen kinds of controls that make sense for the protocol."""
    return [kind for kind in wanted if kind in protocol.conditions and kind in EVERY_CONTROL]


__all__ = ["PRACTICE", "Draft", "PlannedItem", "Shares", "kinds_of", "plan_items", "sheet_of"]
