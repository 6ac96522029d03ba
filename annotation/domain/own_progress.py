"""What an annotator may know about their own work: how much, how fast, and how often right where that is known.

Nothing here is about others, and single checks are never told: the share of right ones is that of the first five, ten,
fifteen checks, as they stood after the last full ten answers, so that whoever looks after every answer learns of ten
that some were checks, and never of which.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

from annotation.domain.participation import session_progress
from annotation.models import Annotation, Participation

CHECKS_TO_TELL = 5
ANSWERS_TO_TELL = 10
LAST_ANSWERS = 200


class OwnProgress(NamedTuple):
    """`checks_right` is a share of full fives of checks, None below five; `left` is None where there is no limit."""

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
    checks = told_checks(place)
    return OwnProgress(
        done=place.n_done,
        skipped=place.n_skipped,
        session_done=done,
        of=of,
        n_checks=len(checks),
        checks_right=sum(checks) / len(checks) if checks else None,
        median_seconds=median_seconds(place),
        left=None if limit is None else max(0, limit - place.n_done),
    )


def told_checks(place: Participation) -> list[bool]:
    """Whether each was right as it was first answered: full fives of them, among full tens of answers."""
    if place.n_gold < CHECKS_TO_TELL:
        return []
    first = Annotation.objects.filter(annotator=place.user_id, study=place.study_id, revision_of=None).order_by("id")
    n_settled = place.n_done - place.n_done % ANSWERS_TO_TELL
    given = first.values_list("is_gold_right", flat=True)[:n_settled]
    checks = [is_right for is_right in given if is_right is not None]
    return checks[: len(checks) - len(checks) % CHECKS_TO_TELL]


def median_seconds(place: Participation) -> float | None:
    mine = Annotation.objects.filter(annotator=place.user_id, study=place.study_id).order_by("-id")
    seen = [ms for ms in mine.values_list("visible_ms", flat=True)[:LAST_ANSWERS] if ms is not None]
    return statistics.median(seen) / 1000 if seen else None
