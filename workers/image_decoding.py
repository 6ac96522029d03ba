"""One image file to upright 8-bit RGB pixels, and a sentence for every way in which a file can be no such image.

Grey, 16-bit, palette, CMYK and transparent files (laid on white) all come out as RGB, turned as their EXIF says.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "MPO", "PNG", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MAX_PIXELS = 80_000_000  # under Pillow's own warning (89 million), so that this limit always speaks first
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error)


class ImageImportError(ValueError):
    """A file or folder cannot be imported; the message is one sentence fit for the user."""


def load_image(path: Path | str) -> Image.Image:
    """The image of a file as upright RGB; raises ImageImportError naming the file."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ImageImportError(f"The file '{path}' cannot be read ({error.strerror}).") from error
    return decode_image(content, str(path))


def decode_image(content: bytes, name: str) -> Image.Image:
    """The image in these bytes as upright RGB; `name` is what the error message calls it."""
    with open_image(content, name) as image:
        try:
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
        except DAMAGE as error:
            raise ImageImportError(f"The image '{name}' is truncated or damaged ({plain(error)}).") from error


def decode_mask(content: bytes, name: str) -> NDArray[np.bool_]:
    """True where the mask is brighter than half its maximum."""
    values = np.asarray(decode_image(content, name).convert("L"))
    mask: NDArray[np.bool_] = values > values.max() / 2
    return mask


def open_image(content: bytes, name: str) -> Image.Image:
    """The image, its header read only; refuses what is no image, of another format, or too large to decode safely."""
    if not content:
        raise ImageImportError(f"The file '{name}' is empty.")
    try:
        image = Image.open(io.BytesIO(content))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(name) from error
    except UnidentifiedImageError as error:
        raise ImageImportError(f"The file '{name}' is no image; remove it, or save it as JPEG, PNG or WebP.") from error
    except DAMAGE as error:
        raise ImageImportError(f"The image '{name}' is truncated or damaged ({plain(error)}).") from error
    if image.format not in FORMATS:
        raise ImageImportError(f"The image '{name}' is of format {image.format}; save it as JPEG, PNG or WebP.")
    if image.width * image.height > MAX_PIXELS:
        raise too_large(name)
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return sixteen_to_eight_bits(image).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def sixteen_to_eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    return Image.fromarray(((values + 128) // 257).clip(0, 255).astype(np.uint8))


def too_large(name: str) -> ImageImportError:
    return ImageImportError(
        f"The image '{name}' has more than {MAX_PIXELS // 1_000_000} million pixels (a decompression bomb, or a scan "
        "to be scaled down first)."
    )


def plain(error: BaseException) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
