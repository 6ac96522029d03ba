"""A tiny catalog with everything a feature page needs: real image files, an image-set and an exemplars artefact, rows.

Each image holds one colored disc or square on a graded background, drawn from a seed. Latent f fires on the patches
under the objects of class f mod n_classes, so that a heat map has something to agree with. Latent 0 of every
hookpoint is dead, latent 1 has its maximum on CLS, and the last latent has no contrast images.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from annotation.domain.features import load_features
from annotation.models import Dictionary, ExemplarSet, Image, ImageRoot, ImageSet, VisionModel
from workers.artifacts import Artifact, ArtifactStore

CLASSES = ("disc", "square", "triangle")
COLORS = ((214, 84, 60), (60, 120, 216), (236, 190, 60), (110, 180, 110))
K, RANGES, PER_RANGE, CONTRAST, BINS = 16, 4, 4, 24, 24


@dataclass(frozen=True)
class CatalogPlan:
    """How large the catalog is; the defaults make it in well under a second."""

    name: str = "objects"
    n_images: int = 32
    image_size: int = 64
    grid: tuple[int, int] = (8, 8)
    n_latents: int = 8
    hookpoints: tuple[str, ...] = ("blocks.0", "blocks.1")
    kind: str = "topk_sae"
    has_two_poles: bool = False
    visibility: str = ImageSet.Visibility.SIGNED_IN
    seed: int = 0


class Catalog(NamedTuple):
    image_set: ImageSet
    vision_model: VisionModel
    dictionary: Dictionary
    exemplar_set: ExemplarSet
    artifact: Artifact
    root: Path


Group = list[tuple[int, float, int, np.ndarray]]


class Drawn(NamedTuple):
    """One image: its class and its object's box as shares of the side."""

    label: int
    color: int
    box: tuple[float, float, float, float]


def build_catalog(store: ArtifactStore, folder: Path, plan: CatalogPlan | None = None) -> Catalog:
    """Files under ``folder``, artefacts in ``store``, rows in the database."""
    plan = plan or CatalogPlan()
    rng = np.random.default_rng(plan.seed)
    drawn = [draw(rng) for _ in range(plan.n_images)]
    root = folder / plan.name
    image_set = make_image_set(plan, drawn, root)
    vision_model = make_vision_model(plan)
    dictionary = make_dictionary(plan, vision_model, image_set)
    artifact = write_exemplars(store, plan, drawn, dictionary)
    return Catalog(image_set, vision_model, dictionary, load_features(artifact=artifact, run=None), artifact, root)


def digest_of(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def draw(rng: np.random.Generator) -> Drawn:
    side = rng.uniform(0.3, 0.5)
    left, top = rng.uniform(0.05, 0.95 - side, size=2)
    label = int(rng.integers(len(CLASSES)))
    return Drawn(label, int(rng.integers(len(COLORS))), (left, top, left + side, top + side))


def picture(plan: CatalogPlan, drawn: Drawn, index: int) -> tuple[Pillow.Image, Pillow.Image]:
    """The image and its mask."""
    size = plan.image_size
    shade = np.linspace(70, 190, size)[:, None, None] + np.linspace(-40, 40, size)[None, :, None]
    noise = np.random.default_rng([plan.seed, index]).normal(0, 8, (size, size, 3))
    image = Pillow.fromarray((shade + noise).clip(0, 255).astype(np.uint8))
    mask = Pillow.new("L", (size, size))
    for target, fill in ((image, COLORS[drawn.color]), (mask, 255)):
        paint(ImageDraw.Draw(target), drawn, size, fill)
    return image, mask


def paint(canvas: Any, drawn: Drawn, size: int, fill: Any) -> None:
    left, top, right, bottom = (share * size for share in drawn.box)
    if drawn.label == 0:
        canvas.ellipse((left, top, right, bottom), fill=fill)
    elif drawn.label == 1:
        canvas.rectangle((left, top, right, bottom), fill=fill)
    else:
        canvas.polygon(((left + right) / 2, top, right, bottom, left, bottom), fill=fill)


def make_image_set(plan: CatalogPlan, drawn: list[Drawn], root: Path) -> ImageSet:
    image_set = ImageSet.objects.create(
        name=plan.name, digest=digest_of("images", plan), n_images=plan.n_images, classes=list(CLASSES),
        attribute_names=["color"], licence="CC0", visibility=plan.visibility,
    )  # fmt: skip
    ImageRoot.objects.create(image_set=image_set, path=str(root))
    rows = [write_image(plan, image_set, root, index, one) for index, one in enumerate(drawn)]
    Image.objects.bulk_create(rows)
    return image_set


def write_image(plan: CatalogPlan, image_set: ImageSet, root: Path, index: int, drawn: Drawn) -> Image:
    path, mask_path = Path("images") / f"{index:04d}.png", Path("masks") / f"{index:04d}.png"
    for each in (path, mask_path):
        (root / each).parent.mkdir(parents=True, exist_ok=True)
    image, mask = picture(plan, drawn, index)
    image.save(root / path)
    mask.save(root / mask_path)
    return Image(
        image_set=image_set, index=index, path=str(path), mask_path=str(mask_path), label=CLASSES[drawn.label],
        sha256=hashlib.sha256((root / path).read_bytes()).hexdigest(), width=plan.image_size,
        height=plan.image_size, attributes={"color": ["red", "blue", "yellow", "green"][drawn.color]},
    )  # fmt: skip


def make_vision_model(plan: CatalogPlan) -> VisionModel:
    return VisionModel.objects.create(
        name=f"vit-{plan.name}", digest=digest_of("model", plan), architecture="vit_tiny_patch16_224",
        source="untrained", n_blocks=6, d_model=32, n_prefix_tokens=1, grid_height=plan.grid[0],
        grid_width=plan.grid[1], preprocessing={"size": plan.image_size, "crop_mode": "center"}, classes=list(CLASSES),
    )  # fmt: skip


def make_dictionary(plan: CatalogPlan, vision_model: VisionModel, image_set: ImageSet) -> Dictionary:
    quality = {hookpoint: quality_of(plan, block) for block, hookpoint in enumerate(plan.hookpoints)}
    return Dictionary.objects.create(
        name=f"{plan.kind} on {plan.name}", digest=digest_of("dictionary", plan), kind=plan.kind,
        vision_model=vision_model, image_set=image_set, hookpoints=list(plan.hookpoints), quality=quality,
        config={"n_latents": plan.n_latents, "k": 16},
    )  # fmt: skip


def quality_of(plan: CatalogPlan, block: int) -> dict[str, Any]:
    fall = 0.03 * block
    return {
        "explained_variance": {"all": 0.9 - fall, "cls": 0.8 - fall, "patches": 0.91 - fall},
        "l0": 16.0, "n_dead": 1, "n_dense": 0, "n_latents": plan.n_latents,
    }  # fmt: skip


def write_exemplars(
    store: ArtifactStore, plan: CatalogPlan, drawn: list[Drawn], dictionary: Dictionary, *, revision: int = 1
) -> Artifact:
    """The exemplars artefact; another ``revision`` draws other activations for the same dictionary."""
    from safetensors.numpy import save_file

    facts = {
        "dictionary": dictionary.digest, "image_set": dictionary.image_set.digest,
        "vision_model": dictionary.vision_model.digest, "grid": list(plan.grid), "n_prefix_tokens": 1,
        "classes": list(CLASSES), "hookpoints": list(plan.hookpoints),
        "poles": ["positive", "negative"][: 1 + plan.has_two_poles],
        "n_latents": dict.fromkeys(plan.hookpoints, plan.n_latents), "n_images": plan.n_images,
        "n_tokens": plan.n_images * (plan.grid[0] * plan.grid[1] + 1), "settings": {},
    }  # fmt: skip
    with store.write("exemplars", config={"revision": revision}, parents=[dictionary.digest]) as writer:
        for block, hookpoint in enumerate(plan.hookpoints):
            rng = np.random.default_rng([plan.seed, revision, block])
            for ending in ("", ".negative")[: 1 + plan.has_two_poles]:
                save_file(pole_tensors(plan, drawn, rng), str(writer.folder / f"{hookpoint}{ending}.safetensors"))
        (writer.folder / "exemplars.json").write_text(json.dumps(facts))
    assert writer.artifact is not None
    return writer.artifact


def pole_tensors(plan: CatalogPlan, drawn: list[Drawn], rng: np.random.Generator) -> dict[str, Any]:
    """All tensors of one file, feature by feature."""
    rows = [latent_row(plan, drawn, latent, rng) for latent in range(plan.n_latents)]
    tensors = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    tensors["histogram_edges"] = np.logspace(-2, 2, BINS + 1).astype(np.float32)
    return tensors


def latent_row(plan: CatalogPlan, drawn: list[Drawn], latent: int, rng: np.random.Generator) -> dict[str, Any]:
    images = [i for i, one in enumerate(drawn) if one.label == latent % len(CLASSES)] if latent > 0 else []
    values = np.sort(rng.uniform(0.5, 9.0, len(images)))[::-1].astype(np.float32)
    maps = {i: patch_map(plan, drawn[i], rng) for i in images}
    patches = {i: -1 if latent == 1 else int(maps[i].argmax()) for i in images}
    listed = [(i, float(v), patches[i], maps[i]) for i, v in zip(images, values, strict=True)]
    maximum = float(values[0]) if len(values) else 0.0
    edges = np.float32(maximum) * np.array([1, 0.5, 0.25, 0.1, 0], np.float32)
    banded = [[row for row in listed if edges[r + 1] < row[1] <= edges[r]][:PER_RANGE] for r in range(RANGES)]
    silent = [] if latent == plan.n_latents - 1 else [i for i in range(len(drawn)) if i not in maps][:CONTRAST]
    n_active = sum(int((one > 0).sum()) for one in maps.values())
    n_tokens = plan.n_images * (plan.grid[0] * plan.grid[1] + 1)
    return {
        **columns(plan, "top", [listed], K, flat=True),
        **columns(plan, "range", banded, PER_RANGE),
        "range_edges": edges,
        "contrast_image": np.array([*silent, *[-1] * (CONTRAST - len(silent))], np.int32),
        "contrast_value": np.zeros(CONTRAST, np.float32),
        "contrast_reached": np.float32(0.0 if silent else np.nan),
        "n_images_active": np.int32(len(images)),
        "n_tokens_active": np.int64(n_active),
        "density": np.float32(n_active / n_tokens),
        "mean": np.float32(values.mean() if len(values) else np.nan),
        "variance": np.float32(values.var() if len(values) else np.nan),
        "maximum": np.float32(maximum),
        "prefix_share": np.float32(1.0 if latent == 1 else 0.0),
        "histogram": (np.histogram(values, np.logspace(-2, 2, BINS + 1))[0] * 7).astype(np.int32),
        "logit_class": np.array([latent % 3, (latent + 1) % 3, (latent + 2) % 3, -1, -1], np.int16),
        "logit_value": np.array([2.5, 0.5, -1.0, np.nan, np.nan], np.float32),
    }


def columns(plan: CatalogPlan, kind: str, groups: list[Group], size: int, *, flat: bool = False) -> dict[str, Any]:
    """Image, value, patch and map of groups of exemplars, padded to ``size`` with image -1."""
    shape = (len(groups), size)
    images, patches = np.full(shape, -1, np.int32), np.full(shape, -1, np.int16)
    values, maps = np.zeros(shape, np.float32), np.zeros((*shape, plan.grid[0] * plan.grid[1]), np.uint8)
    for g, group in enumerate(groups):
        for i, (image, value, patch, one) in enumerate(group[:size]):
            images[g, i], values[g, i], patches[g, i], maps[g, i] = image, value, patch, one
    named: dict[str, Any] = {"image": images, "value": values, "patch": patches, "map": maps}
    return {f"{kind}_{part}": array[0] if flat else array for part, array in named.items()}


def patch_map(plan: CatalogPlan, drawn: Drawn, rng: np.random.Generator) -> np.ndarray:
    """Bytes per patch: high under the object, silent elsewhere; exactly one patch is 255."""
    height, width = plan.grid
    left, top, right, bottom = drawn.box
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    inside = ((y >= top) & (y <= bottom))[:, None] & ((x >= left) & (x <= right))[None, :]
    map_ = np.where(inside, rng.integers(60, 250, inside.shape), 0).astype(np.uint8).reshape(-1)
    map_[int(map_.argmax())] = 255
    return map_
