"""The measures of a training: for each a row of plots, one per dictionary, and a table of where every line is now.

Twelve hookpoints of three dictionaries are 36 lines. All plots share one key of shades, from the first hookpoint to the
last, and those of one measure share their axis, so that dictionaries can be compared by eye.
"""

from __future__ import annotations

from typing import NamedTuple

from annotation.domain.run_pages import Series
from annotation.views.line_plots import LinePlot, Range, line_plot, plot_title, shades_of

FEWEST_LINES = 5  # in a plot; fewer are told apart by the key below it
PANEL = (240, 150)
LOGARITHMIC = ("loss",)
FROM_ZERO = ("explained_variance", "dead_share", "auxiliary_loss")
UNLISTED = ("auxiliary_loss",)  # zero as long as nothing is dead: a plot says more than its last value
LEAST_LOSS = 1e-6


class MeasureRow(NamedTuple):
    """One measure: a panel per dictionary, each with the dictionary's name where there are several."""

    title: str
    panels: list[tuple[str, LinePlot]]


class LastValues(NamedTuple):
    """A hookpoint and the last value of each measure, dictionary by dictionary; None where there is none."""

    label: str
    shade: int
    values: list[float | None]


class MeasureGrid(NamedTuple):
    rows: list[MeasureRow]
    groups: list[str]
    titles: list[str]
    last: list[LastValues]


def measure_grid(plots: dict[str, list[Series]]) -> MeasureGrid | None:
    """The grid of a run's plots; None where plain plots will do."""
    labels = list(dict.fromkeys(line.label for series in plots.values() for line in series))
    groups = list(dict.fromkeys(line.group for series in plots.values() for line in series))
    if len(groups) < 2 and max((len(series) for series in plots.values()), default=0) < FEWEST_LINES:
        return None
    shades = shades_of(labels)
    rows = [measure_row(name, series, groups, shades) for name, series in plots.items()]
    listed = [name for name in plots if name not in UNLISTED]
    now = {(name, line.group, line.label): line.values[-1] for name, series in plots.items() for line in series}
    last = [
        LastValues(label, shades[label], [now.get((name, group, label)) for name in listed for group in groups])
        for label in labels
    ]
    return MeasureGrid(rows, groups, [plot_title(name) for name in listed], last)


def measure_row(name: str, series: list[Series], groups: list[str], shades: dict[str, int]) -> MeasureRow:
    span = y_range(name, [value for line in series for value in line.values])
    panels = []
    for group in groups:
        own = [line for line in series if line.group == group]
        if own:
            size = {"size": PANEL} if len(groups) > 1 else {}
            panels.append((group, line_plot(name, own, y_range=span, shades=shades, **size)))
    return MeasureRow(plot_title(name), panels)


def y_range(name: str, values: list[float]) -> Range:
    """Losses by factors; shares from zero, as the first steps of a training may lie far below it."""
    if name in LOGARITHMIC:
        return Range(max(min(values), LEAST_LOSS), max(*values, 2 * LEAST_LOSS), is_logarithmic=True)
    if name in FROM_ZERO:
        return Range(0.0, max(*values, 0.0) or 1.0)
    return Range(min(values), max(values))
