"""Panels of every builder in the sprite: cells where the record says, boxes on their patch, nothing else given away."""

from __future__ import annotations

import io
from itertools import combinations
from typing import Any

import pytest
from PIL import Image

from tests.workers.stimuli.feature_factory import FIRST, GEOMETRY, SECOND, alike, make_feature, make_sources, picture
from tests.workers.stimuli.test_builders import FULL, LINES, with_seed
from workers.stimuli.building import build_stimulus
from workers.stimuli.geometry import patch_box
from workers.stimuli.rendering import Stimulus

CELL = {"x", "y", "w", "h", "zoom", "image_index"}
MAPPED = CELL | {"map", "value"}


def build(name: str, **fields: Any) -> Stimulus:
    sources = make_sources({FIRST: FULL, SECOND: make_feature(first=100)}, similarity=alike)
    return build_stimulus(with_seed(LINES[name], 0, **fields), sources=sources, load=picture, geometry=GEOMETRY)


@pytest.mark.parametrize("name", LINES)
def test_every_cell_shows_its_image_where_the_record_says(name: str) -> None:
    stimulus = build(name)
    sprite, zoom = (Image.open(io.BytesIO(part)).convert("RGB") for part in (stimulus.sprite, stimulus.zoom))
    boxes = []
    for panel in stimulus.record["panels"]:
        for cell in panel["cells"]:
            for sheet, (x, y, w, h) in ((sprite, place_of(cell)), (zoom, cell["zoom"])):
                red, green, blue = sheet.getpixel((x + w // 8, y + h * 7 // 8))  # type: ignore[misc]
                assert (red, green, blue) == pytest.approx((180, 0, cell["image_index"]), abs=14)
            boxes.append(place_of(cell))
    for one, other in combinations(boxes, 2):
        assert one[0] + one[2] <= other[0] or other[0] + other[2] <= one[0] or one[1] + one[3] <= other[1]


def place_of(cell: dict[str, Any]) -> tuple[int, int, int, int]:
    return cell["x"], cell["y"], cell["w"], cell["h"]


@pytest.mark.parametrize(
    ("name", "panels"),
    [
        ("easy", {"reference": MAPPED, "contrast": CELL, "queries": CELL}),
        ("intruder", {"candidates": CELL | {"box", "patch_index"}}),
        ("panel", {"queries": CELL}),
        ("pair", {"left": MAPPED, "right": MAPPED}),
        ("patch-marking", {"reference": MAPPED, "queries": CELL}),
    ],
)
def test_the_record_of_a_cell_holds_what_its_panel_shows(name: str, panels: dict[str, set[str]]) -> None:
    record = build(name).record
    assert set(record) == {"grid", "panels", "text", "truth"}
    for panel in record["panels"]:
        assert (panel["kind"], {frozenset(cell) for cell in panel["cells"]}) == (
            "images",
            {frozenset(panels[panel["name"]])},
        )
    assert [panel["name"] for panel in record["panels"]] == list(panels)


def test_the_sentence_shown_is_that_of_the_plan() -> None:
    assert build("panel", text="Red wheels.").record["text"] == "Red wheels."


@pytest.mark.parametrize("pixels", [160, 212, 321])
def test_boxes_of_all_patches_tile_the_cell(pixels: int) -> None:
    boxes = [patch_box(GEOMETRY.grid, patch, pixels) for patch in range(16)]
    assert sum(w * h for _, _, w, h in boxes) == pixels**2
    assert boxes[0][:2] == [0, 0]
    assert (boxes[15][0] + boxes[15][2], boxes[15][1] + boxes[15][3]) == (pixels, pixels)


def test_a_box_lies_on_its_patch() -> None:
    stimulus = build("intruder")
    sprite = Image.open(io.BytesIO(stimulus.sprite)).convert("RGB")
    for cell in stimulus.record["panels"][0]["cells"]:
        x, y, w, h = cell["box"]
        red, green, _ = sprite.getpixel((cell["x"] + x + w // 2, cell["y"] + y + h // 2))  # type: ignore[misc]
        assert (round(red / 60), round(green / 60)) == divmod(cell["patch_index"], 4)
