"""An open study of each protocol with stimuli in the frozen format, drawn here: no model, no run, the truth known.

A feature is a shape of one color: what activates it shows that shape, what does not shows another. Used by the bots in
the browser, by tests of reports, and wherever a small study of some protocol is needed.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw

from annotation.domain.protocols import PROTOCOLS
from annotation.domain.storage import artifact_store
from annotation.models import Condition, Feature, Item, Slot, Study, User
from tests.factories import COLORS, GRID, as_webp, heat_of, make_dictionary, make_draft_study, make_features

SHAPES = ("ellipse", "rectangle", "triangle")
SIDE = 128  # of a drawn picture
CELL, ZOOM, ACROSS = 128, 192, 8
N_SHEET, N_PANEL = 16, 8


class ProtocolStudy(NamedTuple):
    study: Study
    researcher: User
    items: list[Item]


@dataclass
class Sheet:
    """Collects the pictures of one stimulus and says where each lies."""

    rng: np.random.Generator
    pictures: list[Picture.Image] = field(default_factory=list)

    def cell(self, picture: Picture.Image, **facts: Any) -> dict[str, Any]:
        index = len(self.pictures)
        self.pictures.append(picture)
        column, row = index % ACROSS, index // ACROSS
        place = {"x": CELL * column, "y": CELL * row, "w": CELL, "h": CELL}
        return place | {"zoom": [ZOOM * column, ZOOM * row, ZOOM, ZOOM], "image_index": index % N_SHEET} | facts

    def packed(self, side: int) -> bytes:
        rows = -(-len(self.pictures) // ACROSS)
        sheet = Picture.new("RGB", (ACROSS * side, rows * side))
        for index, picture in enumerate(self.pictures):
            sheet.paste(picture.resize((side, side)), (side * (index % ACROSS), side * (index // ACROSS)))
        return as_webp(sheet)


class Drawn(NamedTuple):
    picture: Picture.Image
    center: tuple[int, int]  # in patches

    @property
    def map(self) -> str:
        return base64.b64encode(heat_of(self.center)).decode()

    @property
    def box(self) -> list[int]:
        return [CELL // GRID * self.center[0], CELL // GRID * self.center[1], CELL // GRID, CELL // GRID]


def draw(sheet: Sheet, look: int) -> Drawn:
    """A shape on a soft ground; `look` names its color and shape."""
    rng = sheet.rng
    ground = rng.integers(120, 220, size=(5, 5, 3), dtype=np.uint8)
    picture = Picture.fromarray(ground).resize((SIDE, SIDE), Picture.Resampling.BICUBIC)
    x, y = (int(v) for v in rng.integers(28, SIDE - 28, size=2))
    r, color = int(rng.integers(17, 27)), COLORS[look % len(COLORS)]
    pen = ImageDraw.Draw(picture)
    match SHAPES[look % len(SHAPES)]:
        case "ellipse":
            pen.ellipse((x - r, y - r, x + r, y + r), fill=color)
        case "rectangle":
            pen.rectangle((x - r, y - r, x + r, y + r), fill=color)
        case _:
            pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=color)
    return Drawn(picture, (x * GRID // SIDE, y * GRID // SIDE))


class Stimulus(NamedTuple):
    """What a builder returns: the panels by name, the sentence shown, the truth, the variant."""

    panels: dict[str, list[dict[str, Any]]]
    text: str = ""
    truth: Mapping[str, Any] = {}
    variant: str = ""


def panel(sheet: Sheet, look: int, n: int, *, has_maps: bool = True, has_values: bool = False) -> list[dict[str, Any]]:
    cells = []
    for index in range(n):
        drawn = draw(sheet, look)
        facts: dict[str, Any] = {"map": drawn.map} if has_maps else {}
        if has_values:
            facts["value"] = round(1 - index / (1.2 * n), 3)
        cells.append(sheet.cell(drawn.picture, **facts))
    return cells


def patch_panel(sheet: Sheet, look: int, n: int) -> list[dict[str, Any]]:
    """Crops of three by three patches about the middle of the shape, the patch outlined."""
    cells = []
    for _ in range(n):
        drawn = draw(sheet, look)
        step = SIDE // GRID
        left, top = (min(max(step * (c - 1), 0), SIDE - 3 * step) for c in drawn.center)
        crop = drawn.picture.crop((left, top, left + 3 * step, top + 3 * step)).resize((SIDE, SIDE))
        box = [(step * c - corner) * CELL // (3 * step) for c, corner in zip(drawn.center, (left, top), strict=True)]
        cells.append(sheet.cell(crop, box=[*box, CELL // 3, CELL // 3], patch_index=0))
    return cells


def sheet_stimulus(sheet: Sheet, look: int, options: Mapping[str, Any]) -> Stimulus:
    images = panel(sheet, look, N_SHEET, has_values=True)
    return Stimulus({"patches": patch_panel(sheet, look, N_SHEET), "images": images})


def spurious_stimulus(sheet: Sheet, look: int, options: Mapping[str, Any]) -> Stimulus:
    shown = sheet_stimulus(sheet, look, options)
    return shown._replace(text="Class: sailing boat", truth={"class": "sailing boat"})


def two_alternative_stimulus(sheet: Sheet, look: int, options: Mapping[str, Any]) -> Stimulus:
    n, right = int(options["n_references"]), int(sheet.rng.integers(2))
    variant = options["variants"][int(sheet.rng.integers(len(options["variants"])))]
    queries = [cell for index in range(2) for cell in panel(sheet, look + (index != right), 1, has_maps=False)]
    panels = {"queries": queries}
    if variant != "no-reference":
        reference, contrast = panel(sheet, look, n), panel(sheet, look + 1, n, has_maps=False)
        panels = {"reference": reference, "contrast": contrast, "queries": queries}
    return Stimulus(panels, truth={"query": right}, variant=variant)


def intruder_stimulus(sheet: Sheet, look: int, options: Mapping[str, Any]) -> Stimulus:
    n = int(options["n_images"])
    odd = int(sheet.rng.integers(n))
    drawn = [draw(sheet, look + (index == odd)) for index in range(n)]
    return Stimulus({"candidates": [sheet.cell(one.picture, box=one.box) for one in drawn]}, truth={"intruder": odd})


def verification_stimulus(sheet: Sheet, look: int, options: Mapping[str, Any]) -> Stimulus:
    n = int(options["n_images"])
    matches = [bool(sheet.rng.integers(2)) for _ in range(n)]
    queries = [cell for fits in matches for cell in panel(sheet, look + (not fits), 1, has_maps=False)]
    kinds = ["active" if fits else "random" for fits in matches]
    text = f"A {SHAPES[look % 3]} in {COLORS[look % len(COLORS)]}, alone on a soft ground"
    return Stimulus({"queries": queries}, text=text, truth={"matches": matches, "kinds": kinds})


def pair_stimulus(sheet: Sheet, look: int, options: Mapping[str, Any]) -> Stimulus:
    sides = {"left": panel(sheet, look, N_PANEL), "right": panel(sheet, look + 1, N_PANEL)}
    return Stimulus(sides, truth={"left": "feature"}, variant="")


def alignment_stimulus(sheet: Sheet, look: int, options: Mapping[str, Any]) -> Stimulus:
    is_same = int(sheet.rng.integers(2))
    sides = {"left": panel(sheet, look, N_PANEL), "right": panel(sheet, look + 1 - is_same, N_PANEL)}
    return Stimulus(sides, truth={"mcs": 0.3 + 0.6 * is_same, "null_percentile": 99.0}, variant=f"bin {is_same}")


def marking_stimulus(sheet: Sheet, look: int, options: Mapping[str, Any]) -> Stimulus:
    drawn = [draw(sheet, look) for _ in range(int(options["n_images"]))]
    reference = panel(sheet, look, N_PANEL)
    queries = [sheet.cell(one.picture) for one in drawn]
    return Stimulus({"reference": reference, "queries": queries}, truth={"maps": [one.map for one in drawn]})


BUILDERS: dict[str, Callable[[Sheet, int, Mapping[str, Any]], Stimulus]] = {
    "rate-describe-categorise": sheet_stimulus,
    "nature-origin": sheet_stimulus,
    "spurious": spurious_stimulus,
    "two-alternative": two_alternative_stimulus,
    "intruder": intruder_stimulus,
    "verification": verification_stimulus,
    "pairwise": pair_stimulus,
    "alignment": alignment_stimulus,
    "patch-marking": marking_stimulus,
}


def write_protocol_stimuli(
    protocol: str, looks: Sequence[int], options: Mapping[str, Any]
) -> tuple[str, list[Stimulus]]:
    """A stimuli artefact with one stimulus per look; its digest and what was drawn."""
    kinds = {one.name: one.kind for one in PROTOCOLS[protocol].panels}
    drawn = []
    with artifact_store().write("stimuli", config={"protocol": protocol, "looks": list(looks)}) as writer:
        for folder in ("sprites", "zoom"):
            (writer.folder / folder).mkdir()
        for index, look in enumerate(looks):
            sheet = Sheet(np.random.default_rng([look, index]))
            stimulus = BUILDERS[protocol](sheet, look, options)
            name = stimulus_name(index)
            (writer.folder / f"sprites/{name}.webp").write_bytes(sheet.packed(CELL))
            (writer.folder / f"zoom/{name}.webp").write_bytes(sheet.packed(ZOOM))
            panels = [{"name": key, "kind": kinds[key], "cells": cells} for key, cells in stimulus.panels.items()]
            record = {"grid": [GRID, GRID], "panels": panels, "text": stimulus.text, "truth": dict(stimulus.truth)}
            writer.write_json(f"items/{name}.json", record)
            drawn.append(stimulus)
    return writer.digest, drawn


def stimulus_name(index: int) -> str:
    return f"{index:064x}"


def make_protocol_study(
    protocol: str,
    *,
    n_items: int = 6,
    overlap: int = 1,
    options: Mapping[str, Any] | None = None,
    slug: str = "",
    **fields: Any,
) -> ProtocolStudy:
    """An open study of the protocol under settings.ARTIFACT_ROOT, `overlap` slots per item, every truth known.

    In nature-origin every second item is a control; pairwise and alignment items have their other feature.
    """
    settled = PROTOCOLS[protocol].settle_options(options or {})
    slug = slug or protocol
    counts = {"n_items": n_items, "n_slots": n_items * overlap}
    study = make_draft_study(slug, protocol=protocol, protocol_options=dict(options or {}), **counts, **fields)
    features = make_features(make_dictionary(f"first {slug}"), n_items)
    others = make_features(make_dictionary(f"second {slug}"), n_items)
    digest, drawn = write_protocol_stimuli(protocol, range(n_items), settled)
    Study.objects.filter(pk=study.pk).update(state=Study.State.OPEN, stimuli_digest=digest)
    study.refresh_from_db()
    items = Item.objects.bulk_create(
        make_item(study, index, stimulus, features[index], others[index]) for index, stimulus in enumerate(drawn)
    )
    Slot.objects.bulk_create(
        Slot(study=study, item=item, lane=1 + number, random_key=7 * index)
        for index, item in enumerate(items)
        for number in range(overlap)
    )
    return ProtocolStudy(study, User.objects.get(username="rhea"), items)


def make_item(study: Study, index: int, stimulus: Stimulus, feature: Feature, other: Feature) -> Item:
    is_control = study.protocol == "nature-origin" and index % 2 == 1
    return Item(
        study=study, feature=feature, stimulus_id=stimulus_name(index), text=stimulus.text, truth=dict(stimulus.truth),
        condition=Condition.RANDOM_DIRECTIONS if is_control else Condition.REAL, variant=stimulus.variant,
        other_feature=other if study.protocol in {"pairwise", "alignment"} else None, seed=index,
    )  # fmt: skip
