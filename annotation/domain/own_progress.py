"""What an annotator may know about their own work: how much, how fast, and how often right where that is known.

Nothing here is about others, and single checks are never told: the share of right ones is shown from five on.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

from annotation.domain.participation import session_progress
from annotation.models import Annotation, Participation

CHECKS_TO_TELL = 5
LAST_ANSWERS = 200


class OwnProgress(NamedTuple):
    """`checks_right` is a share, None below five checks; `left` is None where a person may judge any number."""

    done: int
    skipped: int
    session_done: int
    of: int
    n_checks: int
    checks_right: float | None
    median_seconds: float | None
    left: int | None


def own_progress(participation: Participation) -> OwnProgress:
    place = participation
    done, of = session_progress(place)
    limit = place.study.max_per_person
    return OwnProgress(
        done=place.n_done,
        skipped=place.n_skipped,
        session_done=done,
        of=of,
        n_checks=place.n_gold if place.n_gold >= CHECKS_TO_TELL else 0,
        checks_right=place.n_gold_right / place.n_gold if place.n_gold >= CHECKS_TO_TELL else None,
        median_seconds=median_seconds(place),
        left=None if limit is None else max(0, limit - place.n_done),
    )


def median_seconds(place: Participation) -> float | None:
    mine = Annotation.objects.filter(annotator=place.user_id, study=place.study_id).order_by("-id")
    seen = [ms for ms in mine.values_list("visible_ms", flat=True)[:LAST_ANSWERS] if ms is not None]
    return statistics.median(seen) / 1000 if seen else None
