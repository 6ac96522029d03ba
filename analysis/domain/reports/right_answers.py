"""Two alternatives and intruder: answers that are right or wrong.

Accuracy against chance, by block, condition, dictionary and kind of item; what references add (lift); calibration of
confidence; features above the controls; verdicts on single features.
"""

from __future__ import annotations

import numpy as np

from analysis.domain.answers import Answers
from analysis.domain.reports.frame import (
    Headline,
    Line,
    Scope,
    Section,
    Subject,
    controls_in,
    headlines_from,
    rng,
    scope_of,
    sections_by_part,
)
from analysis.domain.reports.quality import Asked, agreement_section, repeats_section
from analysis.plots import Axis
from analysis.statistics.accuracy import accuracy, calibration, difference, share_above_chance
from analysis.statistics.agreement import Scale
from analysis.statistics.figures import Figure
from analysis.statistics.wording import Words
from annotation.domain.protocols import PROTOCOLS
from annotation.models import Condition

WITHOUT = "no-reference"
CONFIDENCE = {1: Words("a guess"), 2: Words("fairly sure"), 3: Words("sure")}
LIFT_AXIS = Axis(-0.5, 0.5, Words("difference of shares right, 95 % interval"), 0.0, Words("no difference"))


def chance_of(subject: Subject) -> float:
    chance = PROTOCOLS[subject.protocol].chance(subject.options)
    return 0.5 if chance is None else chance


def with_references(scope: Scope) -> Scope:
    return scope.where(scope.is_fact(lambda fact: fact.variant != WITHOUT))


def share_right(scope: Scope, name: str) -> Figure:
    return accuracy(scope.measured("right"), rng(), of=Words("share right: %(name)s", name=name))


def headlines(sections: list[Section], subject: Subject) -> list[Headline]:
    return headlines_from(
        sections,
        [
            (Words("of the answers on features are right"), "", "overall", Words("share right")),
            (
                Words("accuracy minus chance (%(chance)s)", chance=f"{chance_of(subject):.2f}"),
                "",
                "overall",
                Words("accuracy minus chance"),
            ),
        ],
    )


def _overall(scope: Scope, chance: float) -> Section:
    real = with_references(scope.real())
    minus = accuracy(real.measured("right"), rng(), of=Words("accuracy minus chance, every feature"), minus=chance)
    lines = [
        Line("", Words("share right"), share_right(real, Words("every feature"))),
        Line("", Words("accuracy minus chance"), minus),
    ]
    statement = Words(
        "Share of answers on features that are right, and how far above chance (%(chance)s) it lies.",
        chance=f"{chance:.2f}",
    )
    return Section("overall", Words("Accuracy"), statement, Axis(0.0, 1.0, Words("share, 95 % interval")), lines)


def sections(answers: Answers, subject: Subject) -> list[Section]:
    scope = scope_of(answers)
    shown = with_references(scope)
    chance = chance_of(subject)
    axis = Axis(
        0.0, 1.0, Words("share right, 95 % interval"), chance, Words("chance, %(chance)s", chance=f"{chance:.2f}")
    )
    statement = Words("Share of answers that are right; the line is chance (%(chance)s).", chance=f"{chance:.2f}")
    found = [_overall(scope, chance)]
    parts = sections_by_part(shown, share_right, what=Words("Accuracy"), statement=statement, axis=axis)
    found += [part for part in parts if part.group != "variant"]
    found += _variants(scope, axis, statement)
    found += [_controls(shown), _verdicts(shown.real(), chance)]
    if subject.protocol == "two-alternative":
        found.append(_calibration(shown.real(), axis))
    found.append(agreement(scope.real(), subject))
    repeats = repeats_section(answers, {"right": Words("right or wrong")})
    return found + ([repeats] if repeats else [])


def agreement(real: Scope, subject: Subject) -> Section:
    if subject.protocol == "intruder":
        codes = (real.number("cell") + 1).astype(np.int8)
        asked = Asked("", Words("the place chosen"), codes, max(5, int(codes.max(initial=1))), Scale.NOMINAL)
    else:
        asked = Asked(
            "", Words("the choice"), (real.number("right") + 1).astype(np.int8), 2, Scale.NOMINAL, Words("right")
        )
    return agreement_section(real, [asked])


def notes(scope: Scope) -> list[tuple[str, str]]:
    return []


def _variants(scope: Scope, axis: Axis, statement: str) -> list[Section]:
    """Accuracy per kind of item, and what each gains over the same without references."""
    real = scope.real()
    variants = real.present(lambda fact: fact.variant)
    if len(variants) < 2:
        return []
    lines = [
        Line("", variant or Words("plain"), share_right(_of_variants(real, variant), variant or Words("plain")))
        for variant in variants
    ]
    found = [Section("variant", Words("Accuracy by kind of item"), statement, axis, lines)]
    if WITHOUT in variants:
        others = [variant for variant in variants if variant != WITHOUT]
        lifts = [Line("", Words("every kind"), _lift(real, *others))]
        lifts += [Line("", variant or Words("plain"), _lift(real, variant)) for variant in others if len(others) > 1]
        words = Words(
            "Share right with references less share right without: what seeing the feature adds to guessing well."
        )
        found.append(Section("lift", Words("Lift by references"), words, LIFT_AXIS, lifts))
    return found


def _of_variants(scope: Scope, *variants: str) -> Scope:
    return scope.where(scope.is_fact(lambda fact: fact.variant in variants))


def _lift(real: Scope, *variants: str) -> Figure:
    both = _of_variants(real, *variants, WITHOUT)
    of = Words("lift, %(what)s less %(without)s", what=" and ".join(variants), without=WITHOUT)
    return _difference(both, both.is_fact(lambda fact: fact.variant != WITHOUT), of)


def _difference(scope: Scope, is_first: np.ndarray, of: str) -> Figure:
    """The mask goes along as a second value, for measured answers are sorted by feature."""
    measured = scope._replace(
        numbers=np.stack([scope.number("right"), is_first.astype(scope.numbers.dtype)]), names=("right", "first")
    ).measured("right", "first")
    return difference(measured, rng(), of=of, is_first=measured.values[1] != 0)


def _controls(shown: Scope) -> Section:
    lines = []
    for control in controls_in(shown):
        both = shown.where(shown.is_condition(Condition.REAL, control))
        of = Words("share right on features less that on %(label)s", label=Words(control.label))
        lines.append(Line("", Words(control.label), _difference(both, both.is_condition(Condition.REAL), of)))
    statement = Words(
        "Share right on features less share right on controls: what the dictionary adds to any direction."
    )
    return Section("controls", Words("Features against controls"), statement, LIFT_AXIS, lines)


def _verdicts(real: Scope, chance: float) -> Section:
    figure = share_above_chance(real.measured("right"), chance=chance, of=Words("share of features told above chance"))
    n = figure.n_answers / figure.n_features if figure.n_features else 0.0
    statement = Words(
        "Features whose own answers are above chance by an exact binomial test, at a false discovery rate of "
        "5 %% over all of them. With %(n)s answers per feature, a feature that is not among them may still "
        "be interpretable.",
        n=f"{n:.1f}",
    )
    return Section(
        "verdicts", Words("Single features above chance"), statement, None, [Line("", Words("above chance"), figure)]
    )


def _calibration(real: Scope, axis: Axis) -> Section:
    measured = real.measured("right", "confidence")
    lines = [
        Line("", name, figure)
        for name, figure in calibration(
            measured._replace(values=measured.values[:1]), rng(), confidence=measured.values[1], of=CONFIDENCE
        )
    ]
    statement = Words(
        "Share right by how sure the annotator was: people who know what they know are right where they are sure."
    )
    return Section("calibration", Words("Calibration of confidence"), statement, axis, lines)
