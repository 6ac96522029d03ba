"""What each builder puts on the board: roles kept apart, truth right, sides and places drawn evenly, reasons given."""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.stimuli.feature_factory import (
    FIRST,
    SECOND,
    alike,
    board_of,
    images_of,
    make_feature,
    make_line,
    make_sources,
)
from workers.stimuli.building import BUILDERS, compose
from workers.stimuli.feature_images import FeatureImages
from workers.stimuli.plan import IneligibleError, PlanLine
from workers.stimuli.rendering import Board
from workers.stimuli.split import Roles, split_images

N_SEEDS = 400
FULL = make_feature()
LINES: dict[str, PlanLine] = {
    "easy": make_line("two-alternative", variant="easy"),
    "hard": make_line("two-alternative", variant="hard"),
    "graded": make_line("two-alternative", variant="graded"),
    "intruder": make_line("intruder"),
    "panel": make_line("verification"),
    "image": make_line("verification", options={"n_images": 1}),
    "part": make_line("verification", options={"part": 1, "n_parts": 2}),
    "pair": make_line("pair", other=SECOND),
    "patch-marking": make_line("patch-marking"),
}
MANY_MARKS = make_line("patch-marking", options={"n_images": 9})


def with_seed(line: PlanLine, seed: int, **fields: Any) -> PlanLine:
    return PlanLine(**(line.__dict__ | {"seed": seed} | fields))


def roles_of(found: FeatureImages) -> Roles:
    return split_images(found, seed=0, feature=f"{FIRST}")


def allowed(roles: Roles, role: str) -> set[int]:
    part = getattr(roles, role)
    return {one.image for one in part.active} | set(part.silent)


ROLE_OF_PANEL = {
    "two-alternative": {"reference": "reference", "contrast": "reference", "queries": "query"},
    "verification": {"queries": "verification"},
    "patch-marking": {"reference": "reference", "queries": "query"},
}


@pytest.mark.parametrize("name", LINES)
@given(bands=st.lists(st.integers(0, 24), min_size=4, max_size=4), n_silent=st.integers(0, 30), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_no_image_is_shown_twice_and_each_panel_keeps_to_its_role(
    name: str, bands: list[int], n_silent: int, seed: int
) -> None:
    found, line = make_feature(bands, n_silent), with_seed(LINES[name], seed)
    sources = make_sources({FIRST: found, SECOND: make_feature(first=1000)}, similarity=alike)
    try:
        shown = images_of(compose(line, sources))
    except IneligibleError:
        return  # which reasons there are is tested below
    counted = Counter(image for images in shown.values() for image in images)
    assert set(counted.values()) == {1}
    for panel, role in ROLE_OF_PANEL.get(line.builder, {}).items():
        assert set(shown.get(panel, ())) <= allowed(roles_of(found), role)


@pytest.mark.parametrize("name", LINES)
def test_a_feature_with_many_images_is_eligible_for_every_builder(name: str) -> None:
    sources = make_sources({FIRST: FULL, SECOND: make_feature(first=1000)}, similarity=alike)
    board = compose(LINES[name], sources)
    n_cells = {panel.name: len(panel.cells) for panel in board.panels}
    assert n_cells == {
        "easy": {"reference": 9, "contrast": 9, "queries": 2},
        "hard": {"reference": 9, "contrast": 9, "queries": 2},
        "graded": {"reference": 9, "contrast": 9, "queries": 2},
        "intruder": {"candidates": 5}, "panel": {"queries": 8}, "image": {"queries": 1}, "part": {"queries": 8},
        "pair": {"left": 8, "right": 8}, "patch-marking": {"reference": 8, "queries": 4},
    }[name]  # fmt: skip


def is_even(counts: Counter[Any], n_kinds: int) -> bool:
    """Chi-square below its 99.9th percentile, for up to 5 kinds."""
    expected = counts.total() / n_kinds
    return len(counts) == n_kinds and sum((n - expected) ** 2 / expected for n in counts.values()) < 18.5


def test_the_right_query_stands_on_either_side_as_often() -> None:
    active = {one.image for one in FULL.active}
    sides: Counter[int] = Counter()
    for seed in range(N_SEEDS):
        board = board_of(with_seed(LINES["easy"], seed), FULL)
        queries = images_of(board)["queries"]
        assert [image in active for image in queries].index(True) == board.truth["query"]
        sides[board.truth["query"]] += 1
    assert is_even(sides, 2)


def test_the_hard_query_is_the_silent_image_most_like_the_right_one() -> None:
    board = board_of(LINES["hard"], FULL)
    queries, truth = images_of(board)["queries"], board.truth["query"]
    right, wrong = queries[truth], queries[1 - truth]
    among = {image: alike(right, image) for image in roles_of(FULL).query.silent}
    assert wrong == max(among, key=among.__getitem__)
    assert board.truth["similarity"] == pytest.approx(among[wrong], abs=1e-4)


def test_graded_queries_are_a_strong_and_a_middling_image() -> None:
    for seed in range(20):
        board = board_of(with_seed(LINES["graded"], seed), FULL)
        band = {one.image: one.band for one in FULL.active}
        queries, truth = images_of(board)["queries"], board.truth["query"]
        assert (band[queries[truth]], band[queries[1 - truth]]) == (0, 2)
        assert board.truth["values"][0] > 2 * board.truth["values"][1]


def test_without_references_the_same_queries_are_asked() -> None:
    line = with_seed(LINES["hard"], 5, options={"contrast": "hard"})
    shown = board_of(line, FULL)
    alone = board_of(with_seed(line, 5, variant="no-reference"), FULL)
    assert images_of(alone) == {"queries": images_of(shown)["queries"]}
    assert alone.truth == shown.truth


def test_a_catch_item_asks_about_one_of_its_references() -> None:
    line = with_seed(LINES["easy"], 3, options={"repeat_reference": True, "contrast": "easy"})
    board = board_of(line, FULL)
    shown = images_of(board)
    assert shown["queries"][board.truth["query"]] in shown["reference"]


def test_only_references_have_maps_and_strengths() -> None:
    for name, with_maps in (("easy", {"reference"}), ("patch-marking", {"reference"}), ("intruder", set())):
        board = board_of(LINES[name], FULL)
        for panel in board.panels:
            has = {cell.map is not None and cell.value is not None for cell in panel.cells}
            hidden = {cell.map is None and cell.value is None for cell in panel.cells}
            assert (has, hidden) == (({True}, {False}) if panel.name in with_maps else ({False}, {True}))


def test_the_intruder_is_silent_and_stands_at_every_place_as_often() -> None:
    places: Counter[int] = Counter()
    bands: Counter[int] = Counter()
    band_of = {one.image: one.band for one in FULL.active}
    for seed in range(N_SEEDS):
        board = board_of(with_seed(LINES["intruder"], seed), FULL)
        images, place = images_of(board)["candidates"], board.truth["intruder"]
        assert [index for index, image in enumerate(images) if image in FULL.silent] == [place]
        assert {band_of[image] for image in images if image in band_of} == {board.truth["range"]}
        places[place] += 1
        bands[board.truth["range"]] += 1
    assert is_even(places, 5)
    assert is_even(bands, 4)


def test_the_box_of_the_intruder_lies_where_boxes_lie() -> None:
    """Exchangeable: at every place of the picture as often as the others' boxes, within chance."""
    found = make_feature((16, 0, 0, 0))
    own: Counter[int | None] = Counter()
    others: Counter[int | None] = Counter()
    for seed in range(4 * N_SEEDS):
        board = board_of(with_seed(LINES["intruder"], seed), found)
        for index, cell in enumerate(board.panels[0].cells):
            (own if index == board.truth["intruder"] else others)[cell.patch] += 1
    places = sorted({one.patch for one in found.active})
    expected = [others[place] / 4 for place in places]
    chi_square = sum((own[place] - n) ** 2 / n for place, n in zip(places, expected, strict=True))
    assert set(own) == set(places)
    assert chi_square < 1.25 * 37.7  # the 99.9th percentile for 15 degrees of freedom; the expectation varies too


def test_a_panel_of_eight_is_half_active_over_all_ranges_a_quarter_random_a_quarter_hard() -> None:
    board = board_of(LINES["panel"], FULL)
    truth, images = board.truth, images_of(board)["queries"]
    assert Counter(truth["kinds"]) == {"active": 4, "random": 2, "hard": 2}
    assert sorted(band for band in truth["ranges"] if band is not None) == [0, 1, 2, 3]
    active = {one.image for one in FULL.active}
    assert truth["matches"] == [image in active for image in images]
    assert [kind == "hard" for kind in truth["kinds"]] == [one is not None for one in truth["similarities"]]


def test_hard_images_of_a_panel_are_those_most_like_its_activating_ones() -> None:
    board = board_of(LINES["panel"], FULL)
    images, kinds = images_of(board)["queries"], board.truth["kinds"]
    active = [image for image, kind in zip(images, kinds, strict=True) if kind == "active"]
    hard = {image for image, kind in zip(images, kinds, strict=True) if kind == "hard"}
    silent = roles_of(FULL).verification.silent
    nearest_to_some = {max(silent, key=lambda other, one=one: alike(one, other)) for one in active}  # type: ignore[misc]
    assert hard & nearest_to_some


@pytest.mark.parametrize(
    ("found", "n_shared"), [(make_feature((32, 8, 8, 8), 48), 0), (FULL, 3), (make_feature((16, 0, 0, 0), 16), 8)]
)
def test_two_items_of_a_feature_share_as_few_images_as_can_be(found: FeatureImages, n_shared: int) -> None:
    """FULL keeps 7 activating and 6 silent images for verification: 3 of twice 8 come again; the last, 4 of each."""
    for seed in range(20):
        shown = [
            images_of(board_of(with_seed(LINES["panel"], 2 * seed + part, options={"part": part, "n_parts": 2}), found))
            for part in range(2)
        ]
        assert len(set(shown[0]["queries"]) & set(shown[1]["queries"])) == n_shared


def test_a_part_of_the_images_differs_from_another_only_by_chance() -> None:
    found = make_feature((32, 8, 8, 8), 48)
    strengths: list[list[float]] = [[], []]
    likeness: list[list[float]] = [[], []]
    values = {one.image: one.value for one in found.active}
    for latent in range(N_SEEDS):
        feature = FIRST._replace(latent=latent)
        sources = make_sources({feature: found}, similarity=alike)
        for part in range(2):
            options = {"part": part, "n_parts": 2}
            board = compose(with_seed(LINES["panel"], latent, feature=feature, options=options), sources)
            strengths[part] += [values[image] for image in images_of(board)["queries"] if image in values]
            likeness[part] += [one for one in board.truth["similarities"] if one is not None]
    for first, second in (strengths, likeness):
        error = (np.var(first) / len(first) + np.var(second) / len(second)) ** 0.5
        assert abs(np.mean(first) - np.mean(second)) < 3 * error


def test_one_part_is_all_the_images() -> None:
    for seed in range(20):
        alone = board_of(with_seed(LINES["panel"], seed, options={"part": 0, "n_parts": 1}), FULL)
        assert images_of(alone) == images_of(board_of(with_seed(LINES["panel"], seed), FULL))


def test_without_embeddings_a_panel_has_random_negatives_only() -> None:
    board = compose(LINES["panel"], make_sources({FIRST: FULL}))
    assert Counter(board.truth["kinds"]) == {"active": 4, "random": 4}


def test_single_images_have_the_shares_of_a_panel() -> None:
    kinds = Counter(board_of(with_seed(LINES["image"], seed), FULL).truth["kinds"][0] for seed in range(N_SEEDS))
    assert kinds["active"] == pytest.approx(N_SEEDS / 2, abs=40)
    assert kinds["random"] == pytest.approx(N_SEEDS / 4, abs=35)
    assert kinds["hard"] == pytest.approx(N_SEEDS / 4, abs=35)


def test_a_match_stands_at_every_place_of_the_panel_as_often() -> None:
    places: Counter[int] = Counter()
    for seed in range(N_SEEDS):
        matches = board_of(with_seed(LINES["panel"], seed), FULL).truth["matches"]
        places.update(index for index, is_match in enumerate(matches) if is_match)
    assert all(n == pytest.approx(N_SEEDS / 2, abs=40) for n in places.values())
    assert len(places) == 8


def test_either_feature_of_a_pair_stands_left_as_often() -> None:
    other = make_feature(first=1000)
    sources = make_sources({FIRST: FULL, SECOND: other})
    sides: Counter[str] = Counter()
    for seed in range(N_SEEDS):
        board = compose(with_seed(LINES["pair"], seed), sources)
        is_first = images_of(board)["left"][0] < 1000
        assert board.truth["left"] == ("feature" if is_first else "other")
        sides[board.truth["left"]] += 1
    assert is_even(sides, 2)


def test_marks_are_judged_by_the_maps_of_the_images_in_their_order() -> None:
    board = board_of(LINES["patch-marking"], FULL)
    by_image = {one.image: one for one in FULL.active}
    shown = [by_image[image] for image in images_of(board)["queries"]]
    assert [base64.b64decode(one) for one in board.truth["maps"]] == [one.map.tobytes() for one in shown]
    assert board.truth["ranges"] == [one.band for one in shown]
    assert sorted(board.truth["ranges"]) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["easy", "patch-marking", "pair"])
def test_a_control_shows_the_patch_counts_and_strengths_of_the_feature_it_is_matched_to(name: str) -> None:
    """The matched feature alone decides: more patches on the control's maps change neither."""
    matched, other = make_feature(n_patches=3, first=1000), make_feature(first=3000)
    third = SECOND._replace(latent=2)
    sources = make_sources({FIRST: make_feature(n_patches=9), SECOND: matched, third: other})
    control = compose(with_seed(LINES[name], 0, matched=SECOND, other=third), sources)
    real = compose(with_seed(LINES[name], 0, feature=SECOND, matched=SECOND, other=third), sources)
    for cut, model in zip(control.panels, real.panels, strict=True):
        assert counts_of(cut) == counts_of(model)
        assert [cell.value for cell in cut.cells] == [cell.value for cell in model.cells]
        assert len(cut.cells) == len(model.cells)


def counts_of(panel: Any) -> list[int | None]:
    return [None if cell.map is None else int(np.count_nonzero(cell.map)) for cell in panel.cells]


WITHOUT_CONTRAST = make_feature(n_silent=0)
REASONS: list[tuple[str, FeatureImages, str]] = [
    ("easy", make_feature((12, 0, 0, 0)), "has 6 activating images for its references; 9 are needed"),
    ("easy", WITHOUT_CONTRAST, "about as strong on every image"),
    ("easy", make_feature(n_silent=6), "has 3 contrast images for its references; 4 are needed"),
    ("graded", make_feature((24, 0, 0, 0)), "no image of middling strength"),
    ("intruder", WITHOUT_CONTRAST, "about as strong on every image"),
    ("intruder", make_feature((3, 3, 3, 3)), "No range of strength has 4 activating images; 3 is the most"),
    ("intruder", make_feature((4, 0, 0, 0)), "The feature has 4 activating images; 5 are needed"),
    ("panel", make_feature((4, 0, 0, 0)), "has 1 activating image kept for verification; 4 are needed"),
    ("panel", make_feature((8, 0, 0, 0)), "has 2 activating images kept for verification; 4 are needed"),
    ("panel", make_feature(n_silent=8), "has 2 contrast images kept for verification; 4 are needed"),
    ("patch-marking", make_feature((14, 0, 0, 0)), "has 7 activating images for its references; 8 are needed"),
    ("many marks", FULL, "has 7 activating images to mark; 9 are needed"),
    ("pair", make_feature((8, 0, 0, 0)), "has 4 activating images for its references; 8 are needed"),
]


@pytest.mark.parametrize(("name", "found", "reason"), REASONS)
def test_what_cannot_be_built_says_why(name: str, found: FeatureImages, reason: str) -> None:
    sources = make_sources({FIRST: found, SECOND: make_feature(first=1000)}, similarity=alike)
    with pytest.raises(IneligibleError, match=reason):
        compose((LINES | {"many marks": MANY_MARKS})[name], sources)


def test_hard_contrasts_need_embeddings() -> None:
    with pytest.raises(IneligibleError, match="run embed-images"):
        compose(LINES["hard"], make_sources({FIRST: FULL}))


def test_a_pair_needs_a_second_feature_with_images() -> None:
    with pytest.raises(IneligibleError, match="names no second feature"):
        compose(make_line("pair"), make_sources({FIRST: FULL}))
    few = make_sources({FIRST: FULL, SECOND: make_feature((4, 0, 0, 0), first=1000)})
    with pytest.raises(IneligibleError, match="second feature has 2 activating images"):
        compose(LINES["pair"], few)


def test_an_unknown_builder_or_contrast_is_refused() -> None:
    with pytest.raises(ValueError, match="'occlusion'; there are sheet, two-alternative"):
        compose(make_line("occlusion"), make_sources({FIRST: FULL}))
    with pytest.raises(ValueError, match="contrast 'medium' is unknown"):
        board_of(make_line("two-alternative", variant="medium"), FULL)


def test_what_the_plan_knows_goes_into_the_truth() -> None:
    board = board_of(with_seed(LINES["intruder"], 1, truth={"mcs": 0.5}), FULL)
    assert set(board.truth) == {"mcs", "intruder", "range"}
    assert isinstance(board, Board)
    assert set(BUILDERS) == {"sheet", "two-alternative", "intruder", "verification", "pair", "patch-marking"}
