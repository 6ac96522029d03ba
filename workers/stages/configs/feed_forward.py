"""Config of the stage that reads a model's own MLPs as dictionaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from workers.stages.configs.base import parent, require, setting

CHOICES = {
    "selection": ("absolute", "value", "contribution"),
    "scaling": ("plain", "normalized"),
    "poles": ("both", "positive"),
}


@dataclass(frozen=True)
class ReadFeedForwardConfig:
    """Make dictionaries of a vision model's own MLPs (FF-KV), without training."""

    vision_model: str = parent("Vision model", "Its hidden units become latents, the columns of fc2 what they write.")
    image_set: str = parent("Image set", "The images the dictionary is recorded with; none is read.")
    hookpoints: tuple[str, ...] = setting((), "Hookpoints", "Such as blocks.3.mlp.hidden; left empty: every block.")
    name: str = setting("ff-kv", "Name", "What the dictionaries will be called; k is added.")
    k: tuple[int, ...] = setting((0, 10), "k", "A dictionary for each: so many units are kept per token, 0 keeps all.")
    selection: str = setting(
        "absolute", "Selection", "By what a unit is strong; a contribution is its value times the norm of its vector."
    )
    scaling: str = setting("plain", "Scaling", "normalized: value vectors of norm 1, their norms in the activations.")
    poles: str = setting(
        "both", "Poles", "positive leaves out values below zero; with GELU those are weak, -0.17 to 0."
    )

    parent_fields: ClassVar[tuple[str, ...]] = ("vision_model", "image_set")

    def __post_init__(self) -> None:
        require(len(self.k) > 0, "Name at least one k; 0 keeps every unit.", "k")
        require(min(self.k) >= 0, f"k is {min(self.k)}; it must be 0, which keeps every unit, or more.", "k")
        require(len(set(self.k)) == len(self.k), "Name each k once.", "k")
        require(len(set(self.hookpoints)) == len(self.hookpoints), "Name each hookpoint once.", "hookpoints")
        for name, known in CHOICES.items():
            value = getattr(self, name)
            require(value in known, f"The {name} '{value}' is unknown; it can be {', '.join(known)}.", name)
