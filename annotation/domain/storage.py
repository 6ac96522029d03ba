"""Where the web process finds files: the artefact store, and image files under the root this host maps them to."""

from __future__ import annotations

import socket
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

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
            _(
                "No folder is known for the image set '%(name)s' on this host; name it with: manage.py relink_images "
                "%(name)s FOLDER"
            )
            % {"name": image_set.name}
        )
    return Path(path)


def image_path(image: Image) -> Path:
    """The file of an image on this host; raises ImageMissingError when it is not there."""
    return existing(image_root(image.image_set) / image.path, image)


def mask_path(image: Image) -> Path:
    """The file of an image's mask; raises ImageMissingError when the image has none, or it is not there."""
    if not image.mask_path:
        raise ImageMissingError(_("The image '%(path)s' has no mask.") % {"path": image.path})
    return existing(image_root(image.image_set) / image.mask_path, image)


def existing(path: Path, image: Image) -> Path:
    if not path.is_file():
        raise ImageMissingError(
            _(
                "The file '%(name)s' of the image set '%(image_set)s' is not at %(parent)s; if the folder has moved, "
                "run: manage.py relink_images %(image_set)s FOLDER"
            )
            % {"name": path.name, "image_set": image.image_set.name, "parent": path.parent}
        )
    return path
