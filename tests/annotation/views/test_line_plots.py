"""The labels of a plot's axis."""

from __future__ import annotations

import pytest

from annotation.domain.run_pages import Series
from annotation.views.line_plots import line_plot


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([16.0001, 16.0004], ["16.0001", "16.0002", "16.0003", "16.0004"]),
        (
            [12_000_001.0, 12_000_003.0],
            ["12,000,001.0", "12,000,001.5", "12,000,002.0", "12,000,002.5", "12,000,003.0"],
        ),
        ([0.0, 0.4], ["0", "0.1", "0.2", "0.3", "0.4"]),
        ([16.0, 16.0], ["16"]),
    ],
)
def test_no_two_ticks_read_the_same(values: list[float], texts: list[str]) -> None:
    plot = line_plot("l0", [Series("blocks.0", [0, 1], values)])
    assert [tick.text for tick in plot.y_ticks] == texts
