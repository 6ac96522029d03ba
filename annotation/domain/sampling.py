"""Which features a study shows: drawn by block and density with a seed, or listed.

Strata are (dictionary, block, density band); the bands cut a block's eligible features into equally many. Excluded are
dead features (never fire), features too rare to fill the sheet of images, features that live on prefix tokens (CLS,
registers), or these form a stratum of their own, and features that lack what the protocol shows (an explanation, a
class). Every stratum is given an equal part; what a stratum cannot give is
spread over the others, and shown. The order within a stratum is that of a hash of (seed, feature), so a larger sample
with the same seed contains the smaller one.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotation.models import Dictionary, Feature

BAND_NAMES = {
    1: (gettext_noop("all"),),
    2: (gettext_noop("rare"), gettext_noop("frequent")),
    3: ("rare", gettext_noop("middle"), "frequent"),
}
PREFIX_BAND = gettext_noop("prefix tokens")
RESERVED = gettext_noop("practice or gold")
RULES = ("dead", gettext_noop("too rare"), gettext_noop("prefix tokens"), RESERVED)


class Requirement(NamedTuple):
    """What a protocol needs of a feature: the name of the rule, and the features that have it."""

    rule: str
    feature_ids: frozenset[int]


class SamplingError(Exception):
    """No sample can be drawn as asked; the message is fit for the user."""


@dataclass(frozen=True)
class SampleSpec:
    """How features are drawn. `feature_ids` not empty: exactly these, exclusion rules applied and shown.

    `classes`: only features that promote one of them. `common_bands`: the bands of a block are those of all the
    dictionaries together, so that features of one band are alike in density whatever their dictionary.
    """

    n_features: int = 60
    blocks: tuple[int, ...] = ()
    n_density_bands: int = 3
    feature_ids: tuple[int, ...] = ()
    min_images: int = 16
    max_prefix_share: float = 0.5
    prefix_rule: str = "exclude"
    classes: tuple[str, ...] = ()
    common_bands: bool = False

    def __post_init__(self) -> None:
        checks = (
            (self.n_features >= 1, _("Ask for at least one feature.")),
            (1 <= self.n_density_bands <= 10, _("The number of density bands can be 1 to 10.")),
            (self.min_images >= 1, _("A feature needs at least one image on which it fires.")),
            (0 <= self.max_prefix_share <= 1, _("The share of prefix tokens lies between 0 and 1.")),
            (
                self.prefix_rule in {"exclude", "stratum"},
                _("The rule for prefix tokens can be 'exclude' or 'stratum'."),
            ),
        )
        for is_right, sentence in checks:
            if not is_right:
                raise SamplingError(sentence)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SampleSpec:
        """A spec from JSON; raises SamplingError for a name it does not have."""
        names = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise SamplingError(
                _("The sampler has no setting '%(unknown)s'; it has %(values)s.")
                % {"unknown": unknown[0], "values": ", ".join(sorted(names))}
            )
        settled: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        check_kinds(settled)
        try:
            return cls(**settled)
        except TypeError as error:
            raise SamplingError(
                _("A setting of the sampler has a wrong value: %(error)s") % {"error": error}
            ) from error

    def as_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


WHOLE_NUMBERS, LISTS = (
    ("n_features", "n_density_bands", "min_images"),
    {"blocks": int, "feature_ids": int, "classes": str},
)


def check_kinds(values: Mapping[str, Any]) -> None:
    """Raises SamplingError for a value of another kind than its setting."""
    for name in WHOLE_NUMBERS:
        if name in values and type(values[name]) is not int:
            raise SamplingError(
                _("The sampler's '%(name)s' is %(value)s; it must be a whole number.")
                % {"name": name, "value": repr(values[name])}
            )
    for name, kind in LISTS.items():
        value = values.get(name, ())
        if not isinstance(value, tuple) or not all(type(entry) is kind for entry in value):
            raise SamplingError(
                _("The sampler's '%(name)s' must be a list of %(kind)s.")
                % {"name": name, "kind": _("whole numbers") if kind is int else _("names")}
            )


class Row(NamedTuple):
    """The columns of a feature that sampling looks at."""

    id: int
    dictionary: int
    block: int
    density: float
    prefix_share: float
    n_images: int


class Stratum(NamedTuple):
    dictionary: int
    block: int
    band: str

    def __str__(self) -> str:
        return f"block {self.block}, {self.band}"


class StratumRow(NamedTuple):
    """One line of the preview."""

    stratum: Stratum
    n_eligible: int
    excluded: dict[str, int]
    n_wanted: int
    n_drawn: int
    n_redistributed: int


class Drawn(NamedTuple):
    feature_id: int
    stratum: Stratum


@dataclass(frozen=True)
class SamplePreview:
    """What a spec draws, and why not more."""

    rows: list[StratumRow]
    drawn: list[Drawn]
    n_wanted: int
    excluded: dict[str, int] = field(default_factory=dict)

    @property
    def n_short(self) -> int:
        return self.n_wanted - len(self.drawn)


class Barred(NamedTuple):
    """Features that may not be drawn whatever their statistics: practice and gold, and those that lack something."""

    reserved: Collection[int] = ()
    requirement: Requirement | None = None

    def rule(self, feature_id: int) -> str | None:
        if feature_id in self.reserved:
            return RESERVED
        if self.requirement is not None and feature_id not in self.requirement.feature_ids:
            return self.requirement.rule
        return None


NOTHING_BARRED = Barred()


def draw_sample(
    *, dictionaries: Sequence[Dictionary], spec: SampleSpec, seed: int, barred: Barred = NOTHING_BARRED
) -> SamplePreview:
    """Draw by the spec, but for the barred features; raises SamplingError when there is nothing to draw from."""
    if not dictionaries:
        raise SamplingError(_("Choose at least one dictionary."))
    rows = load_rows(dictionaries, spec)
    if spec.feature_ids:
        return listed_sample(rows, spec, barred)
    if not rows:
        raise SamplingError(_("These dictionaries have no features in these blocks; collect exemplars first."))
    return stratified_sample(rows, spec, seed, barred)


def load_rows(dictionaries: Sequence[Dictionary], spec: SampleSpec) -> list[Row]:
    features = Feature.objects.filter(dictionary__in=dictionaries).order_by("id")
    if spec.feature_ids:
        features = features.filter(pk__in=spec.feature_ids)
    elif spec.blocks:
        features = features.filter(block__in=spec.blocks)
    columns = ("id", "dictionary_id", "block", "density", "prefix_share", "n_images_active")
    return [Row(*values) for values in features.values_list(*columns)]


def exclusion(row: Row, spec: SampleSpec) -> str | None:
    """The first rule that keeps a feature out; None if it may be drawn."""
    if row.n_images == 0 or row.density == 0:
        return "dead"
    if row.n_images < spec.min_images:
        return gettext_noop("too rare")
    if row.prefix_share > spec.max_prefix_share and spec.prefix_rule == "exclude":
        return gettext_noop("prefix tokens")
    return None


def listed_sample(rows: Sequence[Row], spec: SampleSpec, barred: Barred) -> SamplePreview:
    missing = sorted(set(spec.feature_ids) - {row.id for row in rows})
    if missing:
        raise SamplingError(
            _("Feature %(missing)s is not in the chosen dictionaries; %(n)s are missing.")
            % {"missing": missing[0], "n": len(missing)}
        )
    strata = settle_strata(rows, spec, barred)
    drawn = [Drawn(row.id, stratum) for stratum, members in strata.members.items() for row in members]
    wanted = {stratum: len(members) for stratum, members in strata.members.items()}
    lines = preview_rows(strata, wanted, wanted)
    return SamplePreview(lines, drawn, len(rows), dict(strata.total_excluded))


def stratified_sample(rows: Sequence[Row], spec: SampleSpec, seed: int, barred: Barred) -> SamplePreview:
    strata = settle_strata(rows, spec, barred)
    wanted = equal_parts(spec.n_features, sorted(strata.members))
    taken = redistribute(wanted, {stratum: len(members) for stratum, members in strata.members.items()})
    drawn = []
    for stratum in sorted(strata.members):
        ordered = sorted(strata.members[stratum], key=lambda row: hash_order(seed, row.id))
        drawn += [Drawn(row.id, stratum) for row in ordered[: taken[stratum]]]
    return SamplePreview(preview_rows(strata, wanted, taken), drawn, spec.n_features, dict(strata.total_excluded))


@dataclass
class Strata:
    """Eligible features by stratum, and how many each rule kept out of it."""

    members: dict[Stratum, list[Row]] = field(default_factory=lambda: defaultdict(list))
    excluded: dict[Stratum, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def total_excluded(self) -> Counter[str]:
        return sum(self.excluded.values(), Counter())


def settle_strata(rows: Iterable[Row], spec: SampleSpec, barred: Barred) -> Strata:
    by_block: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        by_block[0 if spec.common_bands else row.dictionary, row.block].append(row)
    strata = Strata()
    for members in by_block.values():
        rules = [barred.rule(row.id) or exclusion(row, spec) for row in members]
        eligible = sorted(row.density for row, rule in zip(members, rules, strict=True) if rule is None)
        edges = band_edges(eligible, spec.n_density_bands)
        for row, rule in zip(members, rules, strict=True):
            stratum = Stratum(row.dictionary, row.block, band_of(row, edges, spec))
            if rule is None:
                strata.members[stratum].append(row)
            else:
                strata.excluded[stratum][rule] += 1
    return strata


def band_edges(densities: Sequence[float], n_bands: int) -> list[float]:
    """Densities at which the next band begins, so that the bands hold equally many."""
    if not densities:
        return []
    return [densities[len(densities) * band // n_bands] for band in range(1, n_bands)]


def band_of(row: Row, edges: Sequence[float], spec: SampleSpec) -> str:
    if spec.prefix_rule == "stratum" and row.prefix_share > spec.max_prefix_share and row.n_images >= spec.min_images:
        return PREFIX_BAND
    n_bands = spec.n_density_bands
    names = BAND_NAMES.get(n_bands) or tuple(f"density band {band + 1} of {n_bands}" for band in range(n_bands))
    return names[bisect_right(edges, row.density)]


def equal_parts(total: int, strata: Sequence[Stratum]) -> dict[Stratum, int]:
    if not strata:
        return {}
    each, left = divmod(total, len(strata))
    return {stratum: each + (index < left) for index, stratum in enumerate(strata)}


def redistribute(wanted: Mapping[Stratum, int], available: Mapping[Stratum, int]) -> dict[Stratum, int]:
    """How many each stratum gives: its part, and an equal share of what others lack, as far as it has them."""
    taken = {stratum: min(wanted[stratum], available[stratum]) for stratum in wanted}
    lacking = sum(wanted.values()) - sum(taken.values())
    while lacking:
        spare = [stratum for stratum in sorted(taken) if available[stratum] > taken[stratum]]
        if not spare:
            break
        for stratum in spare[:lacking]:
            extra = min(max(1, lacking // len(spare)), available[stratum] - taken[stratum])
            taken[stratum] += extra
        lacking = sum(wanted.values()) - sum(taken.values())
    return taken


def preview_rows(strata: Strata, wanted: Mapping[Stratum, int], taken: Mapping[Stratum, int]) -> list[StratumRow]:
    lines = []
    rules = [*RULES, *sorted(set(strata.total_excluded) - set(RULES))]
    for stratum in sorted({*strata.members, *strata.excluded}):
        n_wanted, n_drawn = wanted.get(stratum, 0), taken.get(stratum, 0)
        counts = {rule: strata.excluded[stratum][rule] for rule in rules}
        n_eligible = len(strata.members.get(stratum, []))
        lines.append(StratumRow(stratum, n_eligible, counts, n_wanted, n_drawn, n_drawn - n_wanted))
    return lines


def hash_order(seed: int, feature_id: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{feature_id}".encode(), digest_size=8).digest()
