"""What the page of a blind study shows: `analysis.domain.progress` as numbers, bars and a table."""

from __future__ import annotations

from typing import Any

from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _

from annotation.models import Role, Study


def progress_context(study: Study) -> dict[str, Any]:
    from analysis.domain.progress import progress_of
    from analysis.plots import bar_chart
    from analysis.views.charts import chart_of

    progress = progress_of(study)
    agreement = progress.agreement
    people = study.participations.filter(role=Role.ANNOTATOR)
    days = [(f"{day.at:%d %b}", day.n) for day in progress.days]
    speed = [(one.name, one.n) for one in progress.speed]
    # Safe: bar_chart escapes every name it writes.
    return {
        "progress": progress,
        "n_annotators": people.count(),
        "n_active": people.filter(n_done__gt=0).count(),
        "percent": round(100 * study.n_slots_done / study.n_slots) if study.n_slots else 0,
        "can_unblind": study.state == Study.State.CLOSED,
        "agreement": chart_of(agreement, agreement.lines) if agreement and agreement.lines else None,
        "days_svg": mark_safe(bar_chart(days, _("answers"), _("Answers per day"))) if days else "",
        "speed_svg": mark_safe(bar_chart(speed, _("answers"), _("Seconds in view")))
        if sum(n for _, n in speed)
        else "",
    }
