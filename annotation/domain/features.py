"""Exemplars become Feature rows: the few numbers per feature that people filter and sort by, bulk-loaded.

Maps, image lists and histograms stay in the artefact and are read row by row (annotation/domain/exemplar_rows.py).
A feature that exists already keeps its row, because items and reference items point at it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import groupby, islice
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.utils.translation import gettext

from annotation.models import Dictionary, ExemplarSet, Feature, ImageSet, Run
from workers.artifacts import Artifact

BATCH = 2000
BLOCK_OF_HOOKPOINT = re.compile(r"blocks\.(\d+)")
IDENTITY = ("dictionary_id", "hookpoint", "latent", "pole")
REFRESHED = (
    "exemplar_set_id", "block", "density", "mean", "maximum", "prefix_share", "n_images_active", "promoted_class",
)  # fmt: skip
STATISTICS = ("density", "mean", "maximum", "prefix_share", "n_images_active")


class FeatureLoadError(Exception):
    """Exemplars cannot become features; the message is fit for the user."""


class PoleFile(NamedTuple):
    """One file of an exemplars artefact: a hookpoint and the sign of the activations ranked in it."""

    hookpoint: str
    pole: int
    path: Path


def load_features(*, artifact: Artifact, run: Run | None) -> ExemplarSet:
    """Load or refresh the features of an exemplars artefact; loading one twice changes nothing."""
    facts = artifact.json("exemplars.json")
    dictionary = Dictionary.objects.filter(digest=facts["dictionary"]).first()
    image_set = ImageSet.objects.filter(digest=facts["image_set"]).first()
    if dictionary is None or image_set is None:
        missing = gettext("a dictionary") if dictionary is None else gettext("an image set")
        raise FeatureLoadError(
            gettext("The exemplars %(digest)s are of %(missing)s that is not registered.")
            % {"digest": artifact.digest[:12], "missing": missing}
        )
    with transaction.atomic():
        exemplar_set, _ = ExemplarSet.objects.get_or_create(
            digest=artifact.digest, defaults={"dictionary": dictionary, "image_set": image_set, "run": run}
        )
        for _, poles in groupby(pole_files(artifact), key=attrgetter("hookpoint")):
            load_hookpoint(exemplar_set, list(poles), facts.get("classes") or [])
        exemplar_set.counts = counts_by_hookpoint(artifact)
        exemplar_set.save(update_fields=["counts"])
        tell_planner()
    return exemplar_set


def tell_planner() -> None:
    """Let the database look at the columns: without it SQLite picks the wrong index among several that fit."""
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {connection.ops.quote_name(Feature._meta.db_table)}")


def pole_files(artifact: Artifact) -> list[PoleFile]:
    """The files of all hookpoints, in the order of the hookpoints, each with its negative pole where it has one."""
    files = []
    for hookpoint in artifact.json("exemplars.json")["hookpoints"]:
        files.append(PoleFile(hookpoint, 1, artifact.path(pole_file_name(hookpoint, 1))))
        negative = artifact.folder / pole_file_name(hookpoint, -1)
        if negative.is_file():
            files.append(PoleFile(hookpoint, -1, negative))
    return files


def pole_file_name(hookpoint: str, pole: int) -> str:
    return f"{hookpoint}.safetensors" if pole > 0 else f"{hookpoint}.negative.safetensors"


def block_of(hookpoint: str) -> int:
    """The block a hookpoint lies in; -1 for one outside the blocks."""
    found = BLOCK_OF_HOOKPOINT.match(hookpoint)
    return int(found[1]) if found else -1


def load_hookpoint(exemplar_set: ExemplarSet, poles: Sequence[PoleFile], classes: Sequence[str]) -> None:
    """Latent by latent, so that the ids, which lists are ordered by, bring the two poles of one next to each other."""
    by_pole = (feature_rows(exemplar_set, pole_file, classes) for pole_file in poles)
    rows = merge(*by_pole, key=itemgetter(IDENTITY.index("latent")))
    with connection.cursor() as cursor:
        while batch := list(islice(rows, BATCH)):
            cursor.executemany(upsert_statement(), batch)


def upsert_statement() -> str:
    """Insert a feature, or refresh the row it has; the same SQL on both databases, three times bulk_create's speed."""
    quoted = connection.ops.quote_name
    columns = ", ".join(map(quoted, IDENTITY + REFRESHED))
    places = ", ".join(["%s"] * len(IDENTITY + REFRESHED))
    refreshed = ", ".join(f"{quoted(name)} = EXCLUDED.{quoted(name)}" for name in REFRESHED)
    return (
        f"INSERT INTO {quoted(Feature._meta.db_table)} ({columns}) VALUES ({places}) "
        f"ON CONFLICT ({', '.join(map(quoted, IDENTITY))}) DO UPDATE SET {refreshed}"
    )


def feature_rows(exemplar_set: ExemplarSet, pole_file: PoleFile, classes: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The values of one feature per latent, dead ones too, in the order of IDENTITY and REFRESHED."""
    columns = statistics_columns(pole_file.path)
    ranked = columns.get("logit_class") or [-1] * len(columns["density"])
    promoted = [classes[best] if 0 <= best < len(classes) else "" for best in ranked]
    statistics = zip(*(columns[name] for name in STATISTICS), promoted, strict=True)
    same = (exemplar_set.pk, block_of(pole_file.hookpoint))
    for latent, values in enumerate(statistics):
        yield (exemplar_set.dictionary_id, pole_file.hookpoint, latent, pole_file.pole, *same, *values)


def statistics_columns(path: Path) -> dict[str, list[Any]]:
    """The per-feature numbers of one file as lists; a number that is not defined (a dead feature's mean) is 0."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as tensors:
        columns = {name: [finite(value) for value in tensors.get_tensor(name).tolist()] for name in STATISTICS}
        if "logit_class" in tensors.keys():  # noqa: SIM118  (not a mapping)
            columns["logit_class"] = tensors.get_tensor("logit_class")[:, 0].tolist()
    return columns


def finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def counts_by_hookpoint(artifact: Artifact) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for hookpoint, _, path in pole_files(artifact):
        densities = statistics_columns(path)["density"]
        entry = counts.setdefault(hookpoint, {"n_features": 0, "n_dead": 0})
        entry["n_features"] += len(densities)
        entry["n_dead"] += sum(density == 0 for density in densities)
    return counts
