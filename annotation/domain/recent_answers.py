"""A person's last answers in a study, for going back to them after the browser was closed."""

from __future__ import annotations

from annotation.models import Annotation, Participation

N_RECENT = 20


def recent_answers(participation: Participation) -> list[Annotation]:
    """The answers that count now, the oldest of the last twenty first."""
    current = Annotation.objects.filter(
        study_id=participation.study_id, annotator_id=participation.user_id, is_current=True
    )
    return list(reversed(current.select_related("item").order_by("-received_at", "-id")[:N_RECENT]))
