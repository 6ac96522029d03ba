"""The exemplars of single features, read by row slices from the artefact: bytes of one row, not of the file."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from annotation.domain.features import pole_file_name
from annotation.domain.storage import artifact_store
from annotation.models import Feature, Image
from workers.artifacts import Artifact

EQUALLY_STRONG = 0.999  # of the strongest image


class Exemplar(NamedTuple):
    """One image in which a feature fires; ``patch`` is -1 when the maximum sits on a prefix token."""

    image_index: int
    value: float
    patch: int
    map_base64: str


class ActivationRange(NamedTuple):
    """A band of the feature's activations and images drawn from it; ``top`` > ``bottom``."""

    top: float
    bottom: float
    exemplars: list[Exemplar]


class Contrast(NamedTuple):
    """Images in which the feature (nearly) keeps silent; ``reached`` is the largest activation among them."""

    reached: float | None
    image_indices: list[int]
    values: list[float]


class Histogram(NamedTuple):
    """Active tokens by activation, in log-spaced bins."""

    counts: list[int]
    edges: list[float]


class Promoted(NamedTuple):
    name: str
    value: float


class FeatureExemplars(NamedTuple):
    """Everything the artefact holds about one feature."""

    grid: tuple[int, int]
    n_prefix_tokens: int
    n_images: int
    top: list[Exemplar]
    ranges: list[ActivationRange]
    contrast: Contrast
    histogram: Histogram
    promoted: list[Promoted]
    variance: float
    n_tokens_active: int

    @property
    def are_equally_strong(self) -> bool:
        """Whether the top images all reach the maximum, as with GELU's values below zero, which end at -0.17."""
        return len(self.top) > 1 and self.top[-1].value >= EQUALLY_STRONG * self.top[0].value


def exemplars_of(feature: Feature) -> FeatureExemplars:
    """Raises ArtifactError when the exemplars are not in this store."""
    artifact = artifact_store().open(feature.exemplar_set.digest, kind="exemplars")
    facts = artifact.json("exemplars.json")
    with rows_of(artifact, feature.hookpoint, feature.pole) as row:
        contrast_reached = float(row("contrast_reached", feature.latent))
        height, width = facts["grid"]
        return FeatureExemplars(
            grid=(height, width),
            n_prefix_tokens=facts["n_prefix_tokens"],
            n_images=facts.get("n_images", 0),
            top=list(exemplars(row, "top", feature.latent)),
            ranges=activation_ranges(row, feature.latent),
            contrast=contrast_of(row, feature.latent, contrast_reached),
            histogram=Histogram(row("histogram", feature.latent).tolist(), row("histogram_edges", None).tolist()),
            promoted=promoted_classes(row, feature.latent, facts.get("classes") or []),
            variance=float(row("variance", feature.latent)),
            n_tokens_active=int(row("n_tokens_active", feature.latent)),
        )


def top_exemplars(features: Iterable[Feature], n: int) -> dict[int, list[Exemplar]]:
    """The first ``n`` exemplars of each feature, by feature id; each file is opened once."""
    found: dict[int, list[Exemplar]] = {}
    by_file: dict[tuple[str, str, int], list[Feature]] = {}
    for feature in features:
        by_file.setdefault((feature.exemplar_set.digest, feature.hookpoint, feature.pole), []).append(feature)
    store = artifact_store()
    for (digest, hookpoint, pole), group in by_file.items():
        with rows_of(store.open(digest, kind="exemplars"), hookpoint, pole) as row:
            found |= {feature.pk: list(exemplars(row, "top", feature.latent))[:n] for feature in group}
    return found


def images_by_index(image_set_id: int, indices: Iterable[int]) -> dict[int, Image]:
    """The images of one set by their index in it, in one query."""
    rows = Image.objects.filter(image_set_id=image_set_id, index__in=sorted(set(indices)))
    return {image.index: image for image in rows.select_related("image_set")}


@contextmanager
def rows_of(artifact: Artifact, hookpoint: str, pole: int) -> Iterator[Any]:
    """A function (tensor name, row) -> array of that row; row None reads the whole tensor, an absent tensor is None."""
    from safetensors import safe_open

    path: Path = artifact.path(pole_file_name(hookpoint, pole))
    with safe_open(path, framework="np") as tensors:
        names = set(tensors.keys())

        def row(name: str, index: int | None) -> Any:
            if name not in names:
                return None
            return tensors.get_tensor(name) if index is None else tensors.get_slice(name)[index : index + 1][0]

        yield row


def exemplars(row: Any, kind: str, latent: int) -> Iterator[Exemplar]:
    """The exemplars of a flat row of images; places left empty (image -1) are passed over."""
    columns = [row(f"{kind}_{part}", latent) for part in ("image", "value", "patch", "map")]
    yield from unpacked(*columns)


def unpacked(images: Any, values: Any, patches: Any, maps: Any) -> Iterator[Exemplar]:
    for image, value, patch, patch_map in zip(images, values, patches, maps, strict=True):
        if image >= 0:
            yield Exemplar(int(image), float(value), int(patch), base64.b64encode(patch_map.tobytes()).decode())


def activation_ranges(row: Any, latent: int) -> list[ActivationRange]:
    """The strongest range first."""
    edges = row("range_edges", latent).tolist()
    columns = [row(f"range_{part}", latent) for part in ("image", "value", "patch", "map")]
    pairs = zip(edges, edges[1:], zip(*columns, strict=True), strict=False)
    return [ActivationRange(top, bottom, list(unpacked(*column))) for top, bottom, column in pairs]


def contrast_of(row: Any, latent: int, reached: float) -> Contrast:
    images, values = row("contrast_image", latent).tolist(), row("contrast_value", latent).tolist()
    kept = [(image, value) for image, value in zip(images, values, strict=True) if image >= 0]
    return Contrast(
        reached=None if math.isnan(reached) else reached,
        image_indices=[image for image, _ in kept],
        values=[value for _, value in kept],
    )


def promoted_classes(row: Any, latent: int, classes: list[str]) -> list[Promoted]:
    indices, values = row("logit_class", latent), row("logit_value", latent)
    if indices is None:
        return []
    pairs = zip(indices.tolist(), values.tolist(), strict=True)
    return [Promoted(classes[index], value) for index, value in pairs if 0 <= index < len(classes)]
