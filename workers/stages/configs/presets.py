"""Named recipes of dictionaries: a schedule of widths and k by block, or a budget of tokens.

The three ``rrm-`` presets are those of the residual replacement model (research/rrm.md §1): TopK SAEs on the residual
stream after each block but the last, with the image preprocessing they were trained with, which a registered model must
share. A preset fixes the settings it names and leaves the others free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BASE_WIDTH = 768  # of a ViT-B; the published widths are multiples of it
HALVES = {"crop_mode": "squash", "crop_pct": 1.0, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
CLIP = {
    "crop_mode": "center",
    "crop_pct": 1.0,
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}


@dataclass(frozen=True)
class Preset:
    """What a preset sets, and what the vision model must be for it: empty where any will do."""

    summary: str
    values: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=dict)
    model_name: str = ""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)


def by_block(k: tuple[int, ...], width: tuple[float, ...]) -> dict[str, Any]:
    """TopK SAEs after the first blocks; ``width`` in multiples of the model's."""
    return {
        "kind": "topk_sae",
        "hookpoints": tuple(f"blocks.{block}" for block in range(len(k))),
        "k_each": k,
        "n_latents_each": tuple(int(BASE_WIDTH * multiple) for multiple in width),
        "learning_rate": 2e-4,
    }


WORDS = {
    "d_model": "width", "n_blocks": "number of blocks", "grid": "grid of patches",
    "n_prefix_tokens": "number of CLS and register tokens",
}  # fmt: skip
VIT_B = {"d_model": BASE_WIDTH, "n_blocks": 12, "grid": [14, 14], "n_prefix_tokens": 1}
DINOV2_B = VIT_B | {"grid": [16, 16], "n_prefix_tokens": 5}
PRESETS: dict[str, Preset] = {
    "rrm-vit-b16": Preset(
        "RRM's schedule of k and width for ViT-B/16 (images squashed, mean and deviation 0.5)",
        by_block((4, 32, 64, 96, 96, 128, 128, 160, 160, 160, 128), (0.25, 0.5, 1, 2, 2, 2, 4, 4, 4, 4, 2)),
        VIT_B,
        "ViT-B/16",
        HALVES,
    ),
    "rrm-dinov2-b14-reg": Preset(
        "RRM's schedule of k and width for DINOv2-B/14 with registers (images squashed, mean and deviation 0.5)",
        by_block((4, 16, 32, 32, 64, 96, 128, 128, 128, 160, 160), (0.25, 0.25, 0.5, 2, 2, 2, 2, 2, 2, 2, 2)),
        DINOV2_B,
        "DINOv2-B/14 with registers",
        HALVES,
    ),
    "rrm-clip-b16": Preset(
        "RRM's schedule of k and width for CLIP-B/16 (CLIP's own preprocessing)",
        by_block((64, 64, 96, 96, 128, 128, 128, 128, 160, 160, 160), (0.5, 0.5, 1, 2, 2, 2, 2, 2, 2, 2, 2)),
        VIT_B,
        "CLIP-B/16",
        CLIP,
    ),
    "quick": Preset(
        "2 million tokens: a look within minutes", {"n_tokens": 2_000_000, "batch_tokens": 2048, "learning_rate": 2e-3}
    ),
    "paper": Preset(
        "50 million tokens: figures to compare with published ones",
        {"n_tokens": 50_000_000, "batch_tokens": 4096, "learning_rate": 5e-4, "clip_norm": 1.0},
    ),
    "deep": Preset(
        "500 million tokens: for a GPU and wide dictionaries",
        {"n_tokens": 500_000_000, "batch_tokens": 8192, "learning_rate": 2e-4, "clip_norm": 1.0},
    ),
}


def preset_objection(name: str, model: Mapping[str, Any]) -> str:
    """Why a preset does not suit the model that ``model.json`` describes, in a sentence; '' if it does."""
    preset = PRESETS[name]
    for key, wanted in preset.model.items():
        if model[key] != wanted:
            return (
                f"The preset {name} is for {preset.model_name}, whose {WORDS[key]} is {shown(wanted)}; it is "
                f"{shown(model[key])} here. Leave the preset out and give k and widths of your own."
            )
    own = model.get("preprocessing", {})
    wrong = {
        key: wanted for key, wanted in preset.preprocessing.items() if key not in own or not is_same(own[key], wanted)
    }
    if not wrong:
        return ""
    what = ", ".join(f"{key} {shown(own.get(key, 'none'))} instead of {shown(wanted)}" for key, wanted in wrong.items())
    return (
        f"The preset {name} is for {preset.model_name} with another preprocessing of images: this model has {what}. "
        "Register the model anew with register_model --preprocessing, or leave the preset out and give k and widths of "
        "your own."
    )


def fitting_presets(model: Mapping[str, Any]) -> list[str]:
    """The presets that suit a model."""
    return [name for name in PRESETS if not preset_objection(name, model)]


def is_same(own: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return len(own) == len(wanted) and all(is_same(a, b) for a, b in zip(own, wanted, strict=True))
    return bool(abs(own - wanted) < 1e-3) if isinstance(wanted, float) else bool(own == wanted)


def shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " × ".join(shown(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
