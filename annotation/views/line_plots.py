"""Line plots laid out here and drawn by a template as SVG: metrics of a run over its steps."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

from annotation.domain.run_pages import Series

WIDTH, HEIGHT = 460, 170
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 22


class Line(NamedTuple):
    """``points`` is an SVG polyline; ``shade`` runs from 0 (first line) to 100 (last)."""

    label: str
    points: str
    shade: int
    last: float


class Tick(NamedTuple):
    position: float
    text: str


class LinePlot(NamedTuple):
    title: str
    width: int
    height: int
    left: int
    right: int
    bottom: int
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def line_plot(title: str, series: list[Series]) -> LinePlot:
    steps = [step for line in series for step in line.steps]
    values = [value for line in series for value in line.values]
    x_scale = Scale(min(steps), max(steps), LEFT, WIDTH - RIGHT)
    y_ticks = nice_ticks(min(values), max(values))
    y_scale = Scale(min(y_ticks[0], *values), max(y_ticks[-1], *values), HEIGHT - BOTTOM, TOP)
    lines = [
        Line(
            label=line.label,
            points=" ".join(
                f"{x_scale(step):.1f},{y_scale(value):.1f}" for step, value in zip(line.steps, line.values, strict=True)
            ),
            shade=round(100 * place / max(1, len(series) - 1)),
            last=line.values[-1],
        )
        for place, line in enumerate(series)
    ]
    return LinePlot(
        title="L0" if title == "l0" else title.replace("_", " "),
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=HEIGHT - BOTTOM,
        lines=lines,
        x_ticks=[Tick(x_scale(step), short(step)) for step in sorted({min(steps), max(steps)})],
        y_ticks=[Tick(y_scale(value), text) for value, text in zip(y_ticks, tick_texts(y_ticks), strict=True)],
    )


class Scale:
    """A value to a position; a single value sits in the middle."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.span = low, high - low
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / self.span if self.span > 0 else 0.5
        return self.start + share * (self.end - self.start)


def nice_ticks(low: float, high: float, n: int = 4) -> list[float]:
    """A few round numbers from at or below ``low`` to at or above ``high``."""
    if high <= low:
        return [low]
    rough = (high - low) / n
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough)
    first = math.floor(low / step)
    return [round(i * step, 12) for i in range(first, math.ceil(high / step) + 1)]


def tick_texts(ticks: list[float]) -> list[str]:
    """Three figures, or as many decimals as it takes to tell neighbors apart: 16.0002, 16.0004."""
    texts = [short(value) for value in ticks]
    if len(set(texts)) == len(texts):
        return texts
    step = min(after - before for before, after in pairwise(ticks))
    # a step of 0.0001 may come out a hair below it
    decimals = max(0, -math.floor(math.log10(1.001 * step)))
    return [f"{value:,.{decimals}f}" for value in ticks]


def short(value: float) -> str:
    """Three figures: 0.05, 1,200, 34k, 5.6M."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.3g}k"
    return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.3g}"
