"""Exemplars the slow and obvious way, from activations with a dense latent axis: what the fast way is compared with.

Every value of every latent at every token of every image is held at once, every table is a sorted list, and the
definitions of docs/dictionaries.md are followed one by one. The hash that draws samples is taken from the fast way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from workers.exemplars.accumulator import CONTRAST_SHARE, ExemplarSettings
from workers.exemplars.hashing import hash_images

N_RANGES, HALF_OCTAVES_PER_RANGE = 4, 2


class Shown(NamedTuple):
    """One image of a latent as people see it."""

    image: int
    value: float
    patch: int
    map: list[int]


NOTHING = -1


def compare_with_reference(
    tensors: Mapping[str, Tensor], dense: Float[Tensor, "n_images n_tokens n_latents"], settings: ExemplarSettings
) -> list[str]:
    """The differences between collected exemplars and the reference, a line for each; none if they are equal."""
    hashes = hash_images(torch.arange(dense.shape[0]), dense.shape[2], settings.seed)
    differences = []
    for latent in range(dense.shape[2]):
        values, order = dense[:, :, latent].clamp_min(0), hashes[:, latent].tolist()
        maxima = [float(value) for value in values.amax(dim=1)]
        expected = {
            "top": top_images(maxima, settings.n_top),
            "contrast": contrast_images(maxima, order, settings.n_contrast),
            **{f"range {r}": sampled(maxima, order, r, settings.n_per_range) for r in range(N_RANGES)},
        }
        found = {
            "top": tensors["top_image"][latent].tolist(),
            "contrast": tensors["contrast_image"][latent].tolist(),
            **{f"range {r}": tensors["range_image"][latent, r].tolist() for r in range(N_RANGES)},
        }
        for name, images in expected.items():
            padded = images + [NOTHING] * (len(found[name]) - len(images))
            if found[name] != padded:
                differences.append(f"latent {latent}, {name}: {found[name]}, and not {padded}")
        differences += different_maps(tensors, latent, expected["top"], values, settings.n_prefix_tokens)
    return differences + different_counts(tensors, dense.clamp_min(0).double(), settings.n_prefix_tokens)


def top_images(maxima: Sequence[float], n: int) -> list[int]:
    active = [image for image, value in enumerate(maxima) if value > 0]
    return sorted(active, key=lambda image: (-maxima[image], image))[:n]


def contrast_images(maxima: Sequence[float], order: Sequence[int], n: int) -> list[int]:
    percentile = sorted(maxima)[math.ceil(CONTRAST_SHARE * len(maxima)) - 1]
    allowed = [image for image, value in enumerate(maxima) if value <= percentile]
    chosen = sorted(allowed, key=lambda image: (maxima[image], order[image]))[:n]
    has_contrast = bool(chosen) and max(maxima[image] for image in chosen) < max(maxima)
    return chosen if has_contrast else []


def sampled(maxima: Sequence[float], order: Sequence[int], wanted_range: int, n: int) -> list[int]:
    if max(maxima) == 0:
        return []
    highest = half_octave(max(maxima))
    members = []
    for image, value in enumerate(maxima):
        if value > 0 and min((highest - half_octave(value)) // HALF_OCTAVES_PER_RANGE, N_RANGES - 1) == wanted_range:
            members.append(image)
    drawn = sorted(members, key=lambda image: order[image])[:n]
    return sorted(drawn, key=lambda image: (-maxima[image], image))


def half_octave(value: float) -> int:
    return math.floor(2 * math.log2(value))


def different_maps(
    tensors: Mapping[str, Tensor],
    latent: int,
    images: Sequence[int],
    values: Float[Tensor, "n_images n_tokens"],
    n_prefix: int,
) -> list[str]:
    differences = []
    for rank, image in enumerate(images):
        expected = shown(image, values[image], n_prefix)
        columns = (tensors[f"top_{name}"][latent, rank] for name in ("image", "value", "patch", "map"))
        number, value, patch, patch_map = columns
        found = Shown(int(number), float(value), int(patch), patch_map.tolist())
        if found != expected:
            differences.append(f"latent {latent}, top image {rank}: {found}, and not {expected}")
    return differences


def shown(image: int, values: Float[Tensor, " n_tokens"], n_prefix: int) -> Shown:
    patches = values[n_prefix:]
    levels = [max(1, round(255 * float(v / patches.max()))) if v > 0 else 0 for v in patches]
    return Shown(image, float(values.max()), max(int(values.argmax()) - n_prefix, -1), levels)


def different_counts(
    tensors: Mapping[str, Tensor], values: Float[Tensor, "n_images n_tokens n_latents"], n_prefix: int
) -> list[str]:
    active, maxima = values > 0, values.amax(dim=1)
    n_active, n_images = active.sum((0, 1)), (maxima > 0).sum(0)
    mean = values.sum((0, 1)) / n_active.clamp_min(1)
    spread = torch.where(active, (values - mean).square(), 0.0).sum((0, 1)) / n_active.clamp_min(1)
    on_prefix = ((values.argmax(dim=1) < n_prefix) & (maxima > 0)).sum(0)
    expected = {
        "n_tokens_active": n_active, "n_images_active": n_images, "maximum": maxima.amax(0), "mean": mean,
        "variance": spread, "prefix_share": on_prefix / n_images.clamp_min(1), "density": active.double().mean((0, 1)),
    }  # fmt: skip
    wrong = [
        name for name, value in expected.items()
        if not torch.allclose(tensors[name].double(), value.double(), rtol=1e-5, atol=1e-5)
    ]  # fmt: skip
    return [f"{name} differs from the reference" for name in wrong]
