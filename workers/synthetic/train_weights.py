"""Make the weights of the shapes-world ViT that ship with the repository: `python -m workers.synthetic.train_weights`.

Two phases, as with the models people study: first a general one, on images whose ground is independent of the shape,
where the CLS token must name every attribute and each patch token the share of the shape on it (and the shape, where
there is some); then the class alone, on images whose ground goes with the class in 95 %. The first phase gives the
model features for all attributes within minutes on one core; from the class alone it learns the ground and no more.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from workers.artifacts import canonical_json, library_versions
from workers.model_training import Optimizer, learning_rate, set_sine_positions
from workers.synthetic.shapes import (
    BACKGROUNDS,
    COLORS,
    COLUMNS,
    CURVATURES,
    IMAGE_SIZE,
    ROWS,
    SHAPES,
    SIZES,
    TEXTURES,
)
from workers.synthetic.shapes_world import AGREEMENT, BLOCK, draw_block
from workers.timm_loading import import_timm

WEIGHTS = Path(__file__).parent / "weights"
NAME = "shapes_vit"
COMMAND = "python -m workers.synthetic.train_weights"
PATCH = 8
ARCHITECTURE = "vit_tiny_patch16_224"
TIMM_KWARGS: dict[str, Any] = {
    "img_size": IMAGE_SIZE, "patch_size": PATCH, "depth": 6, "embed_dim": 128, "num_heads": 4,
    "num_classes": len(SHAPES),
}  # fmt: skip
MEAN, DEVIATION = 0.5, 0.25
NAMED = {
    "shape": SHAPES, "color": COLORS, "texture": TEXTURES, "curvature": CURVATURES, "size": SIZES, "row": ROWS,
    "column": COLUMNS, "background": BACKGROUNDS,
}  # fmt: skip
SOME = 0.1  # the share of a patch from which on it must name the shape
SEEDS = {"independent": 101, "train": 102, "test": 103}


@dataclass(frozen=True)
class Phase:
    """How long and how fast one phase learns; an image is seen n_steps · batch_size / n_images times."""

    n_images: int
    n_steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int


@dataclass(frozen=True)
class Recipe:
    attributes: Phase = Phase(n_images=16384, n_steps=2000, batch_size=32, learning_rate=1e-3, warmup_steps=100)
    classes: Phase = Phase(n_images=8192, n_steps=150, batch_size=64, learning_rate=3e-4, warmup_steps=20)
    weight_decay: float = 0.05
    n_test: int = 6144
    seed: int = 0


class Examples(NamedTuple):
    """Images with what is known about them."""

    images: Tensor  # uint8 [image, y, x, rgb]
    named: Tensor  # int64 [image, attribute]
    covered: Tensor  # float32 [image, patch], the share of the patch that is shape


class Accuracy(NamedTuple):
    agree: float
    disagree: float
    n_agree: int
    n_disagree: int


def draw_examples(split: str, n_images: int, seed: int, agreement: float) -> Examples:
    blocks = [draw_block(split, block, seed, agreement) for block in range(n_images // BLOCK)]
    grid = IMAGE_SIZE // PATCH
    masks = np.concatenate([block.pictures.masks for block in blocks])
    covered = masks.reshape(-1, grid, PATCH, grid, PATCH).mean((2, 4)).reshape(-1, grid * grid)
    named = [np.stack([getattr(block.attributes, name) for name in NAMED], axis=1) for block in blocks]
    return Examples(
        torch.from_numpy(np.concatenate([block.pictures.images for block in blocks])),
        torch.from_numpy(np.concatenate(named)),
        torch.from_numpy(covered.astype(np.float32)),
    )


def normalize(images: Tensor) -> Tensor:
    return (images.permute(0, 3, 1, 2).float() / 255 - MEAN) / DEVIATION


class AttributeHeads(nn.Module):
    """Reads the attributes from the CLS token, and the shape and its share from each patch token."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.sizes = [len(names) for names in NAMED.values()]
        self.of_image = nn.Linear(d_model, sum(self.sizes))
        self.of_patch = nn.Linear(d_model, 1 + len(SHAPES))

    def loss(self, tokens: Tensor, named: Tensor, covered: Tensor) -> Tensor:
        of_image = self.of_image(tokens[:, 0]).float().split(self.sizes, dim=1)
        of_patch = self.of_patch(tokens[:, 1:]).float()
        total = sum((F.cross_entropy(logits, named[:, i]) for i, logits in enumerate(of_image)), start=torch.zeros(()))
        share = F.binary_cross_entropy_with_logits(of_patch[..., 0], covered)
        some = covered > SOME
        shape = named[:, :1].expand_as(covered)[some]
        return total + 2 * share + F.cross_entropy(of_patch[..., 1:][some], shape)


def train_phase(
    model: nn.Module, examples: Examples, phase: Phase, recipe: Recipe, heads: AttributeHeads | None
) -> None:
    """Train on the attributes if there are heads for them, else on the class by the model's own head."""
    modules = nn.ModuleList([model] if heads is None else [model, heads])
    optimizer = Optimizer(modules, recipe.weight_decay)
    chosen = np.random.default_rng([recipe.seed, phase.n_steps])
    started = time.monotonic()
    for step in range(phase.n_steps):
        rate = learning_rate(step, phase.n_steps, phase.warmup_steps, phase.learning_rate)
        rows = torch.from_numpy(chosen.integers(len(examples.images), size=phase.batch_size))
        loss = batch_loss(model, heads, Examples(*(values[rows] for values in examples)))
        optimizer.step(loss, rate)
        if step % 100 == 99:
            report(f"step {step + 1}/{phase.n_steps}, loss {loss.item():.3f}, {time.monotonic() - started:.0f} s")


def batch_loss(model: Any, heads: AttributeHeads | None, batch: Examples) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        if heads is None:
            return F.cross_entropy(model(normalize(batch.images)).float(), batch.named[:, 0])
        return heads.loss(model.forward_features(normalize(batch.images)), batch.named, batch.covered)


@torch.no_grad()
def measure(model: nn.Module, n_images: int) -> Accuracy:
    """Accuracy on test images, apart for those whose ground is and is not the one of their class."""
    examples = draw_examples("test", n_images, SEEDS["test"], AGREEMENT["test"])
    model.eval()
    guesses = torch.cat([model(normalize(images)).argmax(1) for images in torch.split(examples.images, BLOCK)])
    right = (guesses == examples.named[:, 0]).numpy()
    agrees = (examples.named[:, 0] == examples.named[:, list(NAMED).index("background")]).numpy()
    return Accuracy(
        round(float(right[agrees].mean()), 4), round(float(right[~agrees].mean()), 4), int(agrees.sum()),
        int((~agrees).sum()),
    )  # fmt: skip


def train(recipe: Recipe) -> nn.Module:
    """The trained model, its weights rounded to half precision as they are stored."""
    torch.manual_seed(recipe.seed)
    model: nn.Module = import_timm().create_model(ARCHITECTURE, **TIMM_KWARGS)
    set_sine_positions(model)
    heads = AttributeHeads(TIMM_KWARGS["embed_dim"])
    independent = draw_examples("train", recipe.attributes.n_images, SEEDS["independent"], 1 / len(BACKGROUNDS))
    train_phase(model, independent, recipe.attributes, recipe, heads)
    confounded = draw_examples("train", recipe.classes.n_images, SEEDS["train"], AGREEMENT["train"])
    train_phase(model, confounded, recipe.classes, recipe, None)
    return model.half().float()


def save(model: nn.Module, recipe: Recipe, accuracy: Accuracy, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / f"{NAME}.safetensors")
    (folder / f"{NAME}.safetensors").chmod(0o644)
    manifest = {
        "architecture": ARCHITECTURE, "timm_kwargs": TIMM_KWARGS, "classes": list(SHAPES),
        "preprocessing": {"size": IMAGE_SIZE, "crop_mode": "squash", "crop_pct": 1.0, "interpolation": "bilinear",
                          "mean": [MEAN] * 3, "std": [DEVIATION] * 3},
        "accuracy": accuracy._asdict(), "recipe": asdict(recipe), "command": COMMAND, "libraries": library_versions(),
    }  # fmt: skip
    (folder / f"{NAME}.json").write_text(canonical_json(manifest) + "\n")


def report(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the shapes-world ViT and write its weights and manifest.")
    parser.add_argument("--folder", type=Path, default=WEIGHTS)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    recipe = Recipe()
    model = train(recipe)
    accuracy = measure(model, recipe.n_test)
    report(f"right on {accuracy.agree:.1%} where the ground agrees, {accuracy.disagree:.1%} where it does not")
    save(model, recipe, accuracy, chosen.folder)


if __name__ == "__main__":
    main()
