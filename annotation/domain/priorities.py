"""Which open slots are urgent, looked at in batches after answers and never in a claim.

*Uncertainty first*: items whose answers so far disagree, or whose ratings lie near the boundary of 2.5, and which want
more judgements. *Finish first*: items that were begun. Their open slots move to the urgent lane of their range, and the
study's epoch moves, which tells everybody to look there before they walk on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import F

from annotation.domain.queue_lanes import LANES, URGENT
from annotation.models import Annotation, Slot, Study

INTERPRETABLE_FROM = 3
BOUNDARY = 2.5
NEAR = 0.5
SPLIT = 1 / 3  # from this share of dissenting answers on, people disagree
LARGEST_BATCH = 5000  # newest answers looked at; older items were looked at when theirs came


class Votes(NamedTuple):
    """The answers to an item so far: whether each says interpretable (or its main choice), and the ratings."""

    verdicts: list[str]
    ratings: list[int]


def reprioritise(*, study: Study, n_new: int) -> int:
    """Make urgent what the last answers made so; returns how many slots moved."""
    if study.queue_order == Study.QueueOrder.BREADTH:
        return 0
    newest = Annotation.objects.filter(study=study).order_by("-id").values_list("item_id", flat=True)
    items = set(newest[: min(max(n_new, 1) * 2, LARGEST_BATCH)])
    if study.queue_order == Study.QueueOrder.UNCERTAINTY:
        items = {item for item, votes in votes_on(study, items).items() if is_uncertain(votes)}
    return make_urgent(study=study, items=items)


def make_urgent(*, study: Study, items: Iterable[int]) -> int:
    """Move the open slots of these items to the urgent lane of their range, and let everybody look there."""
    waiting = Slot.objects.filter(study=study, state=Slot.State.OPEN, item_id__in=list(items), lane__gt=URGENT)
    with transaction.atomic():
        n_moved = (
            waiting.annotate(within=F("lane") % LANES).filter(within__gt=0).update(lane=F("lane") - F("lane") % LANES)
        )
        if n_moved:
            Study.objects.filter(pk=study.pk).update(queue_epoch=F("queue_epoch") + 1)
    return n_moved


def votes_on(study: Study, items: Iterable[int]) -> dict[int, Votes]:
    rows = Annotation.objects.filter(
        study=study, item_id__in=list(items), is_current=True, is_late_extra=False, excluded_reason=""
    ).values_list("item_id", "patch_rating", "image_rating", "choice")
    votes: dict[int, Votes] = defaultdict(lambda: Votes([], []))
    for item, patch_rating, image_rating, choice in rows:
        votes[item].verdicts.append(verdict(patch_rating, image_rating, choice))
        votes[item].ratings.extend(rating for rating in (patch_rating, image_rating) if rating is not None)
    return votes


def verdict(patch_rating: int | None, image_rating: int | None, choice: str) -> str:
    """What an answer comes to: its main choice, else whether anything was found interpretable."""
    if choice:
        return choice
    return str(max(patch_rating or 0, image_rating or 0) >= INTERPRETABLE_FROM)


def is_uncertain(votes: Votes) -> bool:
    counts = sorted((votes.verdicts.count(one) for one in set(votes.verdicts)), reverse=True)
    dissent = 1 - counts[0] / len(votes.verdicts) if counts else 0.0
    return dissent >= SPLIT or is_near_boundary(votes.ratings)


def is_near_boundary(ratings: Sequence[Any]) -> bool:
    return bool(ratings) and abs(sum(ratings) / len(ratings) - BOUNDARY) <= NEAR
