"""Plots: what is drawn where, and that names cannot break out of the SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from analysis.plots import LABEL_WIDTH, PLOT_WIDTH, Axis, Series, bar_chart, describe, interval_chart
from analysis.statistics.figures import Figure

AXIS = Axis(0.0, 1.0, "share", 0.5, "chance")


def figure(value: float | None, low: float | None = None, high: float | None = None, note: str = "") -> Figure:
    return Figure("share of things", value, low, high, 30, 10, 3, note)


def test_points_and_intervals_lie_at_their_values() -> None:
    svg = interval_chart(["block 0"], [Series("patch level", "plot-patch", [figure(0.5, 0.25, 0.75)])], AXIS, "title")
    tree = ElementTree.fromstring(svg)
    [circle] = tree.iter("circle")
    [interval] = [line for line in tree.iter("line") if line.get("class") == "plot-interval"]
    assert float(circle.get("cx", "")) == LABEL_WIDTH + PLOT_WIDTH / 2
    assert float(interval.get("x1", "")) == LABEL_WIDTH + PLOT_WIDTH / 4
    assert float(interval.get("x2", "")) == LABEL_WIDTH + PLOT_WIDTH * 3 / 4


def test_an_axis_grows_to_hold_what_lies_beyond_it() -> None:
    axis = Axis(-0.5, 0.5, "difference")
    grown = axis.holding([figure(0.66, 0.43, 0.83), None, figure(None)])
    assert grown.high == pytest.approx(1.0)
    assert grown == axis._replace(high=grown.high)
    svg = interval_chart(["controls"], [Series("", "plot-patch", [figure(0.66, 0.43, 0.83)])], axis, "title")
    [circle] = ElementTree.fromstring(svg).iter("circle")
    assert float(circle.get("cx", "")) == pytest.approx(LABEL_WIDTH + PLOT_WIDTH * (0.66 + 0.5) / 1.5, abs=0.1)
    assert axis.holding([figure(0.1, -0.5, 0.5)]) == axis


def test_two_series_differ_by_shape_and_stand_in_a_legend() -> None:
    series = [
        Series("patch level", "plot-patch", [figure(0.5), figure(0.6)]),
        Series("image level", "plot-image", [figure(0.4), figure(0.2)]),
    ]
    svg = interval_chart(["a", "b"], series, AXIS, "title")
    assert (svg.count("<circle"), svg.count("<rect")) == (3, 3)  # two points and one key each
    assert re.findall(r'class="plot-key"[^>]*>([^<]*)<', svg) == ["patch level", "image level"]


def test_an_undefined_figure_shows_its_reason_in_place_of_a_point() -> None:
    svg = interval_chart(["a"], [Series("s", "plot-patch", [figure(None, note="no answers yet")])], AXIS, "title")
    assert "<circle" not in svg
    assert "<title>no answers yet</title>" in svg


def test_names_are_escaped() -> None:
    name = '<script>alert("1")</script>'
    svg = interval_chart([name], [Series(name, "plot-patch", [figure(0.5)])], AXIS, name)
    ElementTree.fromstring(svg)
    assert "<script>" not in svg


def test_a_figure_in_one_line() -> None:
    assert describe(figure(0.5, 0.25, 0.75)) == (
        "share of things: 0.500 [0.250, 0.750], 30 answers, 10 features, 3 annotators"
    )
    assert describe(figure(None, note="no answers yet")) == "share of things: no answers yet"


def test_ticks_are_round_on_any_axis() -> None:
    assert Axis(0.0, 1.0, "").ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert Axis(-0.5, 0.5, "").ticks() == pytest.approx([-0.4, -0.2, 0, 0.2, 0.4])
    assert Axis(-3.0, 3.0, "").ticks() == [-3, -2, -1, 0, 1, 2, 3]
    assert len(Axis(-40.0, 40.0, "").ticks()) == 9


def test_four_series_have_four_shapes_and_a_legend_inside_the_plot() -> None:
    names = ("a", "b", "c", "d")
    svg = interval_chart(["x"], [Series(name, f"plot-{name}", [figure(0.5)]) for name in names], AXIS, "title")
    assert (svg.count("<circle"), svg.count("<rect"), svg.count("<path")) == (2, 4, 2)
    keys = [float(x) for x in re.findall(r'class="plot-key" x="([0-9.]+)"', svg)]
    assert len(keys) == 4
    assert max(keys) < LABEL_WIDTH + PLOT_WIDTH - 80


def test_bars_are_as_long_as_their_counts() -> None:
    svg = bar_chart([("<Mon>", 10), ("Tue", 5), ("Wed", 0)], "answers", "Answers per day")
    ElementTree.fromstring(svg)
    lengths = [float(width) for width in re.findall(r'class="plot-bar"[^>]*width="([0-9.]+)"', svg)]
    assert lengths == [PLOT_WIDTH, PLOT_WIDTH / 2, 0]
    assert "&lt;Mon&gt;: 10 answers" in svg
