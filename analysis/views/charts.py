"""The charts of the report page: figures to plots, tables and statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.utils.safestring import SafeString, mark_safe

from analysis.domain.report import LevelReport, Part, Report
from analysis.plots import Axis, Series, interval_chart
from analysis.statistics.figures import Figure

SHARE_AXIS = Axis(0.0, 1.0, "share of features interpretable, by majority, 95 % interval")
AUC_AXIS = Axis(0.0, 1.0, "P(feature rated above control), ties half, 95 % interval", 0.5, "no better than a control")


class Row(NamedTuple):
    level: str
    name: str
    figure: Figure
    note: str  # what the figure's note says beyond the chart's


class Chart(NamedTuple):
    group: str  # what the CSV link asks for
    title: str
    statement: str
    svg: SafeString
    rows: list[Row]
    note: str  # what the notes of all rows have in common


def charts_of(report: Report, levels: Sequence[str]) -> list[Chart]:
    """`levels`: which of patch and image to show."""
    shown = [level for level in report.levels if level.level in levels]
    charts = [
        _share_chart("block", "Share interpretable by block", shown, [level.by_block for level in shown]),
        _share_chart("condition", "Features and controls", shown, [level.by_condition for level in shown]),
        _auc_chart(shown),
        _agreement_chart(shown),
    ]
    if any(len(level.by_dictionary) > 1 for level in shown):
        charts.append(
            _share_chart("dictionary", "Share interpretable by dictionary", shown, [one.by_dictionary for one in shown])
        )
    return charts


def _share_chart(group: str, title: str, levels: list[LevelReport], parts: list[list[Part]]) -> Chart:
    what = "features and controls" if group == "condition" else "features"
    statement = (
        f"Of the {what}, how many the majority of their judgements calls interpretable (3 mostly or 4 clearly). "
        '"Cannot tell" is a judgement that does not; a tie is no majority.'
    )
    named = [[(part.name, part.share.features) for part in one] for one in parts]
    return _chart(group, title, statement, levels, named, SHARE_AXIS)


def _auc_chart(levels: list[LevelReport]) -> Chart:
    statement = (
        "How often the rating of a feature is higher than the rating of a control, over all pairs of their answers: "
        "0.5 is no difference. It needs no cut on the scale."
    )
    named = [[("all controls", level.auc), *level.auc_by_control] for level in levels]
    return _chart("auc", "Control-corrected AUC", statement, levels, named, AUC_AXIS)


def _agreement_chart(levels: list[LevelReport]) -> Chart:
    names = ("raw, answers 1 to 4", "alpha, ordinal", "AC2, ordinal", "raw, yes or no", "alpha, nominal", "AC1")
    named = [list(zip(names, (*level.on_ratings[:3], *level.on_verdicts[:3]), strict=True)) for level in levels]
    prevalence = "; ".join(f"{level.level} level {100 * level.on_verdicts.prevalence[1]:.0f} %" for level in levels)
    statement = (
        "Agreement of different annotators on the same feature. Alpha falls where nearly all answers are alike, raw "
        f"agreement and AC1 do not: read them with the prevalence of interpretable ({prevalence} of judgements)."
    )
    lows = [figure.low for one in named for _, figure in one if figure.low is not None]
    lowest = min(lows, default=0.0)
    axis = Axis(0.0 if lowest >= 0 else -0.5 if lowest >= -0.5 else -1.0, 1.0, "agreement, 95 % interval")
    return _chart("agreement", "Agreement between annotators", statement, levels, named, axis)


def _chart(
    group: str,
    title: str,
    statement: str,
    levels: list[LevelReport],
    named: list[list[tuple[str, Figure]]],
    axis: Axis,
) -> Chart:
    """`named`: per level, the figures by name; every level has the same names."""
    labels = [name for name, _ in named[0]] if named else []
    series = [
        Series(f"{level.level} level", f"plot-{level.level}", [figure for _, figure in figures])
        for level, figures in zip(levels, named, strict=True)
    ]
    common = _common_notes([figure for one in named for _, figure in one])
    rows = [
        Row(level.level, name, figure, "; ".join(note for note in figure.note.split("; ") if note not in common))
        for level, one in zip(levels, named, strict=True)
        for name, figure in one
    ]
    # Safe: interval_chart escapes every name it writes.
    return Chart(
        group, title, statement, mark_safe(interval_chart(labels, series, axis, title)), rows, "; ".join(common)
    )


def _common_notes(figures: list[Figure]) -> list[str]:
    """In the order of the first figure."""
    if not figures:
        return []
    return [
        note for note in figures[0].note.split("; ") if note and all(note in one.note.split("; ") for one in figures)
    ]
