"""Simulated annotators: programs that answer by a stated rule with stated error rates, marked as simulated everywhere.

Each sees what annotation.domain.simulated_sight finds in the frozen stimulus, adds their own bias, and rates by fixed
thresholds; then, at their error rate, the rating is moved by one step, and at their lapse rate it is anything. They
work through the same queue and the same submit as people do. They are for demos, tests and planning, never evidence.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from annotation.domain.answer_message import Answer
from annotation.domain.answers import submit_answer
from annotation.domain.participation import current_guideline, new_annotator
from annotation.domain.queue import claim_slots
from annotation.domain.simulated_sight import Finding, Sight, known_images_of, look
from annotation.domain.studies import StudyError, log_event
from annotation.models import Item, Participation, Slot, Study, User

THRESHOLDS = ((0.8, 4), (0.55, 3), (0.4, 2))
CLAIM = 5
CATEGORY_OF = {
    "row": "position", "column": "position", "region": "position", "edge": "shape or edge", "class": "object",
    "curvature": "shape", "size": "shape",
}  # fmt: skip


@dataclass(frozen=True)
class SimulatedAnnotator:
    """How one of them errs; `bias` is added to every score, `seconds` is the median time per item."""

    name: str
    error_rate: float = 0.1
    lapse_rate: float = 0.02
    bias: float = 0.0
    seconds: float = 12.0


DEFAULT_ANNOTATORS = (
    SimulatedAnnotator("careful", error_rate=0.05, lapse_rate=0.0, seconds=21),
    SimulatedAnnotator("steady", error_rate=0.10, lapse_rate=0.01, seconds=14),
    SimulatedAnnotator("lenient", error_rate=0.10, lapse_rate=0.02, bias=0.10, seconds=11),
    SimulatedAnnotator("strict", error_rate=0.10, lapse_rate=0.02, bias=-0.10, seconds=16),
    SimulatedAnnotator("quick", error_rate=0.18, lapse_rate=0.05, seconds=6),
    SimulatedAnnotator("tired", error_rate=0.25, lapse_rate=0.10, bias=-0.03, seconds=9),
)


def simulate_annotators(
    *,
    study: Study,
    annotators: Sequence[SimulatedAnnotator] = DEFAULT_ANNOTATORS,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Let them work until nothing is left for any of them, or `limit` answers are given; returns how many were.

    Raises StudyError if the study is not one that is marked as simulated.
    """
    if not study.is_simulated:
        raise StudyError(f"'{study.name}' is for people; only a study marked as simulated takes simulated answers.")
    people = [(one, simulated_user(study, one)) for one in annotators]
    see = sight_of(study)
    n_done, n_before = 0, -1
    while n_done != n_before and (limit is None or n_done < limit):
        n_before = n_done
        for one, user in people:
            wanted = CLAIM if limit is None else min(CLAIM, limit - n_done)
            for slot in claim_slots(study=study, annotator=user, n=wanted) if wanted > 0 else []:
                answer_slot(study, one, user, slot, see)
                n_done += 1
        if progress is not None:
            progress(n_done, study.n_slots)
    log_event(study, None, "simulated", n_answers=n_done, annotators=[asdict(one) for one in annotators])
    return n_done


def simulated_user(study: Study, one: SimulatedAnnotator) -> User:
    """The account of a simulated annotator in this study, made once; it needs no consent and no practice."""
    with transaction.atomic():
        participation = Participation.objects.filter(study=study, user__first_name=f"simulated {one.name}").first()
        if participation is not None:
            return participation.user
        user = new_annotator(is_simulated=True)
        User.objects.filter(pk=user.pk).update(first_name=f"simulated {one.name}")
        now = timezone.now()
        guideline = current_guideline(study)
        Participation.objects.create(
            study=study, user=user, consented_at=now, consent_version=study.consent_version, practised_at=now,
            guideline_version=guideline.version if guideline else 0,
        )  # fmt: skip
        return user


def sight_of(study: Study) -> Callable[[Item], Sight]:
    """A function item -> what is to be seen in it, looked at once per stimulus."""
    known = known_images_of(study)
    seen: dict[str, Sight] = {}

    def see(item: Item) -> Sight:
        if item.stimulus_id not in seen:
            seen[item.stimulus_id] = look(study, item.stimulus_id, known)
        return seen[item.stimulus_id]

    return see


def answer_slot(study: Study, one: SimulatedAnnotator, user: User, slot: Slot, see: Callable[[Item], Sight]) -> None:
    rng = random.Random(f"{study.seed}/{one.name}/{slot.item.seed}/{slot.item.stimulus_id}")
    categories = list(study.categories.order_by("position", "id").values_list("name", flat=True))
    now = timezone.now()
    visible_ms = round(1000 * one.seconds * rng.lognormvariate(0, 0.4))
    shown_at = now - timedelta(milliseconds=visible_ms)
    guideline = current_guideline(study)
    answer = Answer(
        uuid=uuid.UUID(int=rng.getrandbits(128), version=4),
        item=slot.item_id,
        slot=slot.pk,
        payload=judge(see(slot.item), one, categories, rng),
        submitted_at=now,
        stimulus_id=slot.item.stimulus_id,
        protocol_version=study.protocol_version,
        guideline_version=guideline.version if guideline else 0,
        timing={"shown_at": shown_at.isoformat(), "visible_ms": visible_ms, "is_simulated": True},
    )
    submit_answer(annotator=user, study=study, answer=answer)


def judge(sight: Sight, one: SimulatedAnnotator, categories: Sequence[str], rng: random.Random) -> dict[str, Any]:
    """Ratings by the thresholds with the annotator's errors; category and label of the better finding."""
    patch_rating = rate(sight.patches, one, rng)
    image_rating = rate(sight.images, one, rng)
    finding = max(sight.patches, sight.images, key=lambda found: found.score)
    is_named = max(patch_rating or 0, image_rating or 0) >= 2
    return {
        "patch_rating": patch_rating,
        "image_rating": image_rating,
        "category": category_of(finding, categories) if is_named else "",
        "label": label_of(finding) if is_named else "",
    }


def rate(finding: Finding, one: SimulatedAnnotator, rng: random.Random) -> int | None:
    if rng.random() < one.lapse_rate:
        return rng.choice([1, 2, 3, 4, None])
    score = finding.score + one.bias
    rating = next((rating for threshold, rating in THRESHOLDS if score >= threshold), 1)
    if rng.random() < one.error_rate:
        rating += rng.choice([-1, 1])
    return min(4, max(1, rating))


def category_of(finding: Finding, categories: Sequence[str]) -> str:
    """The category named like the attribute, else like its kind, else the last one ('other')."""
    for wanted in (finding.attribute, CATEGORY_OF.get(finding.attribute, "")):
        for category in categories:
            if wanted and (wanted.lower() in category.lower() or category.lower() in wanted.lower()):
                return category
    return categories[-1] if categories else ""


def label_of(finding: Finding) -> str:
    if finding.attribute in ("class", "region"):
        return finding.value
    return f"{finding.value} {finding.attribute}".strip()
