"""Pictures for pages: made from the original on first sight, kept under DATA_ROOT/cache by content hash, framing, size.

A framing says which part of the picture is shown. 'center-900' and 'squash-1000' are the two ways in which timm
prepares an image for a model (per mille of the picture that is kept), so that a map of patches laid over such a
picture lies where the model saw the patches.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.translation import gettext

from annotation.domain.storage import ImageMissingError, image_path, mask_path
from annotation.models import Image, VisionModel

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SIZES = (96, 160, 224, 320, 448, 640, 1280)
FRAMING = re.compile(r"whole|square|(?:center|squash)-(?:[1-9]\d{0,2}|1000)")
QUALITY = 88
CACHE_REVISION = "1"  # raise it when the same name should hold other pixels


class FramingError(ValueError):
    """The framing or size asked for is not one we make; the message is fit for the user."""


def framing_of(vision_model: VisionModel) -> str:
    """The framing that shows exactly what the model sees of a picture."""
    preprocessing = vision_model.preprocessing
    mode = "squash" if preprocessing.get("crop_mode") == "squash" else "center"
    return f"{mode}-{round(1000 * float(preprocessing.get('crop_pct') or 1.0))}"


def picture_file(*, image: Image, framing: str, size: int) -> Path:
    """The WebP file of an image at this framing and size; raises FramingError or ImageMissingError."""
    return made(image_path(image), f"{image.sha256}-{check(framing, size)}-{size}", framing, size)


def mask_file(*, image: Image, framing: str, size: int) -> Path:
    """The WebP file of an image's mask, white where the object is; named by the mask's path, for it has no hash."""
    source = mask_path(image)
    stat = source.stat()
    identity = hashlib.sha256(f"{source}:{stat.st_mtime_ns}:{stat.st_size}".encode()).hexdigest()
    return made(source, f"{identity}-mask-{check(framing, size)}-{size}", framing, size)


def check(framing: str, size: int) -> str:
    if not FRAMING.fullmatch(framing):
        raise FramingError(
            gettext("There is no framing '%(framing)s'; ask for whole, square, center-N or squash-N.")
            % {"framing": framing}
        )
    if size not in SIZES:
        raise FramingError(
            gettext("There is no size %(size)s; the sizes are %(values)s.")
            % {"size": size, "values": ", ".join(map(str, SIZES))}
        )
    return framing


def made(source: Path, name: str, framing: str, size: int) -> Path:
    folder = Path(settings.DATA_ROOT) / "cache" / "pixels" / CACHE_REVISION / name[:2]
    target = folder / f"{name}.webp"
    if not target.is_file():
        from workers.image_decoding import ImageImportError, load_image

        try:
            picture = framed(load_image(source), framing, size)
        except ImageImportError as error:
            raise ImageMissingError(str(error)) from error
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{secrets.token_hex(8)}"
        picture.save(unfinished, "WEBP", quality=QUALITY, method=2)
        os.replace(unfinished, target)
    return target


def framed(picture: Picture, framing: str, size: int) -> Picture:
    """The part of the picture that the framing names, `size` pixels at its longer side."""
    from PIL.Image import Resampling

    box = crop_box(picture.width, picture.height, framing)
    width, height = box[2] - box[0], box[3] - box[1]
    if framing != "whole":
        width = height = max(width, height)
    scale = size / max(width, height)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    return picture.resize(target, Resampling.BICUBIC if scale > 1 else Resampling.LANCZOS, box=box)


def crop_box(width: int, height: int, framing: str) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of what is kept, in pixels of the original."""
    mode, _, share = framing.partition("-")
    kept = int(share) / 1000 if share else 1.0
    side = min(width, height)
    inner = (width * kept, height * kept) if mode in ("whole", "squash") else (side * kept, side * kept)
    left, top = (width - inner[0]) / 2, (height - inner[1]) / 2
    return left, top, left + inner[0], top + inner[1]
