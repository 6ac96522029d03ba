"""Configs of the stages that studies need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from workers.stages.configs.base import SEED_HELP, parent, setting


@dataclass(frozen=True)
class FreezeStimuliConfig:
    """Freeze what the annotators of a study will see.

    ``plan`` is the digest of a feature-set artefact whose items.jsonl lists what to freeze.
    """

    image_set: str = parent("Image set")
    plan: str = parent("Plan", "The feature-set artefact that lists what to freeze.")
    embeddings: str = setting("", "Image embeddings", "Needed for hard contrasts.")
    seed: int = setting(0, "Seed", SEED_HELP)

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set", "plan", "embeddings")
