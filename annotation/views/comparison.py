"""Any set of dictionaries on one page: their figures in a table, plots, and both to take away as CSV and JSON."""

from __future__ import annotations

import csv
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotation.domain.comparison import (
    MOST,
    Comparison,
    Row,
    alignments_between,
    evaluations_under_way,
    pairs_to_align,
    sortable,
)
from annotation.domain.dictionary_measures import BASELINES, MEASURES, Measure
from annotation.domain.visibility import visible_dictionaries, visible_image_sets
from annotation.models import Dictionary, Run, User
from annotation.templatetags.quantities import digits3, fixed3, percent
from annotation.views.access import researcher_required, signed_in_user
from annotation.views.comparison_plots import (
    N_COLORS,
    alignment_plots,
    curves_by_block,
    density_plot,
    marker,
    variance_against_l0,
)
from annotation.views.cross_layer_plots import (
    TERMS,
    cascade_plots,
    contribution_maps,
    nearest_images,
    retrieval_plots,
    term_caption,
    term_lines,
    warning_of,
)
from annotation.views.heat_maps import block_maps

MOST_PAIRS_OFFERED = 6
FIRST_ORDER = "name"
IN_OWN_TABLE = ("n_latents", "explained", "explained_cls", "explained_patches", "l0", "dead", "dense")
IN_BARS = ("Explained variance", "L0", "Dead")  # shown by the bars of that table


class Chosen(NamedTuple):
    """A dictionary of the comparison: its marker, what it was evaluated on, and what is to be done if it was not."""

    dictionary: Dictionary
    color: int
    marker: str
    image_set: str
    facts: dict[str, Any]
    problem: str
    run: Run | None
    evaluate: str

    @property
    def lacks_splice(self) -> bool:
        """Evaluated, but by an earlier version or without altered passes."""
        return bool(self.dictionary.quality) and not any("splice" in one for one in self.dictionary.quality.values())


class Line(NamedTuple):
    row: Row
    color: int
    marker: str
    cells: list[str]


class Heading(NamedTuple):
    """A column's name with the address that sorts by it, and how it is sorted now as ARIA says it."""

    name: str
    address: str
    sorted: str
    meaning: str
    is_number: bool = True


class Pair(NamedTuple):
    first: Dictionary
    second: Dictionary
    address: str


def asked_for(request: HttpRequest) -> list[Dictionary]:
    """The dictionaries of the address in its order, each once; raises Http404 for one that is not there to see."""
    wanted = list(dict.fromkeys(request.GET.getlist("d")))
    if not all(one.isdecimal() and len(one) < 19 for one in wanted):
        raise Http404(_("A dictionary is named by its number in the address, as in ?d=3. Choose below."))
    rows = visible_dictionaries(signed_in_user(request)).select_related("vision_model", "image_set", "control_of")
    found = rows.in_bulk([int(one) for one in wanted])
    if len(found) < len(wanted):
        raise Http404(_("One of these dictionaries is not there, or you may not see it. Choose among those below."))
    return [found[int(one)] for one in wanted]


def baseline_of(request: HttpRequest) -> str:
    baseline = request.GET.get("baseline", BASELINES[0])
    return baseline if baseline in BASELINES else BASELINES[0]


def order_of(request: HttpRequest) -> str:
    order = request.GET.get("sort", FIRST_ORDER)
    return order if sortable(order.removeprefix("-")) else FIRST_ORDER


@require_safe
@researcher_required
def compare(request: HttpRequest) -> HttpResponse:
    try:
        asked, problem = asked_for(request), ""
    except Http404 as error:
        asked, problem = [], str(error)
    comparison = Comparison(asked[:MOST], baseline_of(request))
    rows = visible_dictionaries(signed_in_user(request)).select_related("vision_model", "control_of")
    context = {
        "comparison": comparison, "every": list(rows), "picked": {one.pk for one in comparison.dictionaries},
        "n_left_out": len(asked) - len(comparison.dictionaries), "most": MOST, "problem": problem,
    }  # fmt: skip
    if comparison.dictionaries:
        context |= table_context(request, comparison) | plot_context(comparison, signed_in_user(request))
    return render(request, "annotation/catalog/compare.html", context, status=404 if problem else 200)


def table_context(request: HttpRequest, comparison: Comparison) -> dict[str, Any]:
    order = order_of(request)
    shown = [measure for measure in comparison.measured() if measure.is_shown]
    query = [("d", one.pk) for one in comparison.dictionaries] + [("baseline", comparison.baseline)]
    return {
        "chosen": chosen_of(comparison), "headings": headings(shown, query, order),
        "lines": lines_of(comparison, shown, order), "meanings": comparison.measured(), "baselines": [
            (name, f"?{urlencode([*query[:-1], ('baseline', name), ('sort', order)])}") for name in BASELINES
        ],
        "query": urlencode(query), "image_sets": comparison.image_sets,
        "models": {one.vision_model.name for one in comparison.dictionaries},
    }  # fmt: skip


def plot_context(comparison: Comparison, user: User) -> dict[str, Any]:
    alignments = alignments_between(comparison.dictionaries)
    scatter, density = variance_against_l0(comparison), density_plot(comparison)
    return {
        "plots": [plot for plot in (scatter, *curves_by_block(comparison), density) if plot is not None],
        "alignments": alignment_plots(comparison, alignments),
        "to_align": to_align(comparison, alignments),
        **map_context(comparison, user),
    }


def map_context(comparison: Comparison, user: User) -> dict[str, Any]:
    """What is drawn of each dictionary by itself: directions across blocks, and what only transcoders across have."""
    return {
        "block_maps": block_maps(comparison), "contribution_maps": contribution_maps(comparison),
        "cascades": [*cascade_plots(comparison), *retrieval_plots(comparison)], "warning": warning_of(comparison),
        "terms": [_(words) for words in TERMS.values()], "term_lines": term_lines(comparison),
        "term_caption": term_caption(comparison),
        "neighbors": nearest_images(comparison, visible_image_sets(user)),
    }  # fmt: skip


def chosen_of(comparison: Comparison) -> list[Chosen]:
    names, running = comparison.image_sets, evaluations_under_way(comparison.dictionaries)
    common = next(iter(names), "")
    found = []
    for place, (one, evaluation) in enumerate(zip(comparison.dictionaries, comparison.evaluations, strict=True)):
        image_set = common or one.image_set.digest  # figures compare when they are of the same images
        address = new_run("evaluate-dictionary", dictionary=one.digest, image_set=image_set)
        name = names.get(evaluation.facts.get("image_set", ""), "")
        found.append(Chosen(
            one, place % N_COLORS, marker(place), name, evaluation.facts, evaluation.problem, running.get(one.digest),
            address,
        ))  # fmt: skip
    return found


def headings(shown: list[Measure], query: list[tuple[str, Any]], order: str) -> list[Heading]:
    columns = [("name", _("Dictionary"), "", False), ("hookpoint", _("Hookpoint"), "", False)]
    columns += [(one.key, _(one.name), _(one.meaning), True) for one in shown]
    found = []
    for key, name, meaning, is_number in columns:
        falls_next = order != f"-{key}" if is_number else order == key
        wanted = f"-{key}" if falls_next else key
        state = {key: "ascending", f"-{key}": "descending"}.get(order, "")
        found.append(Heading(name, f"?{urlencode([*query, ('sort', wanted)])}", state, meaning, is_number))
    return found


def lines_of(comparison: Comparison, shown: list[Measure], order: str) -> list[Line]:
    return [
        Line(
            row, row.place % N_COLORS, marker(row.place),
            [written(one, row.values[one.key]) for one in shown],
        )
        for row in comparison.sorted_rows(order)
    ]  # fmt: skip


def written(measure: Measure, value: float | None) -> str:
    if measure.style == "count":
        return "–" if value is None else f"{value:,.0f}"
    return {"fixed": fixed3, "digits": digits3, "percent": percent}[measure.style](value)


def to_align(comparison: Comparison, alignments: list[Any]) -> list[Pair]:
    pairs = pairs_to_align(comparison.dictionaries, alignments)[:MOST_PAIRS_OFFERED]
    found = []
    for one, other in pairs:
        first, second = comparison.dictionaries[one], comparison.dictionaries[other]
        address = new_run(
            "align-dictionaries", dictionary=first.digest, other=second.digest, image_set=first.image_set.digest
        )
        found.append(Pair(first, second, address))
    return found


def new_run(stage: str, **values: str) -> str:
    return f"{reverse('run-new')}?{urlencode({'stage': stage, **values})}"


def quality_context(dictionary: Dictionary, user: User) -> dict[str, Any]:
    """What the page of one dictionary says of its quality beside the table it has of its own."""
    comparison = Comparison([dictionary])
    shown = [one for one in comparison.measured() if one.is_shown and one.key not in IN_OWN_TABLE]
    in_bars = {_(name) for name in IN_BARS}
    return {
        "measures": shown, "figures": lines_of(comparison, shown, "hookpoint") if shown else [],
        "plots": [plot for plot in curves_by_block(comparison) if plot.title not in in_bars],
        "density": density_plot(comparison), "evaluated": chosen_of(comparison)[0], **map_context(comparison, user),
        "compared_with": urlencode([("d", one.pk) for one in (dictionary, *dictionary.controls.all())]),
    }  # fmt: skip


@require_safe
@researcher_required
def compare_csv(request: HttpRequest) -> HttpResponse:
    """A line per dictionary and hookpoint with every measure, those too that the page leaves out."""
    comparison = Comparison(asked_for(request)[:MOST], baseline_of(request))
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="dictionaries.csv"'
    writer = csv.writer(response)
    writer.writerow([*IDENTITY, *(one.key for one in MEASURES)])
    for row in comparison.sorted_rows(order_of(request)):
        writer.writerow([*identity(comparison, row), *(row.values[one.key] for one in MEASURES)])
    return response


IDENTITY = ("dictionary", "digest", "kind", "vision_model", "image_set", "hookpoint", "splice_baseline")


def identity(comparison: Comparison, row: Row) -> list[str]:
    one = row.dictionary
    evaluated_on = comparison.evaluations[row.place].facts.get("image_set", "")
    return [
        safe_cell(one.name), one.digest, one.kind, safe_cell(one.vision_model.name),
        safe_cell(comparison.image_sets.get(evaluated_on, "")), row.hookpoint, comparison.baseline,
    ]  # fmt: skip


def safe_cell(text: str) -> str:
    """A name that a spreadsheet would take for a formula is quoted."""
    return f"'{text}" if text[:1] in "=+-@\t\r" and text else text


@require_safe
@researcher_required
def compare_json(request: HttpRequest) -> JsonResponse:
    """Everything the quality artefacts say of these dictionaries, and the alignments between them."""
    comparison = Comparison(asked_for(request)[:MOST], baseline_of(request))
    records = [
        {
            "name": one.name, "digest": one.digest, "kind": one.kind, "vision_model": one.vision_model.name,
            "quality_digest": one.quality_digest, "hookpoints": one.quality, "evaluation": evaluation.facts,
        }
        for one, evaluation in zip(comparison.dictionaries, comparison.evaluations, strict=True)
    ]  # fmt: skip
    alignments = [
        {
            "first": comparison.dictionaries[one.first].digest, "second": comparison.dictionaries[one.second].digest,
            "first_in_second": [match._asdict() for match in one.forth],
            "second_in_first": [match._asdict() for match in one.back],
        }
        for one in alignments_between(comparison.dictionaries)
    ]  # fmt: skip
    measures = {one.key: {"name": one.name, "meaning": one.meaning} for one in MEASURES}
    body = {"dictionaries": records, "alignments": alignments, "measures": measures}
    headers = {"Content-Disposition": 'attachment; filename="dictionaries.json"'}
    return JsonResponse(body, headers=headers, json_dumps_params={"indent": 1})


urlpatterns = [
    path("dictionaries/compare/", compare, name="compare-dictionaries"),
    path("dictionaries/compare.csv", compare_csv, name="compare-dictionaries-csv"),
    path("dictionaries/compare.json", compare_json, name="compare-dictionaries-json"),
]
