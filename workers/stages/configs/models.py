"""Configs of the stages that make or read vision models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from workers.stages.configs.base import PER_CHUNK_HELP, SEED_HELP, parent, require, require_limits, setting


@dataclass(frozen=True)
class TrainModelConfig:
    """Train a small ViT classifier from an image set."""

    image_set: str = parent("Image set", "Its labels are what the model learns to tell.")
    name: str = setting("small-vit", "Name", "What the model will be called.")
    architecture: str = setting("vit_tiny_patch16_224", "Architecture", "timm's name of a vision transformer.")
    image_size: int = setting(64, "Image size", "A multiple of the patch size.", unit="pixels", most=4096)
    patch_size: int = setting(8, "Patch size", "A token for each patch.", unit="pixels", most=4096)
    depth: int = setting(6, "Blocks", "12 in a ViT-B.", unit="blocks", most=200)
    width: int = setting(128, "Width", "Of the residual stream; 768 in a ViT-B.", unit="dimensions", most=16_384)
    n_epochs: int = setting(20, "Epochs", "How often every image is seen.", unit="epochs", most=10_000)
    learning_rate: float = setting(1e-3, "Learning rate", "Of AdamW, after warm-up.")
    seed: int = setting(0, "Seed", SEED_HELP)

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set",)

    def __post_init__(self) -> None:
        require_limits(self)
        require(self.patch_size >= 1, "A patch is at least one pixel wide.", "patch_size")
        require(
            self.image_size % self.patch_size == 0, "The image size must be a multiple of the patch size.", "image_size"
        )
        require(self.n_epochs >= 1, "Training needs at least one epoch.", "n_epochs")
        require(self.depth >= 1, "The model needs at least one block.", "depth")
        require(self.width >= 1, "The model needs a width above 0.", "width")
        require(self.width % 4 == 0, f"The width {self.width} must be a multiple of 4.", "width")
        require(self.learning_rate > 0, "The learning rate must be above 0.", "learning_rate")


@dataclass(frozen=True)
class EmbedImagesConfig:
    """Embed the images of a set, so that contrasts that look alike can be found."""

    image_set: str = parent("Image set", "The images to embed.")
    vision_model: str = parent("Vision model", "By which images are alike; best one that learned without labels.")
    images_per_chunk: int = setting(512, "Images per chunk", PER_CHUNK_HELP, unit="images", most=10**6, is_rare=True)

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set", "vision_model")

    def __post_init__(self) -> None:
        require_limits(self)
        require(self.images_per_chunk >= 1, "A chunk needs at least one image.", "images_per_chunk")
