"""The measures of a training: one key of shades and one axis per measure, however many dictionaries there are."""

from __future__ import annotations

import pytest

from annotation.domain.run_pages import Series
from annotation.views.line_plots import Range, line_plot, log_ticks
from annotation.views.measure_grid import measure_grid


def lines(n_hookpoints: int, groups: list[str], first: float, last: float) -> list[Series]:
    return [Series(f"blocks.{i}", [0, 1], [first, last], group) for group in groups for i in range(n_hookpoints)]


def test_a_few_lines_of_one_dictionary_need_no_grid() -> None:
    assert measure_grid({"loss": lines(4, [""], 1.0, 0.1)}) is None
    assert measure_grid({}) is None


def test_three_dictionaries_at_twelve_hookpoints_share_key_and_axis() -> None:
    names = ["sae", "k=16", "jump"]
    plots = {
        "loss": lines(12, names, 1.0, 0.02),
        "l0": lines(12, names, 4.0, 8.0),
        "auxiliary_loss": lines(12, names, 0, 0),
    }
    plots["loss"][0] = Series("blocks.0", [0, 1], [3.0, 0.3], "sae")
    grid = measure_grid(plots)
    assert grid is not None
    assert grid.groups == names
    assert [row.title for row in grid.rows] == ["loss", "L0", "auxiliary loss"]
    assert grid.titles == ["loss", "L0"]
    assert [group for group, _ in grid.rows[0].panels] == names
    first, second, _ = (plot for _, plot in grid.rows[0].panels)
    assert first.y_ticks == second.y_ticks
    assert [line.shade for line in first.lines] == [line.shade for line in second.lines]
    assert [entry.shade for entry in grid.last] == [round(100 * i / 11) for i in range(12)]
    assert grid.last[0].values == [0.3, 0.02, 0.02, 8.0, 8.0, 8.0]


def test_a_dictionary_without_a_hookpoint_leaves_its_cell_empty() -> None:
    plots = {"loss": [*lines(2, ["a"], 1.0, 0.5), *lines(1, ["b"], 1.0, 0.25)]}
    grid = measure_grid(plots)
    assert grid is not None
    assert [entry.values for entry in grid.last] == [[0.5, 0.25], [0.5, None]]


def test_shares_begin_at_zero_and_what_lies_below_is_drawn_there() -> None:
    plots = {"explained_variance": lines(6, [""], -3.0, 0.9)}
    grid = measure_grid(plots)
    assert grid is not None
    [(_, plot)] = grid.rows[0].panels
    assert plot.y_ticks[0].text == "0"
    assert plot.lines[0].points.split()[0].endswith(f",{plot.bottom}.0")


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.06, 0.9, [0.05, 0.1, 0.2, 0.5, 1]),
        (0.003, 2, [0.001, 0.01, 0.1, 1, 10]),
        (1, 1.5, [1, 2]),
    ],
)
def test_an_axis_by_factors_has_round_ticks_around_its_values(low: float, high: float, ticks: list[float]) -> None:
    assert log_ticks(low, high) == ticks


def test_equal_factors_are_equally_far_apart() -> None:
    plot = line_plot("loss", [Series("x", [0, 1, 2], [1.0, 0.1, 0.01])], y_range=Range(0.01, 1, True))
    heights = [float(point.split(",")[1]) for point in plot.lines[0].points.split()]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.11)
