"""A line of a plan (artefact `feature-set`, items.jsonl): which builder makes the item, of which features.

A feature is named by the number of its source (sources.json) and its latent.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class IneligibleError(Exception):
    """The item cannot be built from what its feature has; the message is the reason that people read."""


def counted(n: int, noun: str) -> str:
    """'1 image', '2 images'."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


class FeatureKey(NamedTuple):
    """A feature of a plan."""

    source: int
    latent: int


class SheetCell(NamedTuple):
    """Where a cell's image comes from and where its patch or map comes from: (source, latent, place) each."""

    image: tuple[int, int, int]
    map: tuple[int, int, int]


@dataclass(frozen=True)
class PlanLine:
    """One item to build; a control's `matched` is the feature it stands among."""

    number: int
    builder: str
    feature: FeatureKey
    matched: FeatureKey
    other: FeatureKey | None = None
    variant: str = ""
    text: str = ""
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    truth: Mapping[str, Any] = field(default_factory=dict)
    cells: Mapping[str, list[SheetCell]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> PlanLine:
        matched = FeatureKey(*line["matched"])
        return cls(
            number=line["number"],
            builder=line.get("builder", "sheet"),
            feature=FeatureKey(*line.get("feature") or matched),
            matched=matched,
            other=FeatureKey(*line["other"]) if line.get("other") else None,
            variant=line.get("variant", ""),
            text=line.get("text", ""),
            seed=line.get("seed", 0),
            options=line.get("options") or {},
            truth=line.get("truth") or {},
            cells={name: [sheet_cell(cell) for cell in line.get(name, ())] for name in ("patches", "images")},
        )

    def generator(self) -> random.Random:
        """What order, side and choice of this item are drawn from."""
        return random.Random(f"{self.seed}/{self.builder}")

    def count(self, name: str, default: int) -> int:
        return int(self.options.get(name, default))


def sheet_cell(cell: list[int]) -> SheetCell:
    """Three numbers where image and map come from one place, six where not."""
    image, place = cell[:3], cell[3:] or cell[:3]
    return SheetCell((image[0], image[1], image[2]), (place[0], place[1], place[2]))
