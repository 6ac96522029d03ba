"""People who judge, in tests: claim items and answer them as told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from annotation.domain.answers import submit_answer
from annotation.domain.practice import answered_ids, practice_items
from annotation.domain.queue import claim_slots
from annotation.models import Annotation, Item, Participation, ReferenceItem, Slot, User
from tests.annotation.small_study import SmallStudy, make_answer

INTERPRETABLE = {"patch_rating": 4, "image_rating": 4, "category": "shape", "label": ""}
NOTHING = {"patch_rating": 1, "image_rating": 1, "category": "", "label": ""}


def place_of(small: SmallStudy, person: User) -> Participation:
    return Participation.objects.get(study=small.study, user=person)


def next_practice_item(participation: Participation) -> ReferenceItem | None:
    """The first of the round that has no answer yet."""
    answered = answered_ids(participation)
    return next((item for item in practice_items(participation) if item.pk not in answered), None)


def answer(
    small: SmallStudy, person: User, slot: Slot, payload: dict[str, Any] | None = None, visible_ms: int = 4100
) -> Annotation:
    sent = make_answer(slot.item, slot, payload=payload or INTERPRETABLE, timing={"visible_ms": visible_ms})
    return submit_answer(annotator=person, study=small.study, answer=sent).annotation


def judge(
    small: SmallStudy, person: User, n: int, say: Callable[[Item], dict[str, Any]] | None = None, **fields: Any
) -> list[Annotation]:
    """Claim n items, one batch, and answer them."""
    slots = claim_slots(study=small.study, annotator=person, n=n)
    items = Item.objects.in_bulk([slot.item_id for slot in slots])
    return [answer(small, person, slot, say(items[slot.item_id]) if say else None, **fields) for slot in slots]


def judge_all(small: SmallStudy, person: User, say: Callable[[Item], dict[str, Any]] | None = None) -> int:
    """Until nothing is left for this person; returns how many were judged."""
    n = 0
    while given := judge(small, person, 5, say):
        n += len(given)
    return n


def date_back(moment: datetime) -> None:
    """Let every answer have come at this time."""
    Annotation.objects.update(received_at=moment)
