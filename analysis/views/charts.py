"""The charts of the report page: sections of figures to plots, tables and statements."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from django.utils.safestring import SafeString, mark_safe

from analysis.domain.reports.frame import Line, Report, Section
from analysis.plots import Series, interval_chart
from analysis.statistics.figures import Figure

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
            f"{name} level" if name in LEVELS else name,
            CSS_CLASSES.get(name, COLORS[index % len(COLORS)]),
            [by_place.get((name, label)) for label in labels],
        )
        for index, name in enumerate(names)
    ]
    common = _common_notes([line.figure for line in lines])
    rows = [
        Row(
            line.series,
            line.name,
            line.figure,
            "; ".join(note for note in line.figure.note.split("; ") if note not in common),
        )
        for line in lines
    ]
    # Safe: interval_chart escapes every name it writes.
    svg = mark_safe(interval_chart(labels, series, section.axis, section.title)) if section.axis else None
    return Chart(section.group, section.title, section.statement, svg, rows, "; ".join(common), any(names))


def _common_notes(figures: list[Figure]) -> list[str]:
    """In the order of the first figure."""
    return [
        note for note in figures[0].note.split("; ") if note and all(note in one.note.split("; ") for one in figures)
    ]
