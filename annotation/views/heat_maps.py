"""Heat maps of dictionaries, laid out here and drawn by a template as SVG, in cividis with its scale beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from annotation.domain.comparison import Comparison
from annotation.views.line_plots import Tick, short


class HeatCell(NamedTuple):
    x: float
    y: float
    color: str
    title: str


class HeatMap(NamedTuple):
    """Numbers as squares; rows downwards, columns to the right."""

    title: str
    note: str
    side: float
    cells: list[HeatCell]
    rows: list[Tick]
    columns: list[Tick]
    row_name: str
    column_name: str
    low: str
    high: str
    stops: list[str]

    @property
    def span(self) -> tuple[float, float]:
        """How wide and how high the cells are together."""
        return self.side * len(self.columns), self.side * len(self.rows)

    @property
    def foot(self) -> float:
        return self.span[1]

    @property
    def middle(self) -> float:
        return self.span[0] / 2

    @property
    def scale_left(self) -> float:
        return self.span[0] + 60

    @property
    def width(self) -> float:
        return self.span[0] + 130

    @property
    def drawn_width(self) -> float:
        """Pixels: text as large as in other plots, however few the cells are."""
        return min(400, round(1.3 * self.width))

    @property
    def height(self) -> float:
        return max(self.span[1] + 56, 136)


CIVIDIS = ((0, 32, 76), (47, 66, 109), (87, 92, 109), (124, 123, 120), (166, 157, 117), (211, 193, 100), (255, 234, 70))
CELL, SPAN = 22, 260


def heat_map(
    title: str, note: str, matrix: Sequence[Sequence[float | None]], labels: tuple[Sequence[str], Sequence[str]],
    names: tuple[str, str] = ("block", "block"),
) -> HeatMap | None:  # fmt: skip
    """Cells that are None stay empty; the color runs from the smallest number, or 0, to the largest."""
    known = [value for row in matrix for value in row if value is not None]
    if not known:
        return None
    low, high = min(0.0, *known), max(*known, 0.0)
    step = min(CELL, SPAN / max(len(matrix), len(matrix[0])))
    cells = [
        HeatCell(round(x * step, 1), round(y * step, 1), cividis((value - low) / ((high - low) or 1)),
                 f"{labels[0][y]} → {labels[1][x]}: {value:.3f}")
        for y, row in enumerate(matrix) for x, value in enumerate(row) if value is not None
    ]  # fmt: skip
    rows, columns = ([Tick((place + 0.5) * step, text) for place, text in enumerate(one)] for one in labels)
    stops = [cividis(number / 6) for number in range(7)]
    return HeatMap(
        title, note, round(step, 1), cells, rows, columns, *names, short(low).replace("-", "−"), short(high), stops
    )


def cividis(share: float) -> str:
    """A color between dark blue (0) and yellow (1), as light as the number is large."""
    position = min(max(share, 0.0), 1.0) * (len(CIVIDIS) - 1)
    below = min(int(position), len(CIVIDIS) - 2)
    weight = position - below
    mixed = (round(a + weight * (b - a)) for a, b in zip(CIVIDIS[below], CIVIDIS[below + 1], strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def block_label(hookpoint: str) -> str:
    """'blocks.7.mlp.out' → '7'."""
    parts = hookpoint.split(".")
    return parts[1] if len(parts) > 1 else hookpoint


def block_maps(comparison: Comparison) -> list[HeatMap]:
    """How much of each block's directions come again in every other, by dictionary."""
    maps = []
    for one, evaluation in zip(comparison.dictionaries, comparison.evaluations, strict=True):
        pairs: dict[str, Any] = evaluation.facts.get("block_pairs") or {}
        if len(pairs.get("reads", ())) > 1:
            labels = [block_label(read) for read in pairs["reads"]]
            note = _(
                "Share of the live latents of a block (row) whose direction has a nearer counterpart in another "
                "block (column) than 99 of 100 random directions; the diagonal is the nearest other of the same "
                "block."
            )
            maps.append(
                heat_map(one.name, note, pairs["share_above_null_99"], (labels, labels), (_("block"), _("block")))
            )
    return [one for one in maps if one is not None]
