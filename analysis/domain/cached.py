"""Reports kept for a while, keyed by what they were made from: one new answer or exclusion asks anew."""

from __future__ import annotations

from django.conf import settings
from django.core.cache import cache
from django.db.models import Count, Max, Q
from django.utils.translation import gettext as _
from django.utils.translation import override

from analysis.domain.report import Report, StillBlindError, report_of_study
from annotation.domain.unblinding import unblinding_of
from annotation.models import Annotation, Study, Verdict

SECONDS = 24 * 3600


def cached_report(study: Study, *, include_simulated: bool) -> Report:
    """As `report_of_study`, and blind as it is."""
    if unblinding_of(study) is None:
        raise StillBlindError(_("'%(name)s' is blind: close it and unblind it to see results.") % {"name": study.name})
    key = f"report-sections:{study.pk}:{study.created_at.timestamp()}:{include_simulated}:{_state_of_answers(study)}"
    report: Report | None = cache.get(key)
    if report is None:
        with override(settings.LANGUAGE_CODE):
            report = report_of_study(study, include_simulated=include_simulated)
        cache.set(key, report, SECONDS)
    return report


def _state_of_answers(study: Study) -> str:
    state = Annotation.objects.filter(study=study).aggregate(
        last=Max("id"),
        current=Count("id", filter=Q(is_current=True)),
        late=Count("id", filter=Q(is_late_extra=True)),
        excluded=Count("id", filter=~Q(excluded_reason="")),
        reasons=Count("excluded_reason", distinct=True),
        simulated=Count("id", filter=Q(is_simulated=True)),
    )
    settled = Verdict.objects.filter(study=study).aggregate(last_verdict=Max("id"))
    return "-".join(str(value) for value in (state | settled).values())
