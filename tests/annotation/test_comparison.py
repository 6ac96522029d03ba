"""Dictionaries side by side: what the table holds and how it is sorted, the plots, the exports, who may see it."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from annotation.domain.comparison import Comparison, alignments_between, evaluations_under_way, pairs_to_align
from annotation.domain.counterparts import hookpoints_compared
from annotation.domain.dictionary_measures import BY_KEY, MEASURES
from annotation.models import Dictionary, ImageSet, Role, Run
from annotation.views.comparison_plots import N_COLORS, curve_by_block, density_plot, marker, variance_against_l0
from annotation.views.heat_maps import cividis, heat_map
from tests.factories import make_dictionary, make_person
from tests.quality_factory import cross_layer_facts, make_alignment, make_evaluated, side

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("artifact_root")]
PAGE = "/dictionaries/compare/"
ADDRESSES = (PAGE, "/dictionaries/compare.csv", "/dictionaries/compare.json")


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_person("ruth", Role.RESEARCHER))
    return client


@pytest.fixture
def two() -> list[Dictionary]:
    return [make_evaluated("good", 0.9), make_evaluated("poor", 0.5)]


def asking(*dictionaries: Dictionary, **more: str) -> dict[str, Any]:
    return {"d": [one.pk for one in dictionaries], **more}


def rows_shown(client: Client, query: dict[str, Any]) -> list[tuple[str, str]]:
    lines = client.get(PAGE, query).context["lines"]
    return [(line.row.dictionary.name, line.row.hookpoint) for line in lines]


def test_a_row_per_dictionary_and_hookpoint_and_one_for_all_together(client: Client, two: list[Dictionary]) -> None:
    assert rows_shown(client, asking(*two)) == [
        ("good", "blocks.0"), ("good", "blocks.1"), ("good", "all together"), ("poor", "blocks.0"),
        ("poor", "blocks.1"), ("poor", "all together"),
    ]  # fmt: skip
    first, second, together, *_ = Comparison(two).rows
    assert first.values["explained"] == 0.9
    assert second.values["explained"] == pytest.approx(0.85)
    assert first.values["dead"] == 4 / 64
    assert (first.values["l0"], first.values["l0_contributing"]) == (16.0, 12.5)
    assert first.values["splice_kl"] == pytest.approx(0.9)
    assert together.values["splice_kl"] == pytest.approx(0.88)
    assert together.values["explained"] is None
    assert Comparison(two, "mean").rows[0].values["splice_kl"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("order", "first"),
    [("-explained", ("good", "blocks.0")), ("explained", ("poor", "blocks.1")), ("-name", ("poor", "blocks.0")),
     ("hookpoint", ("good", "blocks.0")), ("-hookpoint", ("good", "all together")), ("nonsense", ("good", "blocks.0"))],
)  # fmt: skip
def test_any_column_sorts_the_table(order: str, first: tuple[str, str], client: Client, two: list[Dictionary]) -> None:
    assert rows_shown(client, asking(*two, sort=order))[0] == first


@pytest.mark.parametrize("order", ["explained", "-explained"])
def test_what_was_not_measured_comes_last_in_both_orders(order: str, two: list[Dictionary]) -> None:
    hookpoints = [row.hookpoint for row in Comparison(two).sorted_rows(order)]
    assert hookpoints[-2:] == ["all together"] * 2


def test_the_headings_say_how_the_table_is_sorted_and_turn_it(client: Client, two: list[Dictionary]) -> None:
    page = client.get(PAGE, asking(*two, sort="-explained", baseline="mean"))
    headings = {one.name: one for one in page.context["headings"]}
    assert (headings["Explained variance"].sorted, headings["L0"].sorted) == ("descending", "")
    pks = "&".join(f"d={one.pk}" for one in two)
    assert headings["Explained variance"].address == f"?{pks}&baseline=mean&sort=explained"
    assert headings["L0"].address == f"?{pks}&baseline=mean&sort=-l0"
    assert headings["Dictionary"].address == f"?{pks}&baseline=mean&sort=name"
    assert page.content.decode().count('aria-sort="descending"') == 1


def test_the_csv_has_every_measure_of_every_row(client: Client, two: list[Dictionary]) -> None:
    Dictionary.objects.filter(pk=two[1].pk).update(name="=HYPERLINK(1)")
    answer = client.get("/dictionaries/compare.csv", asking(*two, sort="-explained"))
    assert answer["Content-Disposition"] == 'attachment; filename="dictionaries.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert len(rows) == 6
    assert set(BY_KEY) < set(rows[0])
    assert (rows[0]["dictionary"], rows[0]["hookpoint"], float(rows[0]["explained"])) == ("good", "blocks.0", 0.9)
    assert (rows[0]["image_set"], rows[0]["splice_baseline"]) == ("discs", "zero")
    assert rows[-1]["explained"] == ""
    assert "'=HYPERLINK(1)" in {row["dictionary"] for row in rows}


def test_the_json_has_the_artefacts_and_the_alignments(client: Client, two: list[Dictionary]) -> None:
    make_alignment(*two)
    answer = client.get("/dictionaries/compare.json", asking(*two))
    found = json.loads(answer.content)
    assert [one["name"] for one in found["dictionaries"]] == ["good", "poor"]
    assert found["dictionaries"][0]["hookpoints"] == two[0].quality
    assert found["dictionaries"][0]["evaluation"]["n_images"] == 20
    assert found["alignments"][0]["first"] == two[0].digest
    assert found["alignments"][0]["first_in_second"][0]["null_99"] == 0.45
    assert set(found["measures"]) == {one.key for one in MEASURES}


def test_every_figure_is_explained_in_a_line() -> None:
    assert all(one.meaning.endswith(".") and len(one.meaning) > 30 for one in MEASURES)
    assert len(BY_KEY) == len(MEASURES)


@pytest.mark.parametrize(
    ("role", "status"), [(None, 302), (Role.ANNOTATOR, 403), (Role.REVIEWER, 403), (Role.RESEARCHER, 200)]
)
def test_only_researchers_compare(role: Role | None, status: int, two: list[Dictionary]) -> None:
    client = Client()
    if role:
        client.force_login(make_person(f"{role}-one", role))
    assert [client.get(address, asking(*two)).status_code for address in ADDRESSES] == [status] * 3


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_dictionary_that_is_not_there_to_see_is_not_found(
    address: str, client: Client, two: list[Dictionary]
) -> None:
    for wrong in ("9999", "x", "-1", "9" * 30):
        query: dict[str, Any] = {"d": [two[0].pk, wrong]}
        assert client.get(address, query).status_code == 404
    ImageSet.objects.update(visibility="team")
    assert client.get(address, asking(*two)).status_code == 404
    assert client.post(address).status_code == 405


@pytest.mark.parametrize(("wrong", "sentence"), [("abc", "named by its number"), ("9999", "is not there, or you may")])
def test_the_page_says_what_is_wrong_with_the_address_and_offers_the_choice(
    wrong: str, sentence: str, client: Client, two: list[Dictionary]
) -> None:
    query: dict[str, Any] = {"d": [two[0].pk, wrong]}
    page = client.get(PAGE, query).content.decode()
    assert sentence in page
    assert '<details class="chooser" open>' in page
    assert "Nothing chosen yet" not in page


def test_nothing_chosen_and_nothing_there_say_what_to_do(client: Client) -> None:
    assert "stage=train-dictionary" in client.get(PAGE).content.decode()
    make_dictionary("bare")
    page = client.get(PAGE).content.decode()
    assert "Nothing chosen yet" in page
    assert '<details class="chooser" open>' in page
    assert client.get("/dictionaries/compare.csv").content.decode().count("\n") == 1


def test_a_dictionary_that_was_not_evaluated_offers_to_be(client: Client, two: list[Dictionary]) -> None:
    bare = make_dictionary("bare")
    page = client.get(PAGE, asking(two[0], bare)).content.decode()
    image_set = bare.image_set.digest
    assert f"stage=evaluate-dictionary&amp;dictionary={bare.digest}&amp;image_set={image_set}" in page
    alone = client.get(PAGE, asking(bare)).content.decode()
    assert "None of these dictionaries was evaluated" in alone
    run = Run.objects.create(
        stage="evaluate-dictionary", queue="gpu", config={"dictionary": bare.digest, "image_set": image_set}
    )
    assert evaluations_under_way([bare, *two]) == {bare.digest: run}
    waiting = client.get(PAGE, asking(two[0], bare)).content.decode()
    assert f'<a href="/runs/{run.pk}/">being evaluated</a>' in waiting


def test_figures_of_an_earlier_version_stand_with_what_they_have(client: Client) -> None:
    old = make_dictionary("old")
    Dictionary.objects.filter(pk=old.pk).update(
        quality={"blocks.0": {"explained_variance": {"all": 0.7}, "l0": 8.0, "n_latents": 32, "n_dead": 0}},
        quality_digest="f" * 64,
    )
    page = client.get(PAGE, asking(old))
    [line] = page.context["lines"]
    assert line.cells == ["32", "0.700", "8", "0 %"]
    assert "no splice measured" in page.content.decode()
    assert "There is no artefact ffffffffffff" in page.content.decode()


def test_figures_of_different_images_are_said_not_to_compare(client: Client, two: list[Dictionary]) -> None:
    other = ImageSet.objects.create(name="squares", digest="7" * 64, n_images=3)
    third = make_evaluated("elsewhere", image_set=other.digest)
    assert "2 different image sets" in client.get(PAGE, asking(two[0], third)).content.decode()
    assert "different image sets" not in client.get(PAGE, asking(*two)).content.decode()


def test_twenty_dictionaries_are_compared_and_more_are_said_to_be_left_out(client: Client) -> None:
    many = [make_evaluated(f"sae {number:02}", 0.5 + number / 50) for number in range(22)]
    page = client.get(PAGE, asking(*many[:20]))
    assert len(page.context["lines"]) == 60
    assert len({(one.color, one.marker) for one in page.context["chosen"]}) == 20
    assert "left out" not in page.content.decode()
    more = client.get(PAGE, asking(*many))
    assert len(more.context["lines"]) == 60
    assert "left out of those asked for: 2." in more.content.decode()


def test_more_dictionaries_cost_no_more_queries(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    made, counts = [], []
    for number in range(3):
        made.append(make_evaluated(f"sae {number}"))
        with django_assert_max_num_queries(30) as queries:
            client.get(PAGE, asking(*made))
        counts.append(len(queries.captured_queries))
    assert counts[0] == counts[2]


def test_an_alignment_is_drawn_with_its_null_and_the_missing_ones_are_offered(
    client: Client, two: list[Dictionary]
) -> None:
    third = make_evaluated("third")
    page = client.get(PAGE, asking(*two, third))
    assert [(pair.first.name, pair.second.name) for pair in page.context["to_align"]] == [
        ("good", "poor"), ("good", "third"), ("poor", "third"),
    ]  # fmt: skip
    make_alignment(two[1], two[0])
    page = client.get(PAGE, asking(*two, third))
    forth, back = page.context["alignments"]
    assert (forth.title, back.title) == ("poor in good", "good in poor")
    assert len(forth.bands) == 1
    assert "37.5% of the latents lie beyond it" in forth.note
    assert [round(bar.height) > 0 for bar in forth.bars] == [number in (3, 8) for number in range(10)]
    assert len(page.context["to_align"]) == 2
    assert "stage=align-dictionaries" in page.content.decode()


def test_matches_by_activations_are_drawn_where_they_were_measured(two: list[Dictionary]) -> None:
    names = ("max Pearson correlation of activations", "max Jaccard of top images")
    both = {name: {"a_to_b": side(0.5), "b_to_a": side(0.1)} for name in names}
    make_alignment(*two, activations=both)
    [alignment] = alignments_between(two)
    assert [match.name for match in alignment.forth] == ["max cosine of decoder directions", *names]
    assert [match.share_above for match in alignment.back] == pytest.approx([0.25, 0.1, 0.1])
    assert sum(alignment.forth[1].shares) == pytest.approx(1)
    assert pairs_to_align(two, [alignment]) == []


def test_dictionaries_of_other_models_are_not_offered_for_alignment(client: Client, two: list[Dictionary]) -> None:
    Dictionary.objects.filter(pk=two[1].pk).update(hookpoints=["blocks.5"])
    page = client.get(PAGE, asking(*two)).content.decode()
    assert "No two of these have a vision model and a hookpoint in common" in page


@pytest.mark.parametrize(
    ("kind", "reads", "is_offered"),
    [("transcoder", "blocks.1.mlp.in", True), ("topk_sae", "blocks.1.mlp.out", True),
     ("topk_sae", "blocks.1.mlp.in", False), ("transcoder", "blocks.11.mlp.in", False),
     ("residual_basis", "blocks.1.mlp.in", False), ("random_directions", "blocks.1.mlp.hidden", True)],
)  # fmt: skip
def test_units_are_offered_for_alignment_with_what_writes_at_their_mlp(
    kind: str, reads: str, is_offered: bool, two: list[Dictionary]
) -> None:
    units, other = two
    units.kind, units.hookpoints = "ff_kv", ["blocks.0.mlp.hidden", "blocks.1.mlp.hidden"]
    other.kind, other.hookpoints = kind, [reads]
    assert pairs_to_align([units, other], []) == ([(0, 1)] if is_offered else [])
    assert hookpoints_compared(units, other) == (["blocks.1.mlp.hidden"] if is_offered else [])
    assert hookpoints_compared(other, units) == ([reads] if is_offered else [])


def test_plots_hold_a_mark_for_every_figure(two: list[Dictionary]) -> None:
    comparison = Comparison(two)
    scatter = variance_against_l0(comparison)
    assert scatter is not None
    assert [len(curve.marks) for curve in scatter.curves] == [2, 2]
    assert scatter.curves[0].marks[0].title == "good, blocks.0: explained variance 0.900, L0 12.5"
    splice = curve_by_block(comparison, "splice")
    assert splice is not None
    assert splice.title == "Splice, CE"
    assert [tick.text for tick in splice.x_ticks] == ["0", "1"]
    density = density_plot(comparison)
    assert density is not None
    assert density.curves[0].marks[7].title.startswith("good: 36 of 128 latents fire on between")
    assert curve_by_block(Comparison([]), "explained") is None


def test_every_point_lies_on_its_plot(two: list[Dictionary]) -> None:
    plot = variance_against_l0(Comparison(two))
    assert plot is not None
    for curve in plot.curves:
        for mark in curve.marks:
            x, y = (float(number) for number in mark.path.removeprefix("M").split("a")[0].split())
            assert plot.left <= x <= plot.right
            assert plot.top <= y <= plot.bottom


def test_markers_change_after_eight_colors() -> None:
    assert marker(0) == marker(N_COLORS - 1)
    assert len({marker(place) for place in range(0, 4 * N_COLORS, N_COLORS)}) == 4


def test_a_heat_map_leaves_out_what_is_not_known_and_runs_from_dark_to_light() -> None:
    made = heat_map("x", "y", [[0.0, None], [1.0, 0.5]], (("0", "1"), ("0", "1")))
    assert made is not None
    assert [cell.title for cell in made.cells] == ["0 → 0: 0.000", "1 → 0: 1.000", "1 → 1: 0.500"]
    assert [made.cells[0].color, made.cells[1].color] == [cividis(0), cividis(1)] == ["#00204c", "#ffea46"]
    assert heat_map("x", "y", [[None]], (("0",), ("0",))) is None


def test_a_cross_layer_transcoder_shows_its_contributions_and_cascades(client: Client) -> None:
    made = make_evaluated("clt", kind="cross_layer_transcoder", cross_layer=cross_layer_facts())
    for address in (f"{PAGE}?d={made.pk}", f"/dictionaries/{made.pk}/"):
        page = client.get(address)
        assert [one.title for one in page.context["contribution_maps"]] == ["clt: CLS", "clt: patches"]
        assert len(page.context["contribution_maps"][0].cells) == 5
        [cascade] = page.context["cascades"]
        assert cascade.title == "Cascade, all tokens"
        assert "Chains become shallow sums." in page.content.decode()


def test_the_page_of_one_dictionary_shows_its_quality_and_leads_to_the_comparison(client: Client) -> None:
    made = make_evaluated("good", 0.9)
    control = make_evaluated("control", 0.2, kind="random_directions")
    Dictionary.objects.filter(pk=control.pk).update(control_of=made)
    page = client.get(f"/dictionaries/{made.pk}/")
    assert [line.row.hookpoint for line in page.context["figures"]] == ["blocks.0", "blocks.1", "all together"]
    assert f"{PAGE}?d={made.pk}&amp;d={control.pk}" in page.content.decode()
    assert [one.title for one in page.context["plots"]] == ["Splice, CE", "Nearest other", "Monosemanticity"]
    bare = make_dictionary("bare")
    assert client.get(f"/dictionaries/{bare.pk}/").context["figures"] == []


def test_the_list_has_a_box_for_each(client: Client, two: list[Dictionary]) -> None:
    page = client.get("/dictionaries/").content.decode()
    assert page.count('type="checkbox" name="d"') == 2
    assert f'action="{PAGE}"' in page


def test_the_web_process_needs_neither_torch_nor_numpy_for_it() -> None:
    import subprocess
    import sys

    code = (
        "import django, sys; django.setup(); import annotation.views.comparison; "
        "print([name for name in ('torch', 'numpy', 'scipy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
