"""Line plots laid out here and drawn by a template as SVG: metrics of a run over its steps."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

from django.utils.translation import gettext, gettext_noop

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


class Range(NamedTuple):
    """What an axis spans, and whether by factors of ten."""

    low: float
    high: float
    is_logarithmic: bool = False


def line_plot(
    title: str,
    series: list[Series],
    *,
    y_range: Range | None = None,
    shades: dict[str, int] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> LinePlot:
    """Lines over steps. ``y_range`` and the shade of each label are taken from the lines where they are not given."""
    width, height = size
    steps = [step for line in series for step in line.steps]
    values = [value for line in series for value in line.values]
    span = y_range or Range(min(values), max(values))
    x_scale = Scale(min(steps), max(steps), LEFT, width - RIGHT)
    y_ticks = log_ticks(span.low, span.high) if span.is_logarithmic else nice_ticks(span.low, span.high)
    ends = (min(y_ticks[0], span.low), max(y_ticks[-1], span.high))
    y_scale = (LogScale if span.is_logarithmic else Scale)(*ends, height - BOTTOM, TOP)
    shades = shades or shades_of([line.label for line in series])
    lines = [
        Line(
            label=line.label,
            points=" ".join(
                f"{x_scale(step):.1f},{y_scale(min(max(value, ends[0]), ends[1])):.1f}"
                for step, value in zip(line.steps, line.values, strict=True)
            ),
            shade=shades[line.label],
            last=line.values[-1],
        )
        for line in series
    ]
    return LinePlot(
        title=plot_title(title),
        width=width,
        height=height,
        left=LEFT,
        right=width - RIGHT,
        bottom=height - BOTTOM,
        lines=lines,
        x_ticks=[Tick(x_scale(step), short(step)) for step in sorted({min(steps), max(steps)})],
        y_ticks=[Tick(y_scale(value), text) for value, text in zip(y_ticks, tick_texts(y_ticks), strict=True)],
    )


def shades_of(labels: list[str]) -> dict[str, int]:
    """From 0 for the first label to 100 for the last."""
    return {label: round(100 * place / max(1, len(labels) - 1)) for place, label in enumerate(labels)}


TITLES = {
    "loss": gettext_noop("loss"),
    "auxiliary_loss": gettext_noop("auxiliary loss"),
    "explained_variance": gettext_noop("explained variance"),
    "l0": "L0",
    "dead_share": gettext_noop("dead share"),
}


def plot_title(name: str) -> str:
    return gettext(TITLES.get(name) or name.replace("_", " "))


class Scale:
    """A value to a position; a single value sits in the middle."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.span = low, high - low
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / self.span if self.span > 0 else 0.5
        return self.start + share * (self.end - self.start)


class LogScale(Scale):
    """A positive value to a position by its logarithm."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        super().__init__(math.log10(low), math.log10(high), start, end)

    def __call__(self, value: float) -> float:
        return super().__call__(math.log10(value))


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from at or below ``low`` to at or above ``high``; 2 and 5 times them too where those are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if math.log10(high / low) < 1.5 else (1,)
    ticks = [round(m * 10.0**power, 12) for power in range(first, last + 1) for m in factors]
    below = [tick for tick in ticks if tick <= low][-1]
    above = next(tick for tick in ticks if tick >= high)
    return [tick for tick in ticks if below <= tick <= above]


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
