"""How a live study goes: speed, answers per day, gold, agreement on the core; nothing that tells results apart.

Until a study closes nobody sees results by condition, block or dictionary. Agreement here is over all core items
together, whatever they are.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import NamedTuple

from django.core.cache import cache
from django.db.models import Avg, Count, Q
from django.db.models.functions import TruncDate
from django.utils import timezone
from django.utils.translation import gettext as _

from analysis.domain.answers import collect, rows_of_study
from analysis.domain.report import FAMILIES, subject_of
from analysis.domain.reports.frame import Section, scope_of
from analysis.statistics.categories import wilson
from annotation.models import Annotation, Role, Study

SECONDS = 300
SPEED_BOUNDS = (2, 5, 10, 20, 40, 80)  # seconds in view
DAYS_SHOWN = 21
DAYS_OF_RATE = 3


class SpeedBin(NamedTuple):
    name: str
    n: int


class Day(NamedTuple):
    at: date
    n: int


class Worker(NamedTuple):
    """One annotator, by code."""

    code: str
    n_done: int
    mean_seconds: float | None
    n_gold: int
    n_gold_right: int
    gold_low: float | None  # Wilson's interval
    gold_high: float | None

    @property
    def gold_share(self) -> float | None:
        return self.n_gold_right / self.n_gold if self.n_gold else None


class Forecast(NamedTuple):
    per_day: float
    n_left: int
    finished_on: date | None  # None: no answer came of late


class Progress(NamedTuple):
    speed: list[SpeedBin]
    mean_seconds: float | None
    days: list[Day]
    workers: list[Worker]
    forecast: Forecast
    agreement: Section | None  # None: the protocol compares answers with the truth
    n_core_items: int


def progress_of(study: Study, now: datetime | None = None) -> Progress:
    at = now or timezone.now()
    counted = Annotation.objects.filter(study=study, is_current=True, is_late_extra=False)
    agreement, n_core = _cached_agreement(study)
    speed, mean = _speed(study)
    days = [
        Day(row["day"], row["n"])
        for row in counted.annotate(day=TruncDate("received_at")).values("day").annotate(n=Count("id")).order_by("day")
    ]
    return Progress(speed, mean, days[-DAYS_SHOWN:], _workers(study), forecast(study, days, at), agreement, n_core)


def forecast(study: Study, days: list[Day], now: datetime) -> Forecast:
    """From the answers of the last three days, or of the days since the first answer if those are fewer."""
    today = timezone.localtime(now).date()
    n_left = max(0, study.n_slots - study.n_slots_done)
    if not days:
        return Forecast(0.0, n_left, None)
    n_days = min(DAYS_OF_RATE, (today - days[0].at).days + 1)
    recent = sum(day.n for day in days if day.at > today - timedelta(days=n_days))
    per_day = recent / max(1, n_days)
    if not per_day:
        return Forecast(0.0, n_left, None)
    days_left = n_left / per_day
    return Forecast(per_day, n_left, today + timedelta(days=round(days_left)) if days_left < 36500 else None)


def _speed(study: Study) -> tuple[list[SpeedBin], float | None]:
    """Seconds in view, without exclusions: those who answer too fast are what one looks for."""
    edges = (0, *SPEED_BOUNDS)
    counts = {
        f"from_{low}": Count("id", filter=_between(low, high))
        for low, high in zip(edges, (*SPEED_BOUNDS, None), strict=True)
    }
    found = Annotation.objects.filter(study=study, visible_ms__isnull=False).aggregate(mean=Avg("visible_ms"), **counts)
    names = [
        _("%(low)s to %(high)s s") % {"low": low, "high": high} for low, high in zip(edges, SPEED_BOUNDS, strict=False)
    ] + [_("over %(seconds)s s") % {"seconds": edges[-1]}]
    bins = [SpeedBin(name, found[key]) for name, key in zip(names, counts, strict=True)]
    return bins, None if found["mean"] is None else float(found["mean"]) / 1000


def _between(low: int, high: int | None) -> Q:
    """Seconds."""
    return Q(visible_ms__gte=1000 * low) & (Q() if high is None else Q(visible_ms__lt=1000 * high))


def _workers(study: Study) -> list[Worker]:
    means = dict(
        Annotation.objects.filter(study=study, visible_ms__isnull=False)
        .values_list("annotator")
        .annotate(mean=Avg("visible_ms"))
        .values_list("annotator", "mean")
    )
    people = study.participations.filter(Q(role=Role.ANNOTATOR) | Q(n_done__gt=0), n_done__gt=0)
    rows = people.order_by("-n_done", "id").values_list(
        "user_id", "n_done", "n_gold", "n_gold_right", "user__annotator_code"
    )
    workers = []
    for user, n_done, n_gold, n_right, code in rows:
        mean = means.get(user)
        low, high = wilson(n_right, n_gold) if n_gold else (None, None)
        workers.append(Worker(code, n_done, None if mean is None else float(mean) / 1000, n_gold, n_right, low, high))
    return workers


def _cached_agreement(study: Study) -> tuple[Section | None, int]:
    key = f"core-agreement:{study.pk}:{study.created_at.timestamp()}:{study.n_slots_done // 50}"
    found: tuple[Section | None, int] | None = cache.get(key)
    if found is None:
        found = _agreement(study)
        cache.set(key, found, SECONDS)
    return found


def _agreement(study: Study) -> tuple[Section | None, int]:
    subject = subject_of(study)
    answers = collect(
        rows_of_study(study, only_core=True), protocol=subject.protocol, options=subject.options,
        include_simulated=study.is_simulated,
    )  # fmt: skip
    section = FAMILIES[study.protocol].agreement(scope_of(answers), subject)
    return section, answers.n_items
