"""The charts of the report page: sections of figures to plots, tables and statements."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

from analysis.domain.reports.frame import Line, Report, Section
from analysis.domain.reports.quality import level_words
from analysis.domain.saying import said, say
from analysis.plots import Series, interval_chart
from analysis.statistics.figures import Figure
from analysis.statistics.wording import Several, parts_of

CSS_CLASSES = {"patch": "plot-patch", "image": "plot-image"}
COLORS = ("plot-patch", "plot-image", "plot-third", "plot-fourth")
LEVELS = ("patch", "image")


class Row(NamedTuple):
    series: str
    name: str
    figure: Figure
    note: str  # what the figure's note says beyond the chart's


class Chart(NamedTuple):
    group: str  # what the CSV link asks for
    title: str
    statement: str
    svg: SafeString | None
    rows: list[Row]
    note: str  # what the notes of all rows have in common
    has_series: bool


def charts_of(report: Report, hidden: Collection[str] = ()) -> list[Chart]:
    """`hidden`: series that the page leaves out."""
    charts = []
    for section in report.sections:
        lines = [line for line in section.lines if line.series not in hidden]
        if lines:
            charts.append(chart_of(section, lines))
    return charts


def chart_of(section: Section, lines: list[Line]) -> Chart:
    labels = list(dict.fromkeys(line.name for line in lines))
    names = list(dict.fromkeys(line.series for line in lines))
    by_place = {(line.series, line.name): line.figure for line in lines}
    series = [
        Series(
            series_name(name),
            CSS_CLASSES.get(name, COLORS[index % len(COLORS)]),
            [shown(by_place.get((name, label))) for label in labels],
        )
        for index, name in enumerate(names)
    ]
    common = _common_notes([line.figure for line in lines])
    rows = [
        Row(
            series_name(line.series),
            say(line.name),
            said(line.figure),
            say(Several(note for note in parts_of(line.figure.note) if note not in common)),
        )
        for line in lines
    ]
    # Safe: interval_chart escapes every name it writes.
    svg = None
    if section.axis:
        axis = section.axis._replace(caption=say(section.axis.caption), reference_name=say(section.axis.reference_name))
        svg = mark_safe(interval_chart([say(label) for label in labels], series, axis, say(section.title)))
    return Chart(section.group, say(section.title), say(section.statement), svg, rows, say(Several(common)), any(names))


def series_name(series: str) -> str:
    """The levels are called so; other series are answers of the protocol, which are marked where they are declared."""
    if series in LEVELS:
        return gettext("%(level)s level") % {"level": say(level_words(series))}
    return gettext(series)


def shown(figure: Figure | None) -> Figure | None:
    return figure and said(figure)


def _common_notes(figures: list[Figure]) -> list[str]:
    """In the order of the first figure."""
    return [note for note in parts_of(figures[0].note) if all(note in parts_of(one.note) for one in figures)]
