"""Register image sets and tell hosts where their files are; all rows of a set appear at once or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils.translation import gettext

from annotation.models import Image, ImageRoot, ImageSet, User
from workers.artifacts import Artifact

BATCH = 2000
LONGEST_NAME = 80  # of the column; SQLite would not mind more, PostgreSQL does


class ImageSetError(Exception):
    """An image set cannot be registered; the message is fit for the user."""


@dataclass(frozen=True)
class ImageSetFacts:
    """What a person says of a set beside its files."""

    name: str
    licence: str = ""
    visibility: str = ImageSet.Visibility.SIGNED_IN
    allows_redistribution: bool = False
    description: str = ""

    def __post_init__(self) -> None:
        if not self.name or self.name != self.name.strip() or "/" in self.name:
            raise ImageSetError(
                gettext("'%(name)s' cannot name an image set: give a word or two, without a slash.")
                % {"name": self.name}
            )
        if len(self.name) > LONGEST_NAME:
            raise ImageSetError(
                gettext("The name '%(name)s…' is longer than %(longest_name)s characters; shorten it.")
                % {"name": self.name[:20], "longest_name": LONGEST_NAME}
            )
        if self.visibility not in ImageSet.Visibility.values:
            choices = ", ".join(ImageSet.Visibility.values)
            raise ImageSetError(
                gettext("The visibility '%(visibility)s' is unknown; give one of %(choices)s.")
                % {"visibility": self.visibility, "choices": choices}
            )


def require_free_name(name: str) -> None:
    """Before hours of reading: refuse a name that is taken."""
    if ImageSet.objects.filter(name=name).exists():
        raise ImageSetError(gettext("There is an image set '%(name)s' already; choose another name.") % {"name": name})


@transaction.atomic
def register_image_set(*, artifact: Artifact, root: Path, facts: ImageSetFacts, user: User | None = None) -> ImageSet:
    """Register a finished image-set artefact with its root and one row per image."""
    require_free_name(facts.name)
    known = ImageSet.objects.filter(digest=artifact.digest).first()
    if known is not None:
        raise ImageSetError(
            gettext(
                "These very images are registered already, as '%(name)s'; if only their folder has moved, use "
                "relink_images."
            )
            % {"name": known.name}
        )
    image_set = ImageSet.objects.create(
        name=facts.name,
        digest=artifact.digest,
        n_images=0,
        classes=artifact.json("classes.json"),
        licence=facts.licence,
        visibility=facts.visibility,
        allows_redistribution=facts.allows_redistribution,
        description=facts.description,
        created_by=user,
    )
    ImageRoot.objects.create(image_set=image_set, host="", path=str(root))
    load_images(image_set, artifact)
    return image_set


def load_images(image_set: ImageSet, artifact: Artifact) -> None:
    """One row per image, a batch at a time, so that a million images need no more memory than two thousand."""
    names: set[str] = set()
    for rows in image_rows(artifact):
        Image.objects.bulk_create(Image(image_set=image_set, **row) for row in rows)
        image_set.n_images += len(rows)
        names |= {name for row in rows for name in row["attributes"]}
    image_set.attribute_names = sorted(names)
    image_set.save(update_fields=["n_images", "attribute_names"])


def image_rows(artifact: Artifact) -> Iterator[list[dict[str, Any]]]:
    import pyarrow.parquet as pq

    columns = ["index", "path", "sha256", "width", "height", "label", "mask_path", "attributes"]
    for batch in pq.ParquetFile(artifact.path("images.parquet")).iter_batches(BATCH, columns=columns):
        yield [
            {
                **row,
                "label": row["label"] or "",
                "mask_path": row["mask_path"] or "",
                "attributes": json.loads(row["attributes"]),
            }
            for row in batch.to_pylist()
        ]


def relink_image_set(*, image_set: ImageSet, root: Path, host: str = "") -> ImageRoot:
    """From now on the files are under ``root``, on one host or on every host that has no root of its own."""
    linked, _ = ImageRoot.objects.update_or_create(image_set=image_set, host=host, defaults={"path": str(root)})
    return linked
