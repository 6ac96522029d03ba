"""From an upright RGB image to a model's input: resize, crop, scale, normalize; timm's evaluation transform, recorded.

`center` resizes the shorter side to size / crop_pct and cuts the middle out; `squash` resizes both sides to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

CROP_MODES = ("center", "squash")
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """Size in pixels (square); mean and std per channel of values in [0, 1]."""

    size: int
    crop_mode: str = "center"
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.crop_mode not in CROP_MODES:
            raise ValueError(f"The crop mode '{self.crop_mode}' is unknown; give one of {', '.join(CROP_MODES)}.")
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise ValueError(f"The interpolation '{self.interpolation}' is unknown; give one of {known}.")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("Mean and std of the preprocessing need three numbers each, those of std above 0.")
        if self.size < 1 or not 0 < self.crop_pct <= 1:
            raise ValueError("The size of the preprocessing must be at least 1, and crop_pct above 0 and at most 1.")

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 size size"]:
        pixels = np.ascontiguousarray(np.asarray(self.crop(image)).transpose(2, 0, 1)).astype(np.float32)
        mean, std = (np.array(values, dtype=np.float32)[:, None, None] for values in (self.mean, self.std))
        pixels /= np.float32(255)
        pixels -= mean
        pixels /= std
        return torch.from_numpy(pixels)

    def crop(self, image: Image.Image) -> Image.Image:
        """The part of the image that the model sees, at the size at which it sees it."""
        scaled = math.floor(self.size / self.crop_pct)
        width, height = (scaled, scaled) if self.crop_mode == "squash" else shorter_side_to(scaled, image.size)
        if (width, height) != image.size:
            image = image.resize((width, height), INTERPOLATIONS[self.interpolation])
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return image.crop((left, top, left + self.size, top + self.size))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}


def shorter_side_to(side: int, size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def preprocessing_from(values: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing of recorded or given values; raises ValueError for a key that does not exist."""
    known = Preprocessing.__dataclass_fields__
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"The preprocessing has no setting '{unknown[0]}'; there are {', '.join(known)}.")
    lists = {key: tuple(values[key]) for key in ("mean", "std") if key in values}
    return Preprocessing(**{**values, **lists})
