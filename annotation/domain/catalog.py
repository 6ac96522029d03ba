"""What the pages of image sets and dictionaries show: mosaics, filtered images, quality by hookpoint."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from django.db.models import QuerySet

from annotation.domain.features import block_of
from annotation.domain.storage import ImageMissingError, image_path
from annotation.models import Dictionary, ExemplarSet, Image, ImageSet

MOSAIC = 18
FACET_IMAGES = 4000
FACET_VALUES = 24


class Facet(NamedTuple):
    """An attribute with few enough values to choose from."""

    name: str
    values: list[str]


class ImageFilter(NamedTuple):
    label: str = ""
    attribute: str = ""
    value: str = ""


class HookpointQuality(NamedTuple):
    """How well a dictionary does at one hookpoint; None where it was not measured."""

    hookpoint: str
    block: int
    n_latents: int | None
    explained: float | None
    explained_cls: float | None
    explained_patches: float | None
    l0: float | None
    n_dead: int | None
    n_dense: int | None

    @property
    def dead_share(self) -> float | None:
        return None if self.n_dead is None or not self.n_latents else self.n_dead / self.n_latents

    @property
    def explained_width(self) -> float:
        """The length of its bar in percent; an explained variance below 0 has none."""
        return round(100 * min(max(self.explained or 0.0, 0.0), 1.0), 1)


def mosaics(image_sets: Sequence[ImageSet], size: int = MOSAIC) -> dict[int, list[Image]]:
    """A few images spread over each set, by set id, all in one query."""
    wanted: dict[int, set[int]] = {
        one.pk: {round(i * one.n_images / size) for i in range(min(size, one.n_images))} for one in image_sets
    }
    indices = sorted(set().union(*wanted.values())) if wanted else []
    found: dict[int, list[Image]] = {one.pk: [] for one in image_sets}
    for image in Image.objects.filter(image_set__in=list(wanted), index__in=indices).order_by("index"):
        if image.index in wanted[image.image_set_id]:
            found[image.image_set_id].append(image)
    return found


def filtered_images(image_set: ImageSet, wanted: ImageFilter) -> QuerySet[Image]:
    rows = image_set.images.all()
    if wanted.label:
        rows = rows.filter(label=wanted.label)
    if wanted.attribute in image_set.attribute_names and wanted.value:
        rows = rows.filter(**{f"attributes__{wanted.attribute}__in": readings(wanted.value)})
    return rows


def readings(text: str) -> list[Any]:
    """What a value typed in an address may be in JSON: text, number or truth value."""
    values: list[Any] = [text]
    if text.lower() in ("true", "false"):
        values.append(text.lower() == "true")
    try:
        number = float(text)
    except ValueError:
        return values
    return [*values, number, *([int(number)] if number.is_integer() else [])]


def facets(image_set: ImageSet) -> list[Facet]:
    """The attributes one can filter by; read from the first images once, for an image set never changes."""
    return list(facets_by_digest(image_set.digest))


@functools.lru_cache(maxsize=64)
def facets_by_digest(digest: str) -> tuple[Facet, ...]:
    image_set = ImageSet.objects.get(digest=digest)
    rows = list(image_set.images.order_by("index").values_list("attributes", flat=True)[:FACET_IMAGES])
    found = []
    for name in (name for name in image_set.attribute_names if "__" not in name):  # "__" parts Django's look-ups
        values = {str(row[name]) for row in rows if row.get(name) is not None}
        if 1 < len(values) <= FACET_VALUES:
            found.append(Facet(name, sorted(values)))
    return tuple(found)


def missing_files(image_set: ImageSet) -> str:
    """A sentence when the files of a set are not where this host looks for them; '' when its first one is there."""
    first = image_set.images.select_related("image_set").order_by("index").first()
    if first is None:
        return ""
    try:
        image_path(first)
    except ImageMissingError as error:
        return str(error)
    return ""


def quality_by_hookpoint(dictionary: Dictionary) -> list[HookpointQuality]:
    """One row per hookpoint, in the order of the blocks; hookpoints without measures too."""
    ordered = sorted(dictionary.hookpoints, key=lambda hookpoint: (block_of(hookpoint), hookpoint))
    return [hookpoint_quality(hookpoint, dictionary.quality.get(hookpoint) or {}) for hookpoint in ordered]


def hookpoint_quality(hookpoint: str, measures: Mapping[str, Any]) -> HookpointQuality:
    explained = measures.get("explained_variance") or {}
    by_tokens = explained if isinstance(explained, Mapping) else {"all": explained}
    l0 = measures.get("l0")
    return HookpointQuality(
        hookpoint=hookpoint,
        block=block_of(hookpoint),
        n_latents=measures.get("n_latents"),
        explained=by_tokens.get("all"),
        explained_cls=by_tokens.get("cls", by_tokens.get("prefix")),
        explained_patches=by_tokens.get("patches"),
        l0=l0.get("all") if isinstance(l0, Mapping) else l0,
        n_dead=measures.get("n_dead"),
        n_dense=measures.get("n_dense"),
    )


def newest_exemplar_set(dictionary: Dictionary) -> ExemplarSet | None:
    return dictionary.exemplar_sets.select_related("image_set").order_by("-id").first()
