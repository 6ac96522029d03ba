"""Alignment and spurious: a question answered by yes, no or cannot tell.

Alignment: share of pairs called the same, by bin of their cosine. Spurious: share of features that most people call
spurious for their class, and of single judgements.
"""

from __future__ import annotations

import numpy as np

from analysis.domain.answers import Answers
from analysis.domain.measures import UNTOLD
from analysis.domain.reports.frame import (
    Headline,
    Line,
    Scope,
    Section,
    Subject,
    headlines_from,
    rng,
    scope_of,
    sections_by_part,
)
from analysis.domain.reports.quality import Asked, agreement_section, repeats_section
from analysis.plots import Axis
from analysis.statistics.agreement import Scale
from analysis.statistics.alignment import share_matched_by_bin
from analysis.statistics.categories import share
from analysis.statistics.figures import Figure
from analysis.statistics.ratings import INTERPRETABLE_FROM
from analysis.statistics.shares import share_interpretable
from analysis.statistics.wording import Words

AXIS = Axis(0.0, 1.0, Words("share, 95 % interval"))
NAMES = {"alignment": ("same", Words("called the same")), "spurious": ("spurious", Words("called spurious"))}


def share_yes(scope: Scope, column: str, words: str, name: str) -> Figure:
    told = scope.where(scope.number(column) != UNTOLD)
    return share(
        told.measured(column), rng(), of=Words("share of judgements %(words)s: %(name)s", words=words, name=name)
    )


def share_by_majority(scope: Scope, column: str, words: str, name: str) -> Figure:
    """By the majority of each item's judgements; cannot tell is a judgement that does not say yes."""
    ratings = scope.ratings(np.where(scope.number(column) == 1, INTERPRETABLE_FROM, 0))
    group = np.zeros(ratings.n_features, dtype=np.int64)
    [found] = share_interpretable(ratings, rng(), group=group, names=[name])
    return found.features._replace(of=Words("share %(words)s by majority: %(name)s", words=words, name=name))


def headlines(sections: list[Section], subject: Subject) -> list[Headline]:
    _, words = NAMES[subject.protocol]
    return headlines_from(
        sections,
        [
            (Words("are %(words)s by the majority", words=words), "", "overall", Words("by majority")),
            (Words("of the judgements: %(words)s", words=words), "", "overall", Words("judgements")),
        ],
    )


def _overall(real: Scope, column: str, words: str) -> Section:
    lines = [
        Line("", Words("by majority"), share_by_majority(real, column, words, Words("all"))),
        Line("", Words("judgements"), share_yes(real, column, words, Words("all"))),
    ]
    statement = Words(
        "How many are %(words)s: by the majority of their judgements, and of judgements that could tell.", words=words
    )
    return Section("overall", Words("Share %(words)s", words=words), statement, AXIS, lines)


def sections(answers: Answers, subject: Subject) -> list[Section]:
    scope = scope_of(answers)
    column, words = NAMES[subject.protocol]
    real = scope.real()
    found = [_overall(real, column, words), *(_bins(real) if column == "same" else [])]
    parts = sections_by_part(
        scope,
        lambda part, name: share_by_majority(part, column, words, name),
        what=Words("Share %(words)s", words=words),
        statement=Words(
            "How many are %(words)s by the majority of their judgements; a tie is no majority.", words=words
        ),
        axis=AXIS,
    )
    found += [part for part in parts if part.group != "variant" or column != "same"]
    found.append(agreement(real, subject))
    repeats = repeats_section(answers, {column: words})
    return found + ([repeats] if repeats else [])


def agreement(real: Scope, subject: Subject) -> Section:
    codes = (1 + real.number(NAMES[subject.protocol][0])).astype(np.int8)  # 0 cannot tell, 1 no, 2 yes
    return agreement_section(real, [Asked("", Words("yes or no"), codes, 2, Scale.NOMINAL, Words("yes"))])


def notes(scope: Scope) -> list[tuple[str, str]]:
    return [(Words("Cannot tell"), str(int(np.sum(scope.numbers[0] == UNTOLD))))]


def _bins(real: Scope) -> list[Section]:
    """One bin per variant (the aligner names its bins), in the order of their cosines."""
    told = real.where(real.number("same") != UNTOLD)
    if not told.item.size:
        return []
    bins = told.present(lambda fact: fact.variant)
    code = np.array([bins.index(fact.variant) if fact.variant in bins else 0 for fact in told.facts])
    wide = told._replace(
        numbers=np.concatenate([told.numbers, code[told.fact][None].astype(told.numbers.dtype)]),
        names=(*told.names, "bin"),
    )
    measured = wide.measured("same", "cosine", "null_percentile", "bin")
    found = share_matched_by_bin(
        measured._replace(values=measured.values[:1]), rng(), bins=measured.values[3].astype(np.int64),
        cosine=measured.values[1], null_percentile=measured.values[2],
    )  # fmt: skip
    lines = []
    for one in sorted(found, key=lambda one: one.mean_cosine):
        null = (
            ""
            if np.isnan(one.mean_null_percentile)
            else Words(", null %(percent)s %%", percent=f"{one.mean_null_percentile:.0f}")
        )
        lines.append(Line("", Words("%(bin)s%(null)s", bin=one.name, null=null), one.matched))
    statement = Words(
        "Of the judgements that could tell, how many call the pair the same, by the cosine of the two "
        "decoder directions. Null: the percentile of these cosines among those of random dictionaries of the "
        "same size."
    )
    return [Section("bins", Words("Share matched by cosine"), statement, AXIS, lines)]
