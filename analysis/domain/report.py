"""The report of a study, whatever its protocol: answers in, sections of figures out.

The same function serves the page, the interface and `recompute_report`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from django.utils.translation import gettext as _

from analysis.domain.answers import Answers, collect, rows_of_study
from analysis.domain.reports import (
    adjudicated,
    nature_origin,
    pairwise,
    patch_marking,
    rate_describe,
    right_answers,
    verification,
    yes_no,
)
from analysis.domain.reports.frame import Headline, Report, Scope, Section, Settled, Subject, scope_of
from analysis.domain.reports.quality import reference_section
from analysis.statistics.bootstrap import n_resamples_for
from analysis.statistics.figures import Figure
from annotation.domain.adjudication import settled_items
from annotation.domain.preregistration import departures
from annotation.domain.protocols import options_of
from annotation.domain.unblinding import unblinding_of
from annotation.models import Study

__all__ = ["Report", "StillBlindError", "Subject", "figures_of", "make_report", "report_of_study", "subject_of"]


class StillBlindError(Exception):
    """The study is not closed and unblinded; the message says what to do."""


class Family(NamedTuple):
    headlines: Callable[[list[Section], Subject], list[Headline]]
    sections: Callable[[Answers, Subject], list[Section]]
    agreement: Callable[[Scope, Subject], Section | None]
    notes: Callable[[Scope], list[tuple[str, str]]]


def _family(module: ModuleType) -> Family:
    return Family(module.headlines, module.sections, module.agreement, module.notes)


FAMILIES = {
    "rate-describe-categorise": _family(rate_describe),
    "two-alternative": _family(right_answers),
    "intruder": _family(right_answers),
    "verification": _family(verification),
    "pairwise": _family(pairwise),
    "patch-marking": _family(patch_marking),
    "nature-origin": _family(nature_origin),
    "alignment": _family(yes_no),
    "spurious": _family(yes_no),
    "adjudication": _family(adjudicated),
}


def subject_of(study: Study) -> Subject:
    settled = [Settled(one.item_id, one.judge, one.verdict, one.majority, one.answers) for one in settled_items(study)]
    return Subject(study.protocol, options_of(study), tuple(study.ineligible), settled=settled)


def report_of_study(study: Study, *, include_simulated: bool) -> Report:
    if unblinding_of(study) is None:
        raise StillBlindError(_("'%(name)s' is blind: close it and unblind it to see results.") % {"name": study.name})
    subject = subject_of(study)._replace(departures=departures(study))
    answers = collect(
        rows_of_study(study), protocol=subject.protocol, options=subject.options, include_simulated=include_simulated
    )
    return make_report(answers, subject, include_simulated=include_simulated)


def make_report(answers: Answers, subject: Subject, *, include_simulated: bool) -> Report:
    family = FAMILIES[subject.protocol]
    scope = scope_of(answers)
    sections = family.sections(answers, subject)
    more = [reference_section(scope), adjudicated.settled_section(subject)]
    return Report(
        subject,
        family.headlines(sections, subject),
        [*sections, *(section for section in more if section)],
        family.notes(scope),
        answers.tally,
        len(answers.annotators),
        answers.n_items,
        n_resamples_for(answers.item.size),
        include_simulated,
    )


def figures_of(report: Report) -> list[tuple[str, str, str, Figure]]:
    """Every figure of a report: (level, group of figures, name, figure); the rows of its tables and CSV files."""
    return [
        (line.series, section.group, line.name, line.figure) for section in report.sections for line in section.lines
    ]
