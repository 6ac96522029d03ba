"""Where the web process finds files: the artefact store, and image files under the root this host maps them to."""

from __future__ import annotations

import socket
from pathlib import Path

from django.conf import settings

from annotation.models import Image, ImageRoot, ImageSet
from workers.artifacts import ArtifactStore


class ImageMissingError(Exception):
    """The file of a registered image is not where this host looks for it; the message says how to mend that."""


def artifact_store() -> ArtifactStore:
    return ArtifactStore(settings.ARTIFACT_ROOT)


def image_root(image_set: ImageSet) -> Path:
    """The folder of an image set on this host; the row without a host serves every host that has none of its own."""
    roots = dict(ImageRoot.objects.filter(image_set=image_set).values_list("host", "path"))
    path = roots.get(socket.gethostname(), roots.get(""))
    if path is None:
        raise ImageMissingError(
            f"No folder is known for the image set '{image_set.name}' on this host; "
            f"name it with: manage.py relink_images {image_set.name} FOLDER"
        )
    return Path(path)


def image_path(image: Image) -> Path:
    """The file of an image on this host; raises ImageMissingError when it is not there."""
    return existing(image_root(image.image_set) / image.path, image)


def mask_path(image: Image) -> Path:
    """The file of an image's mask; raises ImageMissingError when the image has none, or it is not there."""
    if not image.mask_path:
        raise ImageMissingError(f"The image '{image.path}' has no mask.")
    return existing(image_root(image.image_set) / image.mask_path, image)


def existing(path: Path, image: Image) -> Path:
    if not path.is_file():
        raise ImageMissingError(
            f"The file '{path.name}' of the image set '{image.image_set.name}' is not at {path.parent}; "
            f"if the folder has moved, run: manage.py relink_images {image.image_set.name} FOLDER"
        )
    return path
