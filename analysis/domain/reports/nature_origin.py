"""Nature and origin: shares of superficial, conceptual and uninterpretable features; is the study blind?"""

from __future__ import annotations

import numpy as np

from analysis.domain.answers import Answers
from analysis.domain.reports.frame import (
    PARTITIONS,
    Headline,
    Line,
    Scope,
    Section,
    Subject,
    controls_in,
    headlines_from,
    lines_by,
    rng,
    scope_of,
)
from analysis.domain.reports.quality import Asked, agreement_section, repeats_section
from analysis.plots import Axis
from analysis.statistics.agreement import Scale
from analysis.statistics.categories import Detection, origin, share
from analysis.statistics.figures import Figure
from analysis.statistics.wording import Words
from annotation.domain.protocols.nature_origin import NATURES
from annotation.models import Condition

STATEMENT = Words("Of the judgements, how many call the feature superficial, conceptual or uninterpretable.")
SHARE_AXIS = Axis(0.0, 1.0, Words("share of judgements, 95 % interval"))
ORIGIN_AXIS = Axis(0.0, 1.0, Words("95 % interval"), 0.5, Words("chance: the study is blind"))


def share_of(scope: Scope, nature: str, name: str) -> Figure:
    measured = scope.measured("nature")
    chosen = measured._replace(values=measured.values == NATURES.index(nature))
    return share(chosen, rng(), of=Words("share %(nature)s: %(name)s", nature=Words(nature), name=name))


def guessed(scope: Scope, name: str) -> Detection:
    return origin(scope.measured("said_feature", "is_feature"), rng(), of=Words("origin, %(name)s", name=name))


def headlines(sections: list[Section], subject: Subject) -> list[Headline]:
    return headlines_from(
        sections,
        [
            (Words("of the judgements on features say conceptual"), "", "overall", "conceptual"),
            (
                Words("balanced accuracy of the guess of the origin"),
                "",
                "origin",
                Words("balanced accuracy, all controls"),
            ),
        ],
    )


def sections(answers: Answers, subject: Subject) -> list[Section]:
    scope = scope_of(answers)
    lines = [Line("", Words(nature), share_of(scope.real(), nature, Words("every feature"))) for nature in NATURES]
    found = [Section("overall", Words("Nature of all features"), STATEMENT, SHARE_AXIS, lines)]
    for partition in PARTITIONS[:3]:
        lines = []
        for nature in NATURES:
            lines += lines_by(partition, scope, lambda part, name, nature=nature: share_of(part, nature, name), nature)  # type: ignore[misc]
        if partition.group != "dictionary" or len(lines) > len(NATURES):
            found.append(
                Section(partition.group, Words("Nature %(part)s", part=partition.title), STATEMENT, SHARE_AXIS, lines)
            )
    found.append(_origin(scope))
    found.append(agreement(scope.real(), subject))
    repeats = repeats_section(answers, {"nature": Words("nature"), "said_feature": Words("origin")})
    return found + ([repeats] if repeats else [])


def agreement(real: Scope, subject: Subject) -> Section:
    codes = (1 + real.number("nature")).astype(np.int8)
    return agreement_section(real, [Asked("", Words("nature"), codes, len(NATURES), Scale.NOMINAL)])


def notes(scope: Scope) -> list[tuple[str, str]]:
    return []


def _compared(scope: Scope, *controls: Condition) -> Scope:
    return scope.where(scope.is_condition(Condition.REAL, *(controls or controls_in(scope))))


def _origin(scope: Scope) -> Section:
    everything = guessed(_compared(scope), Words("all controls"))
    lines = [
        Line("", Words("said feature, of features"), everything.hit),
        Line("", Words("said feature, of controls"), everything.false_alarm),
        Line("", Words("balanced accuracy, all controls"), everything.balanced_accuracy),
    ]
    for control in controls_in(scope):
        figure = guessed(_compared(scope, control), Words(control.label)).balanced_accuracy
        lines.append(Line("", Words("balanced accuracy, %(label)s", label=Words(control.label)), figure))
    one = everything.d_prime
    told = (
        ""
        if one.value is None or one.low is None
        else Words(
            " d′ is %(value)s [%(low)s, %(high)s].",
            value=f"{one.value:.2f}",
            low=f"{one.low:.2f}",
            high=f"{one.high:.2f}",
        )
    )
    statement = Words(
        "People guess whether they saw a feature or a control. An interval of balanced accuracy around 0.5 "
        "says that the study is blind; above it, the pictures give controls away.%(told)s",
        told=told,
    )
    return Section("origin", Words("Guess of the origin"), statement, ORIGIN_AXIS, lines)
