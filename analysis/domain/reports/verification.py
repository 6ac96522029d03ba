"""Verification of explanations: hits, false alarms, balanced accuracy, d', and what the sentence itself tells."""

from __future__ import annotations

import numpy as np

from analysis.domain.answers import Answers
from analysis.domain.measures import UNTOLD
from analysis.domain.reports.frame import (
    PARTITIONS,
    Headline,
    Line,
    Scope,
    Section,
    Subject,
    headlines_from,
    lines_by,
    rng,
    scope_of,
)
from analysis.domain.reports.quality import Asked, agreement_section, repeats_section
from analysis.plots import Axis
from analysis.statistics.agreement import Scale
from analysis.statistics.detection import Detection, detection, graded_auc, information
from analysis.statistics.figures import Figure
from analysis.statistics.wording import Words
from annotation.models import Condition

COUNTS = ("hits", "signals", "alarms", "noises")
HARD = ("hits", "signals", "hard_alarms", "hard_noises")
N_GRADES = 5  # cannot tell, then 1 to 4
RATE_AXIS = Axis(0.0, 1.0, Words("rate, 95 % interval"), 0.5, Words("chance of balanced accuracy"))
D_AXIS = Axis(-1.0, 4.0, Words("d′, 95 % interval"), 0.0, Words("chance"))


def detected(scope: Scope, name: str, counts: tuple[str, ...] = COUNTS) -> Detection:
    return detection(scope.measured(*counts), rng(), of=name)


def headlines(sections: list[Section], subject: Subject) -> list[Headline]:
    return headlines_from(
        sections,
        [
            (Words("balanced accuracy of the explanations"), "", "overall", Words("balanced accuracy")),
            (Words("d′ of the explanations"), "", "d-prime", Condition.REAL.label),
        ],
    )


def sections(answers: Answers, subject: Subject) -> list[Section]:
    scope = scope_of(answers)
    real = scope.real()
    found = [_rates(real)]
    statement = Words("Mean of the hit rate and of one less the false alarm rate; 0.5 is chance.")
    for partition in PARTITIONS:
        lines = lines_by(partition, scope, lambda part, name: detected(part, name).balanced_accuracy)
        if partition.group in {"block", "condition"} or len(lines) > 1:
            title = Words("Balanced accuracy %(part)s", part=partition.title)
            found.append(Section(partition.group, title, statement, RATE_AXIS, lines))
    d_lines = lines_by(PARTITIONS[1], scope, lambda part, name: detected(part, name).d_prime)
    words = Words(
        "z(hit rate) less z(false alarm rate), pooled over answers, with the log-linear correction; 0 is chance."
    )
    found.append(Section("d-prime", Words("d′ of features and controls"), words, D_AXIS, d_lines))
    found += [section for section in (_information(scope), _graded(real)) if section]
    found.append(agreement(real, subject))
    repeats = repeats_section(answers, {"marked": Words("the images marked"), "grade": Words("the grade")})
    return found + ([repeats] if repeats else [])


def notes(scope: Scope) -> list[tuple[str, str]]:
    return []


def _rates(real: Scope) -> Section:
    found = detected(real, Words("every explanation"))
    lines = [Line("", Words("hit rate"), found.hit), Line("", Words("false alarm rate"), found.false_alarm)]
    if np.any(real.number("hard_noises") > 0):
        lines.append(
            Line("", Words("false alarms, look-alikes"), detected(real, Words("look-alikes"), HARD).false_alarm)
        )
    lines.append(Line("", Words("balanced accuracy"), found.balanced_accuracy))
    statement = Words(
        "Hits: images that activate the feature and are said to fit. False alarms: silent images said to "
        "fit, among them silent ones that look alike."
    )
    return Section("overall", Words("Hits and false alarms"), statement, RATE_AXIS, lines)


def _information(scope: Scope) -> Section | None:
    both = scope.where(scope.is_condition(Condition.REAL, Condition.SHUFFLED_EXPLANATION))
    is_shuffled = both.is_condition(Condition.SHUFFLED_EXPLANATION)
    if not is_shuffled.any():
        return None
    numbers = np.concatenate([both.numbers[:4], is_shuffled[None].astype(both.numbers.dtype)])
    measured = both._replace(numbers=numbers, names=(*COUNTS, "shuffled")).measured(*COUNTS, "shuffled")
    figure = information(
        measured._replace(values=measured.values[:4]), rng(), of=Words("balanced accuracy less that when shuffled"),
        is_shuffled=measured.values[4] != 0,
    )  # fmt: skip
    statement = Words("Balanced accuracy under a feature's own explanation less that under another's.")
    axis = Axis(
        -0.5, 0.5, Words("difference of balanced accuracy, 95 % interval"), 0.0, Words("the sentence tells nothing")
    )
    return Section(
        "information",
        Words("What the explanation tells"),
        statement,
        axis,
        [Line("", Words("own less shuffled"), figure)],
    )


def _graded(real: Scope) -> Section | None:
    """Where one image is graded from surely not to surely."""
    graded = real.where(real.number("grade") != UNTOLD)
    if not graded.item.size:
        return None
    cells = graded.number("grade") + N_GRADES * (graded.number("noises") > 0)
    measured = graded._replace(numbers=cells[None], names=("cell",)).measured("cell")
    figure: Figure = graded_auc(
        measured, rng(), n_categories=N_GRADES, of=Words("P(a fitting image is graded above another)")
    )
    statement = Words("How often an image that activates the feature is graded above one that does not, ties half.")
    return Section(
        "auc", Words("AUC of the graded answers"), statement, RATE_AXIS, [Line("", Words("every explanation"), figure)]
    )


def agreement(real: Scope, subject: Subject) -> Section:
    """Image by image: each of a panel is judged apart."""
    n = int((real.number("signals") + real.number("noises")).max(initial=1))
    bits = (real.number("marked")[:, None].astype(np.int64) >> np.arange(n)) & 1
    apart = real._replace(
        item=(real.item[:, None].astype(np.int64) * n + np.arange(n)).ravel(), annotator=np.repeat(real.annotator, n)
    )
    return agreement_section(
        apart, [Asked("", Words("fits or not"), (1 + bits.ravel()).astype(np.int8), 2, Scale.NOMINAL, Words("fits"))]
    )
