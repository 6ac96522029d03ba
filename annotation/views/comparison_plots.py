"""Plots of dictionaries side by side, laid out here and drawn by a template as SVG.

A dictionary keeps its color and marker in all plots of a page: eight colors, and from the ninth on other markers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from django.utils.translation import gettext as _

from annotation.domain.comparison import Alignment, Comparison, Match, Row
from annotation.domain.dictionary_measures import BY_KEY
from annotation.views.line_plots import Scale, Tick, nice_ticks, short, tick_texts

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 40
N_COLORS = 8
MARKERS = (
    "M{l} {y}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0Z",
    "M{l} {t}h{d}v{d}h-{d}Z",
    "M{x} {t}L{e} {b}H{l}Z",
    "M{x} {t}L{e} {y}L{x} {b}L{l} {y}Z",
)
RADIUS = 4.0
LOG_SPAN = 20  # values that differ by more than this factor get a logarithmic axis
CURVES = ("explained", "splice", "l0", "dead", "nearest", "monosemanticity")
SPLICES = ("splice_cross_entropy", "splice_kl", "splice_distance")


class Mark(NamedTuple):
    path: str
    title: str


class Curve(NamedTuple):
    """One dictionary in a plot; ``points`` is an SVG polyline, empty where nothing joins its marks."""

    place: int
    points: str
    marks: list[Mark]
    is_dashed: bool = False

    @property
    def color(self) -> int:
        return self.place % N_COLORS


class Band(NamedTuple):
    """A range on the x axis that random directions reach, from their mean to their 99th percentile."""

    x: float
    width: float
    title: str


class Bar(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    title: str


class Plot(NamedTuple):
    title: str
    note: str
    x_name: str
    y_name: str
    curves: list[Curve]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    bands: list[Band] = []
    bars: list[Bar] = []
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM
    middle: float = (LEFT + WIDTH - RIGHT) / 2
    inner_height: int = HEIGHT - BOTTOM - TOP


class Point(NamedTuple):
    x: float
    y: float
    title: str


class Axis(NamedTuple):
    scale: Scale
    ticks: list[Tick]
    is_log: bool

    def at(self, value: float) -> float:
        return self.scale(math.log10(value) if self.is_log else value)


def marker(place: int, x: float = 7, y: float = 7) -> str:
    """The path of a dictionary's marker around a point."""
    edges = {"x": x, "y": y, "l": x - RADIUS, "e": x + RADIUS, "t": y - RADIUS, "b": y + RADIUS, "r": RADIUS}
    shown = {name: f"{value:.1f}" for name, value in edges.items()}
    return MARKERS[place // N_COLORS % len(MARKERS)].format(**shown, d=f"{2 * RADIUS:.1f}")


def axis(values: Sequence[float], start: float, end: float, *, may_be_log: bool = False) -> Axis:
    """An axis that holds every value, logarithmic where they differ much and none is zero or below."""
    low, high = min(values), max(values)
    if may_be_log and low > 0 and high / low > LOG_SPAN:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        scale = Scale(powers[0], powers[-1], start, end)
        return Axis(scale, [Tick(scale(power), short(10.0**power)) for power in powers], is_log=True)
    if high - low < 1e-9:
        low, high = low - 0.05 * (abs(low) or 1), high + 0.05 * (abs(high) or 1)
    ticks = nice_ticks(low, high)
    scale = Scale(min(ticks[0], low), max(ticks[-1], high), start, end)
    return Axis(scale, [Tick(scale(one), text) for one, text in zip(ticks, tick_texts(ticks), strict=True)], False)


def xy_plot(title: str, note: str, names: tuple[str, str], series: Mapping[int, Sequence[Point]], **how: bool) -> Plot:
    """Points by the place of their dictionary; ``is_joined`` draws lines, ``x_log`` and ``y_log`` allow logarithms.

    ``by_block`` gives the x axis whole blocks. A place below 0 is the dictionary of place −1 − it, its line dashed.
    """
    points = [point for one in series.values() for point in one]
    if how.get("by_block"):
        x_axis = block_axis(sorted({int(one.x) for one in points}))
    else:
        x_axis = axis([one.x for one in points], LEFT + 8, WIDTH - RIGHT - 8, may_be_log=how.get("x_log", False))
    y_axis = axis([one.y for one in points], HEIGHT - BOTTOM, TOP, may_be_log=how.get("y_log", False))
    curves = []
    for key, own in series.items():
        place = key if key >= 0 else -1 - key
        spots = [(x_axis.at(one.x), y_axis.at(one.y)) for one in own]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots) if how.get("is_joined") or key < 0 else ""
        marks = [Mark(marker(place, x, y), one.title) for (x, y), one in zip(spots, own, strict=True)]
        curves.append(Curve(place, line, marks, is_dashed=key < 0))
    return Plot(title, note, *names, curves, x_axis.ticks, y_axis.ticks)


def block_axis(blocks: Sequence[int]) -> Axis:
    """From the first block to the last, a tick at whole blocks only, at most a dozen."""
    scale = Scale(blocks[0], blocks[-1], LEFT + 12, WIDTH - RIGHT - 12)
    stride = max(1, math.ceil(len(blocks) / 12))
    return Axis(scale, [Tick(scale(block), str(block)) for block in blocks[::stride]], is_log=False)


def variance_against_l0(comparison: Comparison) -> Plot | None:
    """One point per hookpoint."""
    series: dict[int, list[Point]] = {}
    for row in comparison.rows:
        x, y = row.values["l0_contributing"] or row.values["l0"], row.values["explained"]
        if x and y is not None:
            title = _("%(name)s, %(hookpoint)s: explained variance %(y)s, L0 %(x)s") % {
                "name": row.dictionary.name,
                "hookpoint": row.hookpoint,
                "y": f"{y:.3f}",
                "x": f"{x:.3g}",
            }
            series.setdefault(row.place, []).append(Point(x, y, title))
    if not series:
        return None
    note = _(
        "One point per hookpoint; up and to the left is better: more of the variance from fewer latents. L0 "
        "counts latents above 1 % of the token's largest contribution, so that dense dictionaries stand here "
        "too."
    )
    return xy_plot(_("Explained variance against L0"), note, ("L0 > 1 %", _("explained variance")), series, x_log=True)


def curves_by_block(comparison: Comparison) -> list[Plot]:
    """A plot per measure that some dictionary has, over blocks."""
    made = (curve_by_block(comparison, key) for key in CURVES)
    return [plot for plot in made if plot is not None]


def curve_by_block(comparison: Comparison, key: str) -> Plot | None:
    read = best_splice(comparison.rows) if key == "splice" else key
    series: dict[int, list[Point]] = {}
    for row in comparison.rows:
        value = row.values[read] if read else None
        if value is not None and row.block is not None:
            title = f"{row.dictionary.name}, {row.hookpoint}: {value:.4g}"
            series.setdefault(row.place, []).append(Point(row.block, value, title))
    if not series or not read:
        return None
    measure = BY_KEY[read]
    name = _(measure.name)
    names = (_("block"), name)
    return xy_plot(name, _(measure.meaning), names, series, is_joined=True, by_block=True, y_log=key == "l0")


def best_splice(rows: Sequence[Row]) -> str:
    """The splice score that most rows have: cross-entropy before KL before distance; '' where none was measured."""
    counts = {key: sum(row.values[key] is not None for row in rows) for key in SPLICES}
    most = max(counts.values())
    return next((key for key, count in counts.items() if count == most > 0), "")


def density_plot(comparison: Comparison) -> Plot | None:
    """Shares of each dictionary's latents by half a power of ten of their density, over all hookpoints."""
    series: dict[int, list[Point]] = {}
    for place, one in enumerate(comparison.dictionaries):
        found = [record["density_histogram"] for record in one.quality.values() if "density_histogram" in record]
        if not found:
            continue
        edges = found[0]["log10_edges"]
        counts = [sum(column) for column in zip(*(one["counts"] for one in found), strict=True)]
        n_latents = sum(counts) + sum(record["n_silent"] for record in found)
        series[place] = [
            Point(
                (low + high) / 2, count / n_latents,
                _("%(name)s: %(count)s of %(n_latents)s latents fire on between %(low)s and %(high)s of the tokens")
                % {"name": one.name, "count": f"{count:,}", "n_latents": f"{n_latents:,}", "low": f"{10**low:.2g}",
                   "high": f"{10**high:.2g}"},
            )
            for (low, high), count in zip(pairwise(edges), counts, strict=True)
        ]  # fmt: skip
    if not series:
        return None
    note = _(
        "How many latents fire how often, over all hookpoints: shares of the latents by half a power of ten. "
        "A heap at the right fires everywhere; what is missing from 1 never fires."
    )
    plot = xy_plot(_("Density"), note, (_("density"), _("share of latents")), series, is_joined=True)
    powers = axis([point.x for one in series.values() for point in one], LEFT + 8, WIDTH - RIGHT - 8)
    return plot._replace(x_ticks=[Tick(powers.at(power), f"1e{power}" if power else "1") for power in range(-6, 1)])


def alignment_plots(comparison: Comparison, alignments: Sequence[Alignment]) -> list[Plot]:
    """A histogram for every match of every alignment, in both ways."""
    plots = []
    for one in alignments:
        first, second = (comparison.dictionaries[place] for place in (one.first, one.second))
        plots += [
            match_plot(match, one.first, _("%(name)s in %(other)s") % {"name": first.name, "other": second.name})
            for match in one.forth
        ]
        plots += [
            match_plot(match, one.second, _("%(name)s in %(other)s") % {"name": second.name, "other": first.name})
            for match in one.back
        ]
    return plots


def match_plot(match: Match, place: int, whose: str) -> Plot:
    x_axis = axis([0.0, 1.0], LEFT, WIDTH - RIGHT)
    y_axis = axis([0.0, *match.shares], HEIGHT - BOTTOM, TOP)
    bars = [
        Bar(
            x_axis.at(low) + 0.5, y_axis.at(share), x_axis.at(high) - x_axis.at(low) - 1,
            HEIGHT - BOTTOM - y_axis.at(share),
            _("%(share)s of the latents between %(low)s and %(high)s")
            % {"share": f"{share:.1%}", "low": f"{low:.2g}", "high": f"{high:.2g}"},
        )
        for (low, high), share in zip(pairwise(match.edges), match.shares, strict=True)
    ]  # fmt: skip
    start = x_axis.at(max(match.null_mean, 0))
    band = Band(
        start,
        max(x_axis.at(match.null_99) - start, 1),
        _("null: mean %(null_mean)s, 99th percentile %(null_99)s")
        % {"null_mean": f"{match.null_mean:.3f}", "null_99": f"{match.null_99:.3f}"},
    )
    note = _(
        "%(name)s, %(n_latents)s latents, mean %(mean)s. The band runs from the mean of the null "
        "(%(null_mean)s) to its 99th percentile (%(null_99)s); %(share_above)s of the latents lie beyond it."
    ) % {
        "name": _(match.name),
        "n_latents": f"{match.n_latents:,}",
        "mean": f"{match.mean:.3f}",
        "null_mean": f"{match.null_mean:.3f}",
        "null_99": f"{match.null_99:.3f}",
        "share_above": f"{match.share_above:.1%}",
    }
    curve = Curve(place, "", [])
    return Plot(whose, note, _(match.name), _("share of latents"), [curve], x_axis.ticks, y_axis.ticks, [band], bars)
