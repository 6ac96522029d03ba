"""The report over HTTP, added to the interface of `annotation.api`: mount the `api` of this module."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from ninja import Schema

from annotation.api import api, study_for_token

__all__ = ["api"]


class FigureOut(Schema):
    """`value`, `low` and `high` are null where they cannot be computed; `note` says why."""

    level: str
    group: str
    name: str
    of: str
    value: float | None
    low: float | None
    high: float | None
    n_answers: int
    n_features: int
    n_annotators: int
    note: str


class ReportOut(Schema):
    include_simulated: bool
    n_resamples: int
    tally: dict[str, Any]
    figures: list[FigureOut]


@api.get("/studies/{slug}/report", response=ReportOut, tags=["answers"])
def get_report(request: HttpRequest, slug: str, include_simulated: bool = False) -> ReportOut:
    """Refused while the study is blind."""
    study = study_for_token(request, slug, "annotations:read")
    from analysis.domain.cached import cached_report
    from analysis.domain.report import StillBlindError, figures_of

    try:
        report = cached_report(study, include_simulated=include_simulated)
    except StillBlindError as error:
        raise PermissionDenied(str(error)) from error
    figures = [
        FigureOut(level=level, group=group, name=name, **figure._asdict())
        for level, group, name, figure in figures_of(report)
    ]
    return ReportOut(
        include_simulated=include_simulated,
        n_resamples=report.n_resamples,
        tally=report.tally._asdict(),
        figures=figures,
    )
