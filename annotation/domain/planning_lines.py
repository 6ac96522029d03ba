"""The plan of a study as an artefact: what to render, a line per item, and apart from it what nobody may see.

items.jsonl is read by the run that freezes the stimuli and says nothing of conditions; conditions.jsonl lies beside it,
which the run does not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.utils.translation import gettext

from annotation.domain.controls import Cell
from annotation.domain.features import pole_file_name
from annotation.domain.planning_items import PlannedItem
from annotation.domain.protocols import protocol_of
from annotation.domain.storage import artifact_store
from annotation.domain.studies import StudyError
from annotation.models import Feature, Study
from workers.artifacts import Artifact, canonical_json


class WrittenPlan(NamedTuple):
    """The plan, and the digest of the image set that all its exemplars are of."""

    artifact: Artifact
    image_set: str


def write_plan(study: Study, items: Sequence[PlannedItem]) -> WrittenPlan:
    features = features_of(items)
    image_sets = {feature.exemplar_set.image_set.digest for feature in features.values()}
    if len(image_sets) != 1:
        raise StudyError(
            gettext("The sampled features have exemplars on several image sets; sample dictionaries of one.")
        )
    sources = sorted({source_of(feature) for feature in features.values()})
    places = {pk: (sources.index(source_of(feature)), feature.latent) for pk, feature in features.items()}
    builder = protocol_of(study).builder
    settings = {"purpose": "study", "study": study.slug, "seed": study.seed}
    parents = sorted({digest for digest, _ in sources})
    with artifact_store().write("feature-set", config=settings, parents=parents, seed=study.seed) as writer:
        writer.write_json("sources.json", [{"exemplars": digest, "file": file} for digest, file in sources])
        lines = (plan_line(number, item, places, builder) for number, item in enumerate(items))
        (writer.folder / "items.jsonl").write_text("".join(canonical_json(line) + "\n" for line in lines))
        hidden = (condition_line(number, item) for number, item in enumerate(items))
        (writer.folder / "conditions.jsonl").write_text("".join(canonical_json(line) + "\n" for line in hidden))
    assert writer.artifact is not None
    return WrittenPlan(writer.artifact, image_sets.pop())


def features_of(items: Iterable[PlannedItem]) -> dict[int, Feature]:
    ids: set[int] = set()
    for item in items:
        ids |= {item.feature, item.matched, *(cell.feature for cell in (*item.shown.patches, *item.shown.images))}
        ids |= {item.other} if item.other is not None else set()
    return Feature.objects.select_related("exemplar_set__image_set").in_bulk(sorted(ids))


def source_of(feature: Feature) -> tuple[str, str]:
    return feature.exemplar_set.digest, pole_file_name(feature.hookpoint, feature.pole)


def plan_line(number: int, item: PlannedItem, places: Mapping[int, tuple[int, int]], builder: str) -> dict[str, Any]:
    def cell_line(cell: Cell) -> list[int]:
        return [*places[cell.feature], cell.place]

    shown = item.shown
    line: dict[str, Any] = {
        "number": number,
        "builder": builder,
        "feature": list(places[item.feature]),
        "matched": list(places[item.matched]),
        "other": None if item.other is None else list(places[item.other]),
        "options": dict(shown.options),
        "variant": shown.variant,
        "text": shown.text,
        "truth": dict(shown.truth),
        "seed": item.seed,
    }
    if builder == "sheet":
        line["patches"] = [cell_line(cell) for cell in shown.patches]
        line["images"] = [cell_line(cell) for cell in shown.images]
    return line


def condition_line(number: int, item: PlannedItem) -> dict[str, Any]:
    return {
        "number": number, "condition": str(item.condition), "feature": item.feature, "matched": item.matched,
        "other": item.other, "stratum": item.stratum, "variant": item.shown.variant, "text": item.shown.text,
        "truth": dict(item.shown.truth), "reference": item.reference, "accepted": item.accepted,
    }  # fmt: skip
