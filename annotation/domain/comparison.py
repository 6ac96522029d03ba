"""Dictionaries side by side: every figure of the quality artefact by dictionary and hookpoint, sorted as asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from django.utils.translation import gettext_noop as _

from annotation.domain.counterparts import hookpoints_compared
from annotation.domain.dictionary_measures import BY_KEY, MEASURES, Measure
from annotation.domain.features import block_of
from annotation.domain.storage import artifact_store
from annotation.models import Dictionary, ImageSet, Run
from workers.artifacts import ArtifactError

MOST = 20
TOGETHER = _("all together")
EVALUATION, ALIGNMENT = "evaluate-dictionary", "align-dictionaries"


class Evaluation(NamedTuple):
    """What is known of a dictionary as a whole; ``facts`` is empty where it was not evaluated or is not here."""

    facts: dict[str, Any]
    problem: str


class Row(NamedTuple):
    """One dictionary at one hookpoint, or at all together; a measure that was not taken is None."""

    dictionary: Dictionary
    place: int
    hookpoint: str
    block: int | None
    values: dict[str, float | None]


@dataclass(frozen=True)
class Comparison:
    """The chosen dictionaries in the order chosen; ``baseline`` is what splice scores are relative to."""

    dictionaries: Sequence[Dictionary]
    baseline: str = "zero"

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        return [evaluation_of(one) for one in self.dictionaries]

    @cached_property
    def rows(self) -> list[Row]:
        """By dictionary, then by block; the splice of all hookpoints together last."""
        found = []
        for place, (one, evaluation) in enumerate(zip(self.dictionaries, self.evaluations, strict=True)):
            ordered = sorted(one.hookpoints, key=lambda hookpoint: (block_of(hookpoint), hookpoint))
            for hookpoint in ordered:
                record = one.quality.get(hookpoint)
                if record:
                    values = self.values_of(record)
                    found.append(Row(one, place, hookpoint, block_of(hookpoint), values))
            if "splice_together" in evaluation.facts:
                together = self.values_of({"splice": evaluation.facts["splice_together"]})
                found.append(Row(one, place, TOGETHER, None, together))
        return found

    def values_of(self, record: Mapping[str, Any]) -> dict[str, float | None]:
        return {one.key: one.value(record, self.baseline) for one in MEASURES}

    def sorted_rows(self, order: str) -> list[Row]:
        """By a measure's key, 'name' or 'hookpoint', falling with a minus; what was not measured comes last."""
        key, falls = order.removeprefix("-"), order.startswith("-")
        read = sort_key(key)
        known = [row for row in self.rows if read(row) is not None]
        unknown = [row for row in self.rows if read(row) is None]
        return sorted(known, key=lambda row: read(row), reverse=falls) + unknown

    @property
    def image_sets(self) -> dict[str, str]:
        """Names of the image sets that figures are of, by digest."""
        digests = {one.facts["image_set"] for one in self.evaluations if one.facts}
        return dict(ImageSet.objects.filter(digest__in=digests).values_list("digest", "name"))

    def measured(self) -> list[Measure]:
        """The measures that some row has."""
        return [one for one in MEASURES if any(row.values[one.key] is not None for row in self.rows)]


def sort_key(key: str) -> Callable[[Row], Any]:
    if key == "name":
        return lambda row: (row.dictionary.name.lower(), row.place)
    if key == "hookpoint":
        return lambda row: (row.block is None, row.block or 0, row.hookpoint)
    return lambda row: row.values.get(key)


def sortable(key: str) -> bool:
    return key in BY_KEY or key in ("name", "hookpoint")


def evaluation_of(dictionary: Dictionary) -> Evaluation:
    if not dictionary.quality:
        return Evaluation({}, "")
    try:
        artifact = artifact_store().open(dictionary.quality_digest, kind="quality")
        return Evaluation(artifact.json("evaluation.json"), "")
    except ArtifactError as error:
        return Evaluation({}, str(error))


def evaluations_under_way(dictionaries: Sequence[Dictionary]) -> dict[str, Run]:
    """Runs that evaluate one of these and are not over, by the dictionary's digest."""
    waiting = Run.objects.filter(stage=EVALUATION, state__in=(Run.State.QUEUED, Run.State.RUNNING)).order_by("id")
    wanted = {one.digest for one in dictionaries}
    return {run.config["dictionary"]: run for run in waiting if run.config.get("dictionary") in wanted}


class Match(NamedTuple):
    """How near the latents of one dictionary come to another's, counted in equal bins of the measure, and its null."""

    name: str
    edges: list[float]
    shares: list[float]
    mean: float
    null_mean: float
    null_99: float
    share_above: float
    n_latents: int


class Alignment(NamedTuple):
    """Two of the chosen dictionaries by their places, and the matches of the first's latents, then of the second's."""

    first: int
    second: int
    forth: list[Match]
    back: list[Match]
    run: int


def alignments_between(dictionaries: Sequence[Dictionary]) -> list[Alignment]:
    """The latest finished alignment of every two of them."""
    place = {one.digest: number for number, one in enumerate(dictionaries)}
    done = Run.objects.filter(stage=ALIGNMENT, state=Run.State.DONE).order_by("-id")
    found: dict[frozenset[int], Alignment] = {}
    for run in done:
        first, second = (place.get(run.config.get(name, "")) for name in ("dictionary", "other"))
        if first is None or second is None or frozenset((first, second)) in found:
            continue
        try:
            nulls = artifact_store().open(run.artifacts[0], kind="alignment").json("null.json")
        except (ArtifactError, IndexError):
            continue
        forth, back = (matches(nulls, side) for side in ("a_to_b", "b_to_a"))
        found[frozenset((first, second))] = Alignment(first, second, forth, back, run.pk)
    return sorted(found.values(), key=lambda one: (one.first, one.second))


def matches(nulls: Mapping[str, Any], side: str) -> list[Match]:
    """Over all hookpoints: by decoder direction, and where it was measured by activations and by top images."""
    records = {_("max cosine of decoder directions"): [one[side] for one in nulls.values()]}
    for name in (_("max Pearson correlation of activations"), _("max Jaccard of top images")):
        kept = [one["activations"][name][side] for one in nulls.values() if "activations" in one]
        records |= {name: kept} if kept else {}
    return [match_of(name, kept) for name, kept in records.items()]


def match_of(name: str, records: Sequence[Mapping[str, Any]]) -> Match:
    """Hookpoints joined, weighted by their latents."""
    n = sum(one["n_latents"] for one in records) or 1
    counts = [sum(column) for column in zip(*(one["n_in_bin"] for one in records), strict=True)]

    def averaged(read: Callable[[Mapping[str, Any]], float]) -> float:
        return float(sum(read(one) * one["n_latents"] for one in records) / n)

    return Match(
        name=name,
        edges=[number / len(counts) for number in range(len(counts) + 1)],
        shares=[count / n for count in counts],
        mean=averaged(lambda one: one["mean"]),
        null_mean=averaged(lambda one: one["null_mean"]),
        null_99=averaged(lambda one: one["null_percentiles"]["99"]),
        share_above=averaged(lambda one: one["share_above"]["99"]),
        n_latents=n,
    )


def pairs_to_align(dictionaries: Sequence[Dictionary], known: Sequence[Alignment]) -> list[tuple[int, int]]:
    """Places of two dictionaries of one model with hookpoints to compare that no alignment compares."""
    done = {frozenset((one.first, one.second)) for one in known}
    return [
        (first, second)
        for second, other in enumerate(dictionaries)
        for first, one in enumerate(dictionaries[:second])
        if one.vision_model_id == other.vision_model_id
        and hookpoints_compared(one, other)
        and frozenset((first, second)) not in done
    ]
