"""Percentiles, a row of figures in words, and what is compared with a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Row = dict[str, float]


class Target(NamedTuple):
    """One line of the verdict: what was measured, what was wanted, and whether it is met."""

    name: str
    figure: str
    target: str
    is_met: bool


def at_most(name: str, value: float, limit: float, unit: str) -> Target:
    return Target(name, f"{value:g} {unit}", f"<= {limit:g} {unit}", value <= limit)


def at_least(name: str, value: float, limit: float, unit: str = "") -> Target:
    return Target(name, f"{value:g} {unit}".strip(), f">= {limit:g} {unit}".strip(), value >= limit)


def none_of(name: str, n: float) -> Target:
    return Target(name, f"{n:g}", "0", n == 0)


def percentiles(values: Sequence[float], unit: str) -> Row:
    return {f"p{share} {unit}": percentile(values, share) for share in (50, 95, 99)}


def percentile(values: Sequence[float], share: int) -> float:
    """The smallest value that at least this share of the values does not exceed; 0 without values."""
    ordered = sorted(values)
    return round(ordered[max(0, -(-len(ordered) * share // 100) - 1)], 2) if ordered else 0.0


def sentence(row: Row) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in row.items())
