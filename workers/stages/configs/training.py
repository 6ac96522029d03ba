"""Config of the stage that trains dictionaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from workers.stages.configs.base import SEED_HELP, parent, require, setting


@dataclass(frozen=True)
class TrainDictionaryConfig:
    """Train TopK SAEs at several hookpoints from one forward pass per image."""

    image_set: str = parent("Image set", "The images whose activations are read.")
    vision_model: str = parent("Vision model")
    hookpoints: tuple[str, ...] = parent("Hookpoints", "One sparse coder is trained at each, from one forward pass.")
    name: str = setting("topk-sae", "Name", "What the dictionary will be called.")
    n_latents: int = setting(1024, "Latents", "Per hookpoint; 8 to 32 times the width of the model is usual.")
    k: int = setting(16, "k", "How many latents may be active per token.")
    n_tokens: int = setting(8_000_000, "Tokens", "How many activations are seen in all.")
    batch_tokens: int = setting(4096, "Batch", "Tokens per step.")
    learning_rate: float = setting(1e-3, "Learning rate")
    seed: int = setting(0, "Seed", SEED_HELP)

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set", "vision_model")

    def __post_init__(self) -> None:
        require(len(self.hookpoints) > 0, "Name at least one hookpoint, such as blocks.3.")
        require(
            1 <= self.k <= self.n_latents, f"k is {self.k}; it must lie between 1 and n_latents ({self.n_latents})."
        )
        require(len(set(self.hookpoints)) == len(self.hookpoints), "Name each hookpoint once.")
        require(self.n_tokens >= 1, f"n_tokens is {self.n_tokens}; training needs at least one token.")
        require(self.batch_tokens >= 64, "A batch needs at least 64 tokens.")
        require(self.learning_rate > 0, "The learning rate must be above 0.")
