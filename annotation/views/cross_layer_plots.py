"""What is known of cross-layer transcoders alone: contributions, cascades, terms, and images near to each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from django.db.models import QuerySet
from django.utils.text import capfirst
from django.utils.translation import gettext, gettext_noop

from annotation.domain.comparison import Comparison
from annotation.models import Dictionary, Image, ImageSet
from annotation.templatetags.quantities import digits3, percent
from annotation.views.comparison_plots import Plot, Point, xy_plot
from annotation.views.heat_maps import HeatMap, block_label, heat_map

GROUPS = {"cls": "CLS", "patches": gettext_noop("patches"), "all": gettext_noop("all tokens")}
LOSSES = {
    "cross_entropy": gettext_noop("cross-entropy"),
    "kl": gettext_noop("KL from the clean model"),
    "cosine_distance": gettext_noop("1 − cosine of final CLS"),
}
TERMS = {
    "all_terms": gettext_noop("all terms"),
    "drop_top": gettext_noop("without the top one"),
    "keep_four": gettext_noop("the top four alone"),
}
N_QUERIES = 4


def cross_layer_facts(comparison: Comparison) -> Iterator[tuple[int, Dictionary, dict[str, Any]]]:
    """Place, dictionary and facts of those that have some."""
    pairs = zip(comparison.dictionaries, comparison.evaluations, strict=True)
    for place, (one, evaluation) in enumerate(pairs):
        found = evaluation.facts.get("cross_layer")
        if found:
            yield place, one, found


def warning_of(comparison: Comparison) -> str:
    """What to bear in mind of a cross-layer transcoder, where there is one."""
    return next((found.get("warning", "") for _, _, found in cross_layer_facts(comparison)), "")


def contribution_maps(comparison: Comparison) -> list[HeatMap]:
    """What each source adds to what is written at each target."""
    maps = []
    for _, one, facts in cross_layer_facts(comparison):
        found = facts.get("contributions") or {}
        for group, scores in (found.get("scores") or {}).items():
            labels = [block_label(name) for name in found["sources"]], [block_label(name) for name in found["targets"]]
            note = gettext(
                "The part of what is written at a block (column) that the latents of each source (row) make up: the "
                "mean of ⟨c, ŷ⟩ / ‖ŷ‖². A column sums to 1; below 0 a source works against the rest."
            )
            names = (gettext("source block"), gettext("target block"))
            maps.append(heat_map(f"{one.name}: {gettext(GROUPS.get(group, group))}", note, scores, labels, names))
    return [one for one in maps if one is not None]


def cascade_plots(comparison: Comparison) -> list[Plot]:
    """How replacing all MLPs from one block on hurts, by group of tokens."""
    plots = (cascade_plot(comparison, group) for group in GROUPS)
    return [plot for plot in plots if plot is not None]


def cascade_plot(comparison: Comparison, group: str) -> Plot | None:
    facts = [(place, one, found.get("passes") or {}) for place, one, found in cross_layer_facts(comparison)]
    measure = best_loss([passes for _, _, passes in facts])
    series: dict[int, list[Point]] = {}
    for place, one, passes in facts:
        for key, prefix, words in ((place, "cascade", ""), (-1 - place, "zeroed", gettext(" zeroed"))):
            found = by_block(passes, f"{prefix}/{group}/")
            points = [
                Point(
                    block,
                    value[measure],
                    gettext("%(name)s,%(words)s from block %(block)s on: %(value)s")
                    % {"name": one.name, "words": words, "block": block, "value": f"{value[measure]:.4g}"},
                )
                for block, value in found.items()
            ]
            series |= {key: points} if points else {}
    if not series:
        return None
    note = gettext(
        "%(loss)s where %(group)s get the transcoder's output in place of the MLP's in every block from "
        "this one to the last, each reading the altered pass. Dashed: zeros in its place."
    ) % {"loss": capfirst(gettext(LOSSES[measure])), "group": gettext(GROUPS[group])}
    names = (gettext("first block replaced"), gettext(LOSSES[measure]))
    return xy_plot(
        gettext("Cascade, %(group)s") % {"group": gettext(GROUPS[group])},
        note,
        names,
        series,
        is_joined=True,
        by_block=True,
    )


def by_block(passes: Mapping[str, Any], prefix: str) -> dict[int, Any]:
    found = {int(key.removeprefix(prefix)): value for key, value in passes.items() if key.startswith(prefix)}
    return dict(sorted(found.items()))


def best_loss(records: list[dict[str, Any]]) -> str:
    """The first loss that every pass has."""
    every = [one for passes in records for one in passes.values()]
    return next(name for name in LOSSES if all(one[name] is not None for one in every))


class TermLine(NamedTuple):
    """A dictionary and group of tokens with a loss for each choice of terms."""

    name: str
    group: str
    cells: list[str]


def term_lines(comparison: Comparison) -> list[TermLine]:
    """What becomes of the model when the last target is the sum of some sources only."""
    lines = []
    for _, one, facts in cross_layer_facts(comparison):
        passes = facts.get("passes") or {}
        for group, words in GROUPS.items():
            found = [passes.get(f"{term}/{group}") for term in TERMS]
            if all(found):
                lines.append(TermLine(one.name, gettext(words), [shown_loss(record) for record in found if record]))
    return lines


def shown_loss(record: Mapping[str, Any]) -> str:
    if record["cross_entropy"] is not None:
        return f"{digits3(record['cross_entropy'])} ({percent(record['top_1'])})"
    return digits3(record["kl"] if record["kl"] is not None else record["cosine_distance"])


def term_caption(comparison: Comparison) -> str:
    """What the numbers of the terms are."""
    records = [facts.get("passes") or {} for _, _, facts in cross_layer_facts(comparison)]
    measure = best_loss(records) if records else "kl"
    return (
        gettext("Cross-entropy, and top-1 in brackets")
        if measure == "cross_entropy"
        else capfirst(gettext(LOSSES[measure]))
    )


def retrieval_plots(comparison: Comparison) -> list[Plot]:
    """How often the images nearest to another share its label, block by block."""
    plots = []
    for group in ("cls", "patches"):
        series: dict[int, list[Point]] = {}
        chance = 0.0
        for place, one, facts in cross_layer_facts(comparison):
            found = ((facts.get("retrieval") or {}).get("same_label") or {}).get(group)
            if not found:
                continue
            chance = found["chance"]
            for key, side in ((place, gettext_noop("reconstruction")), (-1 - place, gettext_noop("activation"))):
                series[key] = [
                    Point(
                        block,
                        share,
                        gettext("%(name)s, %(side)s, block %(block)s: %(share)s")
                        % {"name": one.name, "side": gettext(side), "block": block, "share": f"{share:.1%}"},
                    )
                    for block, share in enumerate(found[side])
                ]
        if series:
            note = gettext(
                "Share of the five nearest images, by the mean of what is rebuilt at a block, that have the label of "
                "the image they are near to; dashed, by the model's own activations. Chance is %(chance)s."
            ) % {"chance": f"{chance:.1%}"}
            title = gettext("Nearest images of the same label, %(group)s") % {"group": gettext(GROUPS[group])}
            plots.append(
                xy_plot(title, note, (gettext("block"), gettext("share")), series, is_joined=True, by_block=True)
            )
    return plots


class Neighbors(NamedTuple):
    """An image and those nearest to it at some blocks."""

    query: Image
    rows: list[tuple[str, list[Image]]]


def nearest_images(comparison: Comparison, seen: QuerySet[ImageSet]) -> list[Neighbors]:
    """Some queries of the first transcoder whose image set may be seen, at the first, the middle and the last block."""
    for _, _, facts in cross_layer_facts(comparison):
        queries = ((facts.get("retrieval") or {}).get("queries") or [])[:N_QUERIES]
        image_set = seen.filter(digest=image_set_of(comparison, facts)).first()
        if not queries or image_set is None:
            continue
        wanted = {one["image"] for one in queries} | {
            place for one in queries for row in one["nearest"].values() for place in row
        }
        images = {one.index: one for one in image_set.images.filter(index__in=wanted)}
        return [neighbors_of(one, images) for one in queries if one["image"] in images]
    return []


def image_set_of(comparison: Comparison, facts: dict[str, Any]) -> str:
    found = (one.facts["image_set"] for one in comparison.evaluations if one.facts.get("cross_layer") is facts)
    return next(found, "")


def neighbors_of(query: Mapping[str, Any], images: Mapping[int, Image]) -> Neighbors:
    blocks = list(query["nearest"])
    shown = sorted({0, len(blocks) // 2, len(blocks) - 1})
    rows = [
        (block_label(blocks[place]), [images[index] for index in query["nearest"][blocks[place]] if index in images])
        for place in shown
    ]
    return Neighbors(images[query["image"]], rows)
