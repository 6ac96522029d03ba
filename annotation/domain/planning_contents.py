"""What one item of a feature shows, by the builder that will freeze it: cells of a sheet, a variant, a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from annotation.domain.controls import N_CELLS, Cell
from annotation.domain.protocols import Protocol

PLANNED_HERE = ("items_per_feature", "variants")
NO_REFERENCE = "no-reference"


@dataclass(frozen=True)
class Shown:
    """What is told to the builder besides the features; cells are those of a sheet."""

    variant: str = ""
    text: str = ""
    truth: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    patches: Sequence[Cell] = ()
    images: Sequence[Cell] = ()


Content = Callable[[int, int], Shown]


def content_of(protocol: Protocol, options: Mapping[str, Any], texts: Mapping[int, str]) -> Content:
    """A function (feature, index of the item) -> what it shows; `texts` are explanations or classes by feature."""
    passed = {name: value for name, value in options.items() if name not in PLANNED_HERE}
    match protocol.builder:
        case "sheet":
            return lambda feature, index: sheet_content(feature, texts.get(feature, ""))
        case "two-alternative":
            return lambda feature, index: two_alternative_content(list(options["variants"]), passed, index)
        case "verification":
            variant = "image" if int(options["n_images"]) == 1 else "panel"
            return lambda feature, index: Shown(variant=variant, text=texts.get(feature, ""), options=passed)
        case _:
            return lambda feature, index: Shown(options=passed)


def sheet_of(feature: int) -> tuple[Cell, ...]:
    return tuple(Cell(feature, place) for place in range(N_CELLS))


def sheet_content(feature: int, text: str) -> Shown:
    """The whole sheet; a text is the class that the feature is asked about."""
    cells = sheet_of(feature)
    return Shown(text=text, truth={"class": text} if text else {}, patches=cells, images=cells)


def two_alternative_content(variants: Sequence[str], options: Mapping[str, Any], index: int) -> Shown:
    """The variants in turn; without references, the contrasts of the study in turn, so that they can be compared."""
    variant = variants[index % len(variants)]
    contrasts = [one for one in variants if one != NO_REFERENCE] or ["easy"]
    contrast = contrasts[(index // len(variants)) % len(contrasts)] if variant == NO_REFERENCE else variant
    return Shown(variant=variant, options=dict(options) | {"contrast": contrast})
