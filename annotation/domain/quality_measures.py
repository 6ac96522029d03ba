"""What is measured of an annotator's work, and the signals drawn from it. Plain Python: rows in, numbers out.

A signal is for a person to look at, never a reason by itself to leave somebody out (research/annotation.md §4).
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from django.utils.translation import gettext as _

Z = 1.959964
RUBBER_STAMP_MS = 500  # median over at least five items: Potato's telemetry
FEW = 5
STRAIGHT_SHARE, STRAIGHT_FROM = 0.9, 20  # the same answer again and again
CHECKS_BELOW = 0.8  # of catch items right; IMI (arXiv 2307.05471) asks for as much
AGREEMENT_BELOW = 0.5
AGREEMENT_FROM = 10
REPEATS_BELOW = 0.6
QUICK_SHARE = 0.1
CHECK_DROP, CHECKS_FOR_DRIFT = 0.25, 12
SPEED_UP, ANSWERS_FOR_DRIFT = 0.5, 30


class Share(NamedTuple):
    """So many of so many."""

    right: int
    of: int

    @property
    def share(self) -> float | None:
        return self.right / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval."""
        return wilson(self.right, self.of) if self.of else None

    @property
    def high(self) -> float:
        return wilson(self.right, self.of)[1] if self.of else 1.0


class Signal(NamedTuple):
    """Something to look at, with a sentence."""

    name: str
    sentence: str


@dataclass
class Measures:
    """What one annotator's answers add up to, in the order they were given."""

    visible_ms: list[int] = field(default_factory=list)
    checks: list[bool] = field(default_factory=list)
    gold: list[bool] = field(default_factory=list)
    catch: list[bool] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    n: int = 0
    n_too_quick: int = 0
    n_excluded: int = 0
    n_late: int = 0
    n_agreeing: int = 0
    n_compared: int = 0
    n_repeats_same: int = 0
    n_repeats: int = 0

    @property
    def median_seconds(self) -> float | None:
        return statistics.median(self.visible_ms) / 1000 if self.visible_ms else None

    @property
    def fifth_seconds(self) -> float | None:
        """The 5th percentile: the quickest answers."""
        ordered = sorted(self.visible_ms)
        return ordered[int(0.05 * (len(ordered) - 1))] / 1000 if ordered else None

    @property
    def gold_share(self) -> Share:
        return Share(sum(self.gold), len(self.gold))

    @property
    def catch_share(self) -> Share:
        return Share(sum(self.catch), len(self.catch))

    @property
    def agreement(self) -> Share:
        """With the majority of the others, on items of the core."""
        return Share(self.n_agreeing, self.n_compared)

    @property
    def repeats(self) -> Share:
        """Own items answered alike when shown again."""
        return Share(self.n_repeats_same, self.n_repeats)

    @property
    def commonest_share(self) -> float | None:
        total = self.answers.total()
        return self.answers.most_common(1)[0][1] / total if total else None

    @property
    def entropy(self) -> float | None:
        return entropy(self.answers) if self.answers else None

    @property
    def check_thirds(self) -> tuple[float, float] | None:
        if len(self.checks) < CHECKS_FOR_DRIFT:
            return None
        first, last = thirds(self.checks)
        return sum(first) / len(first), sum(last) / len(last)

    @property
    def second_thirds(self) -> tuple[float, float] | None:
        """Median seconds in the first and the last third."""
        if len(self.visible_ms) < ANSWERS_FOR_DRIFT:
            return None
        first, last = thirds(self.visible_ms)
        return statistics.median(first) / 1000, statistics.median(last) / 1000

    @property
    def signals(self) -> list[Signal]:
        drawn = (
            rubber_stamp(self), straight_lining(self), poor_checks(self), disagreement(self), poor_repeats(self),
            too_quick(self), check_drift(self), speed_drift(self),
        )  # fmt: skip
        return [signal for signal in drawn if signal is not None]


def wilson(right: int, of: int) -> tuple[float, float]:
    share, z2 = right / of, Z * Z
    center = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return max(0.0, center - half), min(1.0, center + half)


def entropy(counts: Counter[str]) -> float:
    """In bits; 0 where all answers are the same."""
    total = counts.total()
    return -sum(n / total * math.log2(n / total) for n in counts.values())


def thirds(values: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    n = len(values) // 3
    return values[:n], values[-n:]


def pair_agreement(items: Iterable[Counter[str]]) -> float | None:
    """The share of pairs of answers to one item that say the same; None where no item has two."""
    same = pairs = 0
    for counts in items:
        n = counts.total()
        pairs += n * (n - 1) // 2
        same += sum(k * (k - 1) // 2 for k in counts.values())
    return same / pairs if pairs else None


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def rubber_stamp(one: Measures) -> Signal | None:
    median = one.median_seconds
    if median is None or len(one.visible_ms) < FEW or 1000 * median >= RUBBER_STAMP_MS:
        return None
    return Signal(
        _("rubber stamp"),
        _("Half of the items were looked at for less than %(median)s s.") % {"median": f"{median:.1f}"},
    )


def straight_lining(one: Measures) -> Signal | None:
    share = one.commonest_share
    if share is None or one.answers.total() < STRAIGHT_FROM or share < STRAIGHT_SHARE:
        return None
    return Signal(_("straight-lining"), _("%(percent)s of the answers are the same.") % {"percent": percent(share)})


def poor_checks(one: Measures) -> Signal | None:
    checks = Share(sum(one.checks), len(one.checks))
    if checks.of < FEW or checks.high >= CHECKS_BELOW:
        return None
    return Signal(
        _("checks"),
        _("%(right)s of %(of)s gold and catch items right: clearly below 80 %%.")
        % {"right": checks.right, "of": checks.of},
    )


def disagreement(one: Measures) -> Signal | None:
    if one.n_compared < AGREEMENT_FROM or one.agreement.high >= AGREEMENT_BELOW:
        return None
    return Signal(
        _("disagreement"),
        _("Agrees with the majority of the others on %(n_agreeing)s of %(n_compared)s items.")
        % {"n_agreeing": one.n_agreeing, "n_compared": one.n_compared},
    )


def poor_repeats(one: Measures) -> Signal | None:
    share = one.repeats.share
    if share is None or one.n_repeats < FEW or share >= REPEATS_BELOW:
        return None
    return Signal(
        _("repeats"),
        _("Answered %(n_repeats_same)s of %(n_repeats)s own items alike when they came again.")
        % {"n_repeats_same": one.n_repeats_same, "n_repeats": one.n_repeats},
    )


def too_quick(one: Measures) -> Signal | None:
    if one.n_too_quick < FEW or one.n_too_quick < QUICK_SHARE * one.n:
        return None
    return Signal(
        _("too quick"),
        _("%(n_too_quick)s answers came before the minimum viewing time was over.") % {"n_too_quick": one.n_too_quick},
    )


def check_drift(one: Measures) -> Signal | None:
    if one.check_thirds is None:
        return None
    first, last = one.check_thirds
    both, n = (first + last) / 2, len(one.checks) // 3
    by_chance = Z * math.sqrt(both * (1 - both) * 2 / n)  # of the difference of two shares
    if first - last < max(CHECK_DROP, by_chance):
        return None
    return Signal(
        _("drift of checks"),
        _("Checks right fell from %(earlier)s in the first third to %(later)s.")
        % {"earlier": percent(first), "later": percent(last)},
    )


def speed_drift(one: Measures) -> Signal | None:
    if one.second_thirds is None or one.second_thirds[1] >= SPEED_UP * one.second_thirds[0]:
        return None
    first, last = one.second_thirds
    return Signal(
        _("drift of speed"),
        _("The median time fell from %(first)s s in the first third to %(last)s s.")
        % {"first": f"{first:.1f}", "last": f"{last:.1f}"},
    )
