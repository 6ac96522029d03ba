"""Rate, describe, categorise: shares interpretable and contrast with controls, at patch level and at image level."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.domain.answers import Answers
from analysis.domain.reports.frame import (
    PARTITIONS,
    Headline,
    Line,
    Partition,
    Scope,
    Section,
    Subject,
    controls_in,
    headlines_from,
    rng,
    scope_of,
)
from analysis.domain.reports.quality import Asked, agreement_section, level_words, repeats_section
from analysis.plots import Axis
from analysis.statistics.agreement import Scale
from analysis.statistics.contrast import auc_over_controls
from analysis.statistics.figures import Figure
from analysis.statistics.ratings import INTERPRETABLE_FROM
from analysis.statistics.shares import Share, share_interpretable
from analysis.statistics.wording import Words
from annotation.models import Condition

LEVELS = ("patch", "image")
N_CATEGORIES = 4
SHARE_AXIS = Axis(0.0, 1.0, Words("share of features interpretable, by majority, 95 % interval"))
AUC_AXIS = Axis(
    0.0, 1.0, Words("P(feature rated above control), ties half, 95 % interval"), 0.5, Words("no better than a control")
)
AUC_STATEMENT = Words(
    "How often the rating of a feature is higher than the rating of a control, over all pairs of their "
    "answers: 0.5 is no difference. It needs no cut on the scale."
)


def headlines(sections: list[Section], subject: Subject) -> list[Headline]:
    name = Words("every %(label)s", label=Words(Condition.REAL.label))
    return headlines_from(
        sections,
        [
            (
                Words("share of features interpretable at %(level)s level", level=level_words(level)),
                level,
                "overall",
                name,
            )
            for level in LEVELS
        ],
    )


def sections(answers: Answers, subject: Subject) -> list[Section]:
    scope = scope_of(answers)
    found = [_overall_section(scope.real())]
    for partition in PARTITIONS[:3]:
        found += _share_sections(scope, partition)
    auc = [line for level in LEVELS for line in _auc_lines(scope, level)]
    found.append(Section("auc", Words("Control-corrected AUC"), AUC_STATEMENT, AUC_AXIS, auc))
    found.append(agreement(scope.real(), subject))
    repeats = repeats_section(
        answers, {"patch": Words("rating of the patches"), "image": Words("rating of the images")}
    )
    return found + ([repeats] if repeats else [])


def notes(scope: Scope) -> list[tuple[str, str]]:
    return [
        (Words("Cannot tell, %(level)s level", level=level_words(level)), str(int(np.sum(scope.number(level) == 0))))
        for level in LEVELS
    ]


def _overall(real: Scope, level: str) -> Share:
    [share] = _shares(
        real,
        level,
        np.zeros(real.item.size, dtype=np.int8),
        [Words("every %(label)s", label=Words(Condition.REAL.label))],
    )
    return share


def _overall_section(real: Scope) -> Section:
    shares = [(level, _overall(real, level)) for level in LEVELS]
    name = Words("every %(label)s", label=Words(Condition.REAL.label))
    lines = [Line(level, name, share.features) for level, share in shares]
    lines += [Line(level, Words("%(name)s, judgements", name=name), share.judgements) for level, share in shares]
    statement = Words(
        "Of all features, how many are interpretable: by the majority of their judgements, and of judgements."
    )
    axis = Axis(0.0, 1.0, Words("share interpretable, 95 % interval"))
    return Section("overall", Words("Share interpretable"), statement, axis, lines)


def _shares(scope: Scope, level: str, key: npt.NDArray[Any], names: list[str]) -> list[Share]:
    """`key` [answer]: which of `names` the item belongs to."""
    ratings = scope.ratings(scope.number(level))
    group = np.zeros(ratings.n_features, dtype=np.int64)
    group[ratings.feature] = key
    of = [Words("%(name)s, %(level)s level", name=name, level=level_words(level)) for name in names]
    return share_interpretable(ratings, rng(), group=group, names=of)


def _share_sections(scope: Scope, partition: Partition) -> list[Section]:
    chosen = scope.real() if partition.is_of_real else scope
    keys = chosen.present(partition.key)
    if partition.group == "dictionary" and len(keys) < 2:
        return []
    names = [partition.name(key) for key in keys]
    code = {key: index for index, key in enumerate(keys)}
    places = np.array([code.get(partition.key(fact), 0) for fact in scope.facts] or [0], dtype=np.int16)
    lines, judged = [], []
    for level in LEVELS:
        shares = _shares(chosen, level, places[chosen.fact], names) if names else []
        lines += [Line(level, name, share.features) for name, share in zip(names, shares, strict=True)]
        judged += [Line(level, name, share.judgements) for name, share in zip(names, shares, strict=True)]
    what = Words("features and controls") if partition.group == "condition" else Words("features")
    statement = Words(
        "Of the %(what)s, how many the majority of their judgements calls interpretable (3 mostly or 4 "
        'clearly). "Cannot tell" is a judgement that does not; a tie is no majority.',
        what=what,
    )
    of_judgements = Words("The same for single judgements instead of majorities, of %(what)s.", what=what)
    axis = SHARE_AXIS._replace(caption=Words("share of judgements interpretable, 95 % interval"))
    title = Words("Share interpretable %(part)s", part=partition.title)
    return [
        Section(partition.group, title, statement, SHARE_AXIS, lines),
        Section(
            f"{partition.group}-judgements", Words("%(title)s, judgements", title=title), of_judgements, axis, judged
        ),
    ]


def _auc_lines(scope: Scope, level: str) -> list[Line]:
    kinds = controls_in(scope)
    lines = [Line(level, Words("all controls"), _auc(scope, tuple(kinds), Words("all controls"), level))]
    return lines + [Line(level, Words(kind.label), _auc(scope, (kind,), Words(kind.label), level)) for kind in kinds]


def _auc(scope: Scope, controls: tuple[Condition, ...], name: str, level: str) -> Figure:
    compared = scope.where(scope.is_condition(Condition.REAL, *controls) & (scope.number(level) != 0))
    ratings = compared.ratings(compared.number(level))
    is_control = np.zeros(ratings.n_features, dtype=bool)
    is_control[ratings.feature] = ~compared.is_condition(Condition.REAL)
    of = Words("P(real rated above %(name)s), %(level)s level", name=name, level=level_words(level))
    return auc_over_controls(ratings, rng(), is_control=is_control, n_categories=N_CATEGORIES, of=of)


def agreement(real: Scope, subject: Subject) -> Section:
    """On the answers 1 to 4, and on interpretable (2) or not (1), where "cannot tell" is not."""
    asked = []
    for level in LEVELS:
        values = real.number(level)
        verdicts = (values >= INTERPRETABLE_FROM).astype(np.int8) + np.int8(1)
        asked.append(Asked(level, Words("answers 1 to 4"), values, N_CATEGORIES, Scale.ORDINAL))
        asked.append(Asked(level, Words("yes or no"), verdicts, 2, Scale.NOMINAL, Words("interpretable")))
    return agreement_section(real, asked)
