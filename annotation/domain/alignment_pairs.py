"""The pairs of an alignment artefact as features of two dictionaries: eligible ones, in equal parts from the bins."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from django.utils.translation import gettext as _

from annotation.domain.sampling import (
    Barred,
    Drawn,
    Row,
    SamplePreview,
    SampleSpec,
    SamplingError,
    Strata,
    Stratum,
    equal_parts,
    exclusion,
    hash_order,
    load_rows,
    preview_rows,
    redistribute,
)
from annotation.domain.storage import artifact_store
from annotation.models import Dictionary, Feature
from workers.artifacts import ArtifactError


class AlignedPair(NamedTuple):
    """A feature, its nearest in another dictionary, and how near their decoder directions are."""

    feature: int
    other: int
    dictionary: int
    other_dictionary: int
    block: int
    bin: int
    mcs: float
    null_percentile: float

    @property
    def stratum(self) -> Stratum:
        return Stratum(self.dictionary, self.block, f"bin {self.bin}")


class AlignmentSample(NamedTuple):
    pairs: list[AlignedPair]
    preview: SamplePreview


def pairs_of(digest: str) -> list[AlignedPair]:
    """All pairs of the artefact whose features are known; raises SamplingError where it cannot be read."""
    try:
        artifact = artifact_store().open(digest, kind="alignment")
        facts = artifact.json("alignment.json")
        lines = [json.loads(line) for line in artifact.path("pairs.jsonl").read_text().splitlines()]
    except ArtifactError as error:
        raise SamplingError(
            _("The alignment %(digest)s cannot be read: %(error)s") % {"digest": digest[:12], "error": error}
        ) from error
    found = {
        one.digest: one.pk
        for one in Dictionary.objects.filter(digest__in=[facts["dictionary_a"], facts["dictionary_b"]])
    }
    if len(found) < 2:
        raise SamplingError(
            _("The alignment %(digest)s is of dictionaries that are not registered here.") % {"digest": digest[:12]}
        )
    first, second = found[facts["dictionary_a"]], found[facts["dictionary_b"]]
    ids = {side: feature_ids(side) for side in (first, second)}
    pairs = []
    for line in lines:
        one = ids[first].get((line["hookpoint"], line["latent_a"], line.get("pole_a", 1)))
        read = line.get("hookpoint_b", line["hookpoint"])
        other = ids[second].get((read, line["latent_b"], line.get("pole_b", 1)))
        if one is not None and other is not None:
            pairs.append(AlignedPair(
                one[0], other[0], first, second, one[1], line["bin"], line["mcs"], line["null_percentile"],
            ))  # fmt: skip
    return pairs


def feature_ids(dictionary: int) -> dict[tuple[str, int, int], tuple[int, int]]:
    """(id, block) by (hookpoint, latent, pole)."""
    rows = Feature.objects.filter(dictionary=dictionary).values_list("hookpoint", "latent", "pole", "id", "block")
    return {(hookpoint, latent, pole): (pk, block) for hookpoint, latent, pole, pk, block in rows}


def alignment_sample(pairs: Sequence[AlignedPair], spec: SampleSpec, seed: int, barred: Barred) -> AlignmentSample:
    """As many pairs as features are asked for, in equal parts from (block, bin); a pair stands if both sides may."""
    if not pairs:
        raise SamplingError(
            _("The alignment has no pairs whose features are known; collect exemplars of both dictionaries.")
        )
    dictionaries = Dictionary.objects.filter(pk__in={pairs[0].dictionary, pairs[0].other_dictionary})
    rows = {row.id: row for row in load_rows(list(dictionaries), SampleSpec())}
    chosen = [pair for pair in pairs if not spec.blocks or pair.block in spec.blocks]
    strata, by_stratum = sorted_out(chosen, rows, spec, barred)
    wanted = equal_parts(spec.n_features, sorted(strata.members))
    taken = redistribute(wanted, {stratum: len(members) for stratum, members in strata.members.items()})
    kept: list[AlignedPair] = []
    for stratum in sorted(by_stratum):
        ordered = sorted(by_stratum[stratum], key=lambda pair: hash_order(seed, pair.feature))
        kept += ordered[: taken[stratum]]
    drawn = [Drawn(pair.feature, pair.stratum) for pair in kept]
    preview = SamplePreview(
        preview_rows(strata, wanted, taken), drawn, spec.n_features, dict(strata.total_excluded)
    )  # fmt: skip
    return AlignmentSample(kept, preview)


def sorted_out(
    pairs: Sequence[AlignedPair], rows: Mapping[int, Row], spec: SampleSpec, barred: Barred
) -> tuple[Strata, dict[Stratum, list[AlignedPair]]]:
    """Eligible pairs by stratum, and how many each rule kept out."""
    strata = Strata()
    kept: dict[Stratum, list[AlignedPair]] = {}
    for pair in pairs:
        rules = [barred.rule(pk) or exclusion(rows[pk], spec) for pk in (pair.feature, pair.other)]
        rule = next((one for one in rules if one is not None), None)
        if rule is None:
            strata.members[pair.stratum].append(rows[pair.feature])
            kept.setdefault(pair.stratum, []).append(pair)
        else:
            strata.excluded[pair.stratum][rule] += 1
    return strata, kept


__all__ = ["AlignedPair", "AlignmentSample", "alignment_sample", "pairs_of"]
