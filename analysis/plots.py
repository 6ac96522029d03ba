"""Plots as SVG text, made on the server: pure functions, no script, colors from the stylesheet's variables.

Points differ by shape as well as by color, so that they can be told apart without color; every point says its number,
interval and n in a title that browsers show on hover and screen readers read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from django.utils.translation import gettext

from analysis.statistics.figures import Figure

LABEL_WIDTH, PLOT_WIDTH, RIGHT = 240, 320, 20
ROW_PADDING, SERIES_STEP, TOP, BOTTOM = 12, 16, 12, 40
BAR_STEP, BAR_HEIGHT, COUNT_WIDTH = 24, 14, 60
MARKERS = ("circle", "square", "diamond", "triangle")


class Series(NamedTuple):
    """One kind of point: its name in the legend, its CSS class (plot-patch, plot-image, ...), a figure per row."""

    name: str
    css_class: str
    figures: Sequence[Figure | None]


class Axis(NamedTuple):
    low: float
    high: float
    caption: str
    reference: float | None = None
    reference_name: str = ""

    def step(self) -> float:
        """Fifths of a unit, wider on a longer axis."""
        return next(step for step in (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0) if (self.high - self.low) / step <= 8)

    def holding(self, figures: Iterable[Figure | None]) -> Axis:
        """The axis made long enough for every value and interval: a point drawn at the edge would be a wrong number."""
        shown = [one for one in figures if one is not None]
        values = [value for one in shown for value in (one.low, one.value, one.high) if value is not None]
        step = self.step()
        low = min([self.low, *(math.floor(value / step + 1e-9) * step for value in values if value < self.low)])
        high = max([self.high, *(math.ceil(value / step - 1e-9) * step for value in values if value > self.high)])
        return self._replace(low=low, high=high)

    def ticks(self) -> list[float]:
        """Round numbers, the first at or above the low end."""
        step = self.step()
        first = math.ceil(self.low / step - 1e-9)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def x(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return LABEL_WIDTH + share * PLOT_WIDTH


def interval_chart(labels: Sequence[str], series: Sequence[Series], axis: Axis, title: str) -> str:
    """A row per label, a point with its 95 % interval per series."""
    axis = axis.holding(figure for one in series for figure in one.figures)
    row_height = ROW_PADDING + SERIES_STEP * len(series)
    bottom = TOP + row_height * len(labels)
    height = bottom + BOTTOM + 24 * (len(series) > 1)
    width = LABEL_WIDTH + PLOT_WIDTH + RIGHT
    parts = [
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">',
        *_axis(axis, bottom),
    ]
    for row, label in enumerate(labels):
        middle = TOP + row_height * (row + 0.5)
        parts.append(f'<text class="plot-label" x="{LABEL_WIDTH - 12}" y="{middle + 4:.1f}">{escape(label)}</text>')
        for index, one in enumerate(series):
            y = middle + SERIES_STEP * (index - (len(series) - 1) / 2)
            parts.extend(_point(one.figures[row], one, MARKERS[index % len(MARKERS)], axis, y))
    if len(series) > 1:
        parts.extend(_legend(series, bottom + BOTTOM + 14))
    return "\n".join([*parts, "</svg>"])


def _axis(axis: Axis, bottom: float) -> list[str]:
    parts = []
    for value in axis.ticks():
        x = axis.x(value)
        parts.append(f'<line class="plot-grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="plot-tick" x="{x:.1f}" y="{bottom + 16}">{value:.1f}</text>')
    if axis.reference is not None:
        x = axis.x(axis.reference)
        name = escape(axis.reference_name)
        line = f'<line class="plot-reference" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}">'
        parts.append(f"{line}<title>{name}</title></line>")
    caption = f'<text class="plot-caption" x="{LABEL_WIDTH + PLOT_WIDTH / 2}" y="{bottom + 35}">{escape(axis.caption)}'
    return [*parts, f"{caption}</text>"]


def _point(figure: Figure | None, series: Series, marker: str, axis: Axis, y: float) -> list[str]:
    if figure is None:
        return []
    if figure.value is None:
        reason = escape(figure.note)
        return [f'<text class="plot-undefined" x="{LABEL_WIDTH + 4}" y="{y + 4:.1f}">—<title>{reason}</title></text>']
    parts = [f'<g class="{series.css_class}"><title>{escape(describe(figure))}</title>']
    if figure.low is not None and figure.high is not None:
        low, high = axis.x(figure.low), axis.x(figure.high)
        parts.append(f'<line class="plot-interval" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
    parts.append(_marker(marker, axis.x(figure.value), y))
    return [*parts, "</g>"]


def _marker(marker: str, x: float, y: float) -> str:
    if marker == "circle":
        return f'<circle class="plot-point" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    if marker == "triangle":
        top, foot = y - 5, y + 4
        return f'<path class="plot-point" d="M{x:.1f} {top:.1f}L{x + 5:.1f} {foot:.1f}L{x - 5:.1f} {foot:.1f}Z"/>'
    turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if marker == "diamond" else ""
    return f'<rect class="plot-point" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"{turn}/>'


def _legend(series: Sequence[Series], y: float) -> list[str]:
    parts = []
    left, step = (LABEL_WIDTH, 150) if len(series) <= 2 else (20, (LABEL_WIDTH + PLOT_WIDTH) / len(series))
    for index, one in enumerate(series):
        x = left + step * index
        mark = _marker(MARKERS[index % len(MARKERS)], x + 5, y - 4)
        name = f'<text class="plot-key" x="{x + 16}" y="{y}">{escape(one.name)}</text>'
        parts.append(f'<g class="{one.css_class}">{mark}{name}</g>')
    return parts


def describe(figure: Figure) -> str:
    """One line: what it is of, value, interval, n."""
    if figure.value is None:
        return f"{figure.of}: {figure.note}"
    interval = "" if figure.low is None else f" [{figure.low:.3f}, {figure.high:.3f}]"
    n = gettext("%(n_answers)s answers, %(n_features)s features, %(n_annotators)s annotators") % {
        "n_answers": figure.n_answers, "n_features": figure.n_features, "n_annotators": figure.n_annotators,
    }  # fmt: skip
    return f"{figure.of}: {figure.value:.3f}{interval}, {n}"


def bar_chart(counts: Sequence[tuple[str, int]], unit: str, title: str) -> str:
    """A bar per (name, count), its count beside it."""
    height = TOP + BAR_STEP * len(counts) + 4
    width = LABEL_WIDTH // 2 + PLOT_WIDTH + COUNT_WIDTH
    most = max((n for _, n in counts), default=0) or 1
    left = LABEL_WIDTH // 2
    parts = [f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">']
    for row, (name, n) in enumerate(counts):
        y = TOP + BAR_STEP * row
        length = PLOT_WIDTH * n / most
        parts.append(f'<text class="plot-label" x="{left - 10}" y="{y + 12}">{escape(name)}</text>')
        bar = f'<rect class="plot-bar" x="{left}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT}">'
        parts.append(f"{bar}<title>{escape(name)}: {n} {escape(unit)}</title></rect>")
        parts.append(f'<text class="plot-count" x="{left + length + 8:.1f}" y="{y + 12}">{n}</text>')
    return "\n".join([*parts, "</svg>"])
