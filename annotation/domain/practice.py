"""Practice: a person answers the study's practice items, sees at once what was right and why, and then may work.

An answer to a practice item never counts. Practice is passed once every item was answered; an item may be tried again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone

from annotation.domain.participation import ParticipationError, Step, next_step
from annotation.domain.protocols import questions_of, questions_right, validate
from annotation.models import Participation, PracticeAnswer, ReferenceItem


class Feedback(NamedTuple):
    """What the person is shown after a practice answer."""

    is_right: bool
    right_by_question: dict[str, bool]
    accepted: dict[str, list[Any]]
    reason: str
    n_answered: int
    n_items: int


def practice_items(participation: Participation) -> list[ReferenceItem]:
    kind = ReferenceItem.Kind.PRACTICE
    return list(participation.study.reference_items.filter(kind=kind).order_by("position", "id"))


def answered_ids(participation: Participation) -> set[int]:
    answers = PracticeAnswer.objects.filter(
        reference__study=participation.study, annotator=participation.user, reference__kind="practice"
    )
    return set(answers.values_list("reference_id", flat=True))


def next_practice_item(participation: Participation) -> ReferenceItem | None:
    """The first practice item not answered yet; None once practice is passed."""
    answered = answered_ids(participation)
    return next((item for item in practice_items(participation) if item.pk not in answered), None)


def check_practice(*, participation: Participation, reference: ReferenceItem, payload: Mapping[str, Any]) -> Feedback:
    """Store a practice answer and say what was right; raises AnswerError or ParticipationError."""
    if next_step(participation) in {Step.CONSENT, Step.GUIDELINE}:
        raise ParticipationError("Give your consent and read the guideline first.")
    if reference.study_id != participation.study_id or reference.kind != ReferenceItem.Kind.PRACTICE:
        raise ParticipationError("This is no practice item of the study.")
    categories = set(participation.study.categories.values_list("name", flat=True))
    answer = validate(questions_of(participation.study), payload, categories=categories)
    right = questions_right(answer, reference.accepted)
    with transaction.atomic():
        PracticeAnswer.objects.create(
            reference=reference, annotator=participation.user, payload=answer, is_right=all(right.values())
        )
        n_answered, n_items = settle_practice(participation)
    return Feedback(all(right.values()), right, dict(reference.accepted), reference.reason, n_answered, n_items)


def settle_practice(participation: Participation) -> tuple[int, int]:
    """Keep how far practice has come, and that it is passed once every item was answered."""
    ids = {item.pk for item in practice_items(participation)}
    n_answered = len(ids & answered_ids(participation))
    participation.practice_position = n_answered
    if n_answered == len(ids) and participation.practised_at is None:
        participation.practised_at = timezone.now()
    participation.save(update_fields=["practice_position", "practised_at"])
    return n_answered, len(ids)
