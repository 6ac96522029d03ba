"""Crops, sheets, cut maps and sprites, by hand on small pictures."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workers.stimuli.building import build_stimulus
from workers.stimuli.feature_images import FeatureImages
from workers.stimuli.geometry import Geometry, crop_patch, patch_window, working_copy
from workers.stimuli.matching import with_values_of
from workers.stimuli.plan import FeatureKey, IneligibleError, PlanLine, SheetCell
from workers.stimuli.sheets import ImagePlace, PatchPlace, Sheet, read_sheet
from workers.stimuli.sources import Sources
from workers.stimuli.split import Roles

GEOMETRY = Geometry(size=64, crop_mode="center", crop_pct=1.0, grid=(4, 4))


def picture(index: int, side: int = 64) -> Image.Image:
    """One color per patch of a 4 by 4 grid: red counts rows, green counts columns, blue is the image."""
    pixels = np.zeros((side, side, 3), np.uint8)
    steps = np.arange(side) * 4 // side * 60
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = steps[:, None], steps[None, :], index * 10
    return Image.fromarray(pixels)


def sheet(first_image: int, n: int = 16) -> Sheet:
    maps = [np.zeros(16, np.uint8) for _ in range(n)]
    for index, one in enumerate(maps):
        one[: 1 + index % 5] = 255 - index
    patches = [PatchPlace(first_image + index % 4, index) for index in range(n)]
    return Sheet(patches, [ImagePlace(first_image + i % 4, one, 1 - i / 20) for i, one in enumerate(maps)])


def plan(latent: int = 0, *, matched: int | None = None) -> PlanLine:
    return line([SheetCell((0, latent, place), (0, latent, place)) for place in range(16)], latent, matched)


def line(cells: list[SheetCell], latent: int = 0, matched: int | None = None) -> PlanLine:
    model = FeatureKey(0, latent if matched is None else matched)
    return PlanLine(0, "sheet", FeatureKey(0, latent), model, cells={"patches": cells, "images": cells})


def build(one: PlanLine, sheets: dict[int, Sheet]) -> Any:
    nothing = FeatureImages([], [])
    sources = Sources(lambda _, latent: sheets[latent], lambda _: nothing, lambda _: Roles(nothing, nothing, nothing))
    return build_stimulus(one, sources=sources, load=picture, geometry=GEOMETRY)


def cells(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return next(panel["cells"] for panel in record["panels"] if panel["name"] == name)


def test_a_center_crop_is_what_the_model_sees() -> None:
    geometry = Geometry.of({"size": 224, "crop_mode": "center", "crop_pct": 0.875}, [14, 14])
    assert geometry.seen(512, 256) == (144.0, 16.0, 368.0, 240.0)


def test_a_squashed_image_is_seen_whole() -> None:
    assert Geometry.of({"size": 64, "crop_mode": "squash"}, [8, 8]).seen(300, 100) == (0, 0, 300, 100)


def test_an_unknown_crop_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="'border'"):
        Geometry.of({"size": 64, "crop_mode": "border"}, [8, 8])


@pytest.mark.parametrize(("patch", "window"), [(0, (0, 0, 3)), (5, (0, 0, 3)), (10, (1, 1, 3)), (15, (1, 1, 3))])
def test_the_surroundings_stay_inside_the_image(patch: int, window: tuple[int, int, int]) -> None:
    assert patch_window(GEOMETRY.grid, patch) == window


@pytest.mark.parametrize("patch", range(16))
def test_the_box_holds_the_patch_itself(patch: int) -> None:
    crop, (x, y, w, h) = crop_patch(picture(0), GEOMETRY, patch, 96)
    red, green, _ = crop.getpixel((x + w // 2, y + h // 2))  # type: ignore[misc]
    assert (crop.size, w, h) == ((96, 96), 32, 32)
    assert (round(red / 60), round(green / 60)) == divmod(patch, 4)


def test_a_map_takes_the_heat_of_the_map_it_is_matched_to_in_its_own_order() -> None:
    patch_map = np.array([9, 3, 255, 0, 200], np.uint8)
    assert with_values_of(patch_map, np.array([7, 0, 0, 40, 0], np.uint8)).tolist() == [0, 0, 40, 0, 7]
    assert with_values_of(patch_map, np.zeros(5, np.uint8)).tolist() == [0] * 5
    assert with_values_of(patch_map, np.array([1, 2, 3, 4, 5], np.uint8)).tolist() == [3, 2, 5, 0, 4]
    assert with_values_of(patch_map, patch_map).tolist() == patch_map.tolist()


def test_maps_are_cut_to_the_counts_of_the_matched_feature() -> None:
    wide = Sheet(sheet(0).patches, [place._replace(map=np.arange(1, 17).astype(np.uint8)) for place in sheet(0).images])
    record = build(plan(0, matched=1), {0: wide, 1: sheet(0)}).record
    counts = [sum(value > 0 for value in base64.b64decode(cell["map"])) for cell in cells(record, "images")]
    assert counts == [1 + index % 5 for index in range(16)]


def test_the_strength_shown_is_the_matched_features() -> None:
    sheets = {0: sheet(0), 1: Sheet(sheet(4).patches, [place._replace(value=0.9) for place in sheet(4).images])}
    control = cells(build(plan(1, matched=0), sheets).record, "images")
    assert [cell["value"] for cell in control] == [round(1 - i / 20, 3) for i in range(16)]


def test_there_are_no_more_cells_than_on_the_matched_sheet() -> None:
    record = build(plan(0, matched=1), {0: sheet(0), 1: sheet(0, n=9)}).record
    assert (len(cells(record, "patches")), len(cells(record, "images"))) == (9, 9)


def test_places_that_a_sheet_lacks_are_left_out() -> None:
    record = build(plan(), {0: sheet(0, n=5)}).record
    assert (len(cells(record, "patches")), len(cells(record, "images"))) == (5, 5)


def test_a_feature_that_never_fires_has_no_sheet() -> None:
    with pytest.raises(IneligibleError, match="No image activates"):
        build(plan(), {0: Sheet([], [])})


def test_a_cell_can_take_its_map_from_another_sheet() -> None:
    cell = SheetCell((0, 0, 2), (0, 1, 4))
    record = build(line([cell]), {0: sheet(0), 1: sheet(100)}).record
    assert cells(record, "patches")[0]["patch_index"] == 4
    assert (cells(record, "patches")[0]["image_index"], cells(record, "images")[0]["image_index"]) == (2, 2)
    assert cells(record, "images")[0]["value"] == 1.0  # the matched feature's strength


def test_the_sprite_holds_every_cell_where_the_record_says() -> None:
    stimulus = build(plan(), {0: sheet(0)})
    sprite = Image.open(io.BytesIO(stimulus.sprite)).convert("RGB")
    zoom = Image.open(io.BytesIO(stimulus.zoom)).convert("RGB")
    for cell in cells(stimulus.record, "images"):
        x, y, w, h = cell["zoom"]
        for sheet_picture, point in ((sprite, (cell["x"] + 20, cell["y"] + 150)), (zoom, (x + w // 8, y + h * 7 // 8))):
            red, green, blue = sheet_picture.getpixel(point)  # type: ignore[misc]
            assert red == pytest.approx(180, abs=14)
            assert green == pytest.approx(0, abs=14)
            assert blue == pytest.approx(10 * cell["image_index"], abs=14)
    shown = cells(stimulus.record, "images") + cells(stimulus.record, "patches")
    corners = {(cell["x"], cell["y"]) for cell in shown}
    assert len(corners) == 32
    assert max(cell["y"] + cell["h"] for cell in shown) == sprite.height


def test_the_id_is_the_content() -> None:
    first, again = build(plan(), {0: sheet(0)}), build(plan(), {0: sheet(0)})
    other = build(plan(), {0: sheet(1)})
    assert first == again
    assert first.id != other.id


def tensors(values: dict[str, Any]) -> Any:
    return lambda name, latent: values[name]


def exemplar_rows(n_top: int = 16, n_range: int = 4, n_ranges: int = 4) -> dict[str, Any]:
    top = np.arange(24)
    ranges = np.arange(16).reshape(4, 4) + 100
    missing = (np.arange(4) >= n_range)[None] | (np.arange(4) >= n_ranges)[:, None]
    return {
        "maximum": np.float32(8),
        "top_image": np.where(top < n_top, top, -1), "top_value": 8 - top / 4, "top_patch": top % 5 - 1,
        "top_map": np.where(np.arange(16) == 3, 255, 200).astype(np.uint8)[None].repeat(24, axis=0),
        "range_image": np.where(missing, -1, ranges), "range_value": 4 - ranges / 100.0,
        "range_patch": ranges % 5, "range_map": np.full((4, 4, 16), 100, np.uint8),
    }  # fmt: skip


def test_a_sheet_has_patches_top_images_and_lower_images() -> None:
    found = read_sheet(tensors(exemplar_rows()), 0)
    assert [patch.image for patch in found.patches] == list(range(16))
    assert [found.patches[i].patch for i in (0, 5, 10, 15)] == [3, 3, 3, 3]  # on CLS: the strongest patch stands in
    assert [found.patches[i].patch for i in (1, 2, 3, 4)] == [0, 1, 2, 3]
    assert [place.image for place in found.images] == [*range(8), 104, 105, 106, 108, 109, 110, 112, 113]
    assert found.images[0].value == 1.0
    assert [place.value for place in found.images] == sorted((p.value for p in found.images), reverse=True)


def dark(rows: dict[str, Any], top: list[int], ranges: list[tuple[int, int]]) -> dict[str, Any]:
    """The rows with these images active on prefix tokens alone."""
    rows["top_map"][top] = 0
    rows["top_patch"][top] = -1
    for band, place in ranges:
        rows["range_map"][band, place], rows["range_patch"][band, place] = 0, -1
    return rows


def test_an_image_on_which_nothing_lights_up_gives_way_to_one_with_a_patch() -> None:
    found = read_sheet(tensors(dark(exemplar_rows(n_top=24), [2, 5], [(1, 0), (3, 1)])), 0)
    lit = [0, 1, 3, 4, 6, 7, 8, 9]
    assert [place.image for place in found.images] == [*lit, 105, 106, 107, 108, 109, 110, 112, 114]
    assert [patch.image for patch in found.patches] == [*lit, *range(10, 18)]


def test_a_feature_of_prefix_tokens_keeps_its_images_though_nothing_lights_up() -> None:
    found = read_sheet(tensors(dark(exemplar_rows(), list(range(7, 24)), [(1, 0)])), 0)
    assert [place.image for place in found.images] == [*range(8), 104, 105, 106, 108, 109, 110, 112, 113]
    assert [patch.image for patch in found.patches] == list(range(7))


def test_what_the_lower_ranges_lack_stronger_images_give() -> None:
    found = read_sheet(tensors(exemplar_rows(n_range=1)), 0)
    assert sorted(place.image for place in found.images) == [*range(8), 8, 9, 10, 11, 100, 104, 108, 112]


def test_a_feature_that_fades_less_shows_no_more_images_twice() -> None:
    fading, steady = (read_sheet(tensors(exemplar_rows(n_top=24, n_ranges=n)), 0) for n in (4, 1))
    assert sorted(place.image for place in steady.images) == [*range(8), 16, 17, 18, 19, *range(100, 104)]
    shared = [len({p.image for p in one.images} & {p.image for p in one.patches}) for one in (fading, steady)]
    assert shared == [8, 8]


def test_a_latent_with_few_images_has_a_short_sheet() -> None:
    found = read_sheet(tensors(exemplar_rows(n_top=3, n_range=0)), 0)
    assert ([place.image for place in found.images], [p.image for p in found.patches]) == ([0, 1, 2], [0, 1, 2])


def test_large_images_are_kept_small() -> None:
    assert working_copy(Image.new("RGB", (1600, 1280))).size == (800, 640)
    assert working_copy(Image.new("RGB", (300, 200))).size == (300, 200)
