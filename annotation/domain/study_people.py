"""Who works in a study and how: counters kept on their rows, and the speed of their last answers."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from annotation.models import Annotation, Participation, Study

LAST_ANSWERS = 50
SLOWEST_SECONDS = 600  # beyond it somebody has gone for coffee


class Person(NamedTuple):
    participation: Participation
    seconds_per_item: float | None

    @property
    def gold_share(self) -> float | None:
        row = self.participation
        return row.n_gold_right / row.n_gold if row.n_gold else None


def people_of(study: Study) -> list[Person]:
    rows = Participation.objects.filter(study=study).select_related("user").order_by("role", "-n_done", "id")
    return [Person(row, seconds_per_item(row)) for row in rows]


def seconds_per_item(participation: Participation) -> float | None:
    """The median time an item was visible, over the person's last answers."""
    if not participation.n_done:
        return None
    times = Annotation.objects.filter(
        study_id=participation.study_id, annotator_id=participation.user_id, visible_ms__isnull=False
    ).order_by("-id")
    seconds = [ms / 1000 for ms in times.values_list("visible_ms", flat=True)[:LAST_ANSWERS] if ms is not None]
    usual = [value for value in seconds if value < SLOWEST_SECONDS]
    return statistics.median(usual) if usual else None
