"""Small pictures of numbers, laid out here and drawn by templates as SVG."""

from __future__ import annotations

from typing import NamedTuple

from django.utils.translation import gettext

from annotation.domain.exemplar_rows import Histogram


class Column(NamedTuple):
    """One bar of a histogram, in the units of its viewBox."""

    x: float
    y: float
    width: float
    height: float
    title: str


class Tick(NamedTuple):
    x: float
    text: str


class HistogramChart(NamedTuple):
    width: int
    height: int
    columns: list[Column]
    ticks: list[Tick]
    most: int


def histogram_chart(histogram: Histogram, *, width: int = 360, height: int = 96) -> HistogramChart | None:
    """The bins between the first and the last that hold anything; None when all are empty."""
    filled = [i for i, count in enumerate(histogram.counts) if count > 0]
    if not filled:
        return None
    first, last = filled[0], filled[-1]
    counts, edges = histogram.counts[first : last + 1], histogram.edges[first : last + 2]
    step, most = width / len(counts), max(counts)
    columns = [
        Column(
            x=round(i * step, 2),
            y=round(height * (1 - count / most), 2),
            width=round(max(step - 1, 0.5), 2),
            height=round(height * count / most, 2),
            title=gettext("%(count)s tokens between %(low)s and %(high)s")
            % {"count": f"{count:,}", "low": f"{edges[i]:.3g}", "high": f"{edges[i + 1]:.3g}"},
        )
        for i, count in enumerate(counts)
    ]
    stride = max(1, len(counts) // 4)
    ticks = [Tick(round(i * step, 2), f"{edges[i]:.2g}") for i in range(0, len(edges), stride)]
    return HistogramChart(width, height, columns, ticks, most)


class Bar(NamedTuple):
    """One horizontal bar; ``share`` is its length in percent of the longest."""

    name: str
    value: float
    share: float


def bars(pairs: list[tuple[str, float]]) -> list[Bar]:
    """Bars of signed numbers: the length is the absolute value, the sign stays in the number."""
    longest = max((abs(value) for _, value in pairs), default=0) or 1.0
    return [Bar(name, value, round(100 * abs(value) / longest, 1)) for name, value in pairs]


class BlockChart(NamedTuple):
    """One narrow bar per hookpoint, and the mean in words."""

    title: str
    width: int
    columns: list[Column]
    mean: float | None


def block_chart(title: str, values: list[tuple[str, float | None]], *, step: int = 10, height: int = 32) -> BlockChart:
    """Bars of shares between 0 and 1 by hookpoint; one that was not measured is left empty."""
    columns = []
    for i, (hookpoint, value) in enumerate(values):
        if value is not None:
            tall = round(height * min(max(value, 0.0), 1.0), 2)
            columns.append(Column(i * step, round(height - tall, 2), step - 2, tall, f"{hookpoint}: {value:.3g}"))
    measured = [value for _, value in values if value is not None]
    mean = sum(measured) / len(measured) if measured else None
    return BlockChart(title, max(step * len(values), step), columns, mean)
