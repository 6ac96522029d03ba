"""Who works in a study and how: counters kept on their rows, and the speed of their last answers."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import NamedTuple

from annotation.models import Annotation, Participation, Study

LAST_ANSWERS = 2000  # of the whole study, in one bounded query
SLOWEST_SECONDS = 600  # beyond it somebody has gone for coffee


class Person(NamedTuple):
    """One person's row and the median seconds an item was visible to them, None without recent answers."""

    participation: Participation
    seconds_per_item: float | None


def people_of(study: Study) -> list[Person]:
    rows = Participation.objects.filter(study=study).select_related("user").order_by("role", "-n_done", "id")
    speeds = recent_speeds(study)
    return [Person(row, speeds.get(row.user_id)) for row in rows]


def recent_speeds(study: Study) -> dict[int, float]:
    """Median seconds per item by annotator, over the study's last answers."""
    recent = Annotation.objects.filter(study=study).order_by("-id")
    seconds: dict[int, list[float]] = defaultdict(list)
    for annotator_id, visible_ms in recent.values_list("annotator_id", "visible_ms")[:LAST_ANSWERS]:
        if visible_ms is not None and visible_ms < 1000 * SLOWEST_SECONDS:
            seconds[annotator_id].append(visible_ms / 1000)
    return {annotator_id: statistics.median(values) for annotator_id, values in seconds.items()}
