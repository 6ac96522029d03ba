"""What a draft will cost and what it will be able to tell: judgements, hours, pay, expected half-widths of intervals.

Half-widths follow from the spread between features and between people: that of the last closed pilot where there is
one, else the usual spread (research/annotation.md §3) about a share that the researcher assumes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from django.utils.translation import gettext as _

from analysis.domain.pilot import report_of_pilot
from analysis.statistics.components import Components
from analysis.statistics.half_widths import expected_half_width, share_components
from annotation.domain.sampling import SamplePreview
from annotation.domain.setting_words import share_words
from annotation.domain.study_checklist import SECONDS_PER_JUDGEMENT, Estimate, launch_estimate, try_sample
from annotation.models import Condition, Study

FEW_PEOPLE = 8
WIDEST = 0.5


class Assumptions(NamedTuple):
    """What the researcher assumes; seconds and share are the pilot's where there is one and nothing is given."""

    n_annotators: int = 10
    share: float | None = None
    seconds: float | None = None
    hourly_pay: float = 0.0


class PlanRow(NamedTuple):
    """A group of items, and how precisely a share over them will be known (None: not at all)."""

    group: str
    name: str
    n_items: int
    half_width: float | None

    @property
    def percent(self) -> int:
        """Of the widest there can be (one half), for a bar."""
        return round(min(100.0, 200 * (self.half_width or 0.0)))


class StudyPlan(NamedTuple):
    estimate: Estimate
    hours: float
    cost: float
    hours_each: float
    overlap: float
    rows: list[PlanRow]
    assumed: Assumptions
    source: str
    advice: list[str]


def last_pilot(study: Study) -> Study | None:
    return study.pilots.filter(state=Study.State.CLOSED).order_by("-closed_at", "-id").first()


def plan_of(study: Study, given: Assumptions) -> StudyPlan | str:
    """The plan of a draft, or the sentence that says why nothing can be drawn yet."""
    sample = try_sample(study)
    if isinstance(sample, str):
        return sample
    estimate = launch_estimate(study, sample)
    parts, assumed, source = assumptions(study, given)
    overlap = study.core_share * study.core_overlap + (1 - study.core_share) * study.overlap
    hours = estimate.n_judgements * (assumed.seconds or SECONDS_PER_JUDGEMENT) / 3600
    rows = plan_rows(study, sample, estimate, lambda n: width(parts, n, assumed.n_annotators, overlap))
    return StudyPlan(
        estimate, hours, hours * assumed.hourly_pay, hours / assumed.n_annotators, overlap, rows, assumed, source,
        advice_on(assumed, overlap, rows),
    )  # fmt: skip


def assumptions(study: Study, given: Assumptions) -> tuple[Components, Assumptions, str]:
    """Components of one answer, the assumptions filled in, and where they come from."""
    pilot = last_pilot(study)
    report = report_of_pilot(pilot) if pilot is not None else None
    seconds = given.seconds or (report.seconds if report and report.seconds else SECONDS_PER_JUDGEMENT)
    if report is not None and report.parts is not None and given.share is None:
        filled = given._replace(share=report.share, seconds=seconds)
        return (
            report.parts,
            filled,
            _("the spread measured in '%(pilot)s', %(n)s answers") % {"pilot": pilot, "n": report.n_answers},
        )
    share = 0.5 if given.share is None else given.share
    return (
        share_components(share),
        given._replace(share=share, seconds=seconds),
        _("the spread usual in the literature"),
    )


def width(parts: Components, n_items: int, n_annotators: int, overlap: float) -> float | None:
    """None where the interval of a share would be as wide as all shares there are."""
    expected = expected_half_width(parts, n_items, n_annotators, overlap)
    return expected if expected < WIDEST else None


def plan_rows(
    study: Study, sample: SamplePreview, estimate: Estimate, half_width: Callable[[int], float | None]
) -> list[PlanRow]:
    blocks = Counter(one.stratum.block for one in sample.drawn)
    rows = [PlanRow("all", _("every feature"), estimate.n_features, half_width(estimate.n_features))]
    rows += [
        PlanRow("block", _("block %(block)s") % {"block": block}, n, half_width(n))
        for block, n in sorted(blocks.items())
    ]
    kinds = list(study.control_kinds) if estimate.n_controls else []
    for place, kind in enumerate(kinds):
        n = estimate.n_controls // len(kinds) + (place < estimate.n_controls % len(kinds))
        rows.append(PlanRow("control", _(Condition(kind).label), n, half_width(n)))
    return rows


def advice_on(assumed: Assumptions, overlap: float, rows: list[PlanRow]) -> list[str]:
    """What would help most, in sentences."""
    found = []
    if assumed.n_annotators < FEW_PEOPLE:
        found.append(
            _("With %(n)s annotators their differences dominate: below %(few)s of them more items help little.")
            % {"n": assumed.n_annotators, "few": FEW_PEOPLE}
        )
    if overlap > 5:
        found.append(_("Beyond five answers per item, more features help more than more answers."))
    groups = [row for row in rows if row.group != "all"]
    untold = sum(row.half_width is None for row in groups)
    if untold:
        found.append(
            _("%(n)s of the %(n_groups)s groups have too few items to tell anything: ask for more features.")
            % {"n": untold, "n_groups": len(groups)}
        )
    widest = max((row.half_width for row in groups if row.half_width is not None), default=0.0)
    if widest > 0.15:
        found.append(
            _("The widest group will be known to ±%(widest)s: ask for more features, or compare fewer groups.")
            % {"widest": share_words(widest)}
        )
    return found
