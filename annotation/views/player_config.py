"""What the player is told when its page opens: addresses, questions, keys, versions."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from annotation.domain.participation import current_guideline, session_progress
from annotation.domain.player_keys import FIXED_BINDINGS, key_table
from annotation.models import Participation, Study, User

QUESTION_TEXTS = (
    ("patch_rating", "rate-patches", "Do the patches share something you could name?"),
    ("image_rating", "rate-images", "Do the images?"),
)
CHOICE_WORDS = {1: "no", 2: "a hint", 3: "mostly", 4: "clearly", None: "can’t tell"}
ENDPOINTS = ("claim", "answers", "history", "remarks", "reports", "heartbeat", "release", "terms")


def questions() -> list[dict[str, Any]]:
    """The two ratings with their choices; the hints come from the key table."""
    hints = {(b.action, b.value): b.hint for b in FIXED_BINDINGS}
    return [
        {
            "name": name,
            "action": action,
            "text": text,
            "choices": [
                {"value": "null" if value is None else value, "word": word, "hint": hints[action, value]}
                for value, word in CHOICE_WORDS.items()
            ],
        }
        for name, action, text in QUESTION_TEXTS
    ]


def base_config(study: Study, user: User, mode: str) -> dict[str, Any]:
    guideline = current_guideline(study)
    return {
        "mode": mode,
        "study": study.slug,
        "user": user.pk,
        "protocol_version": study.protocol_version,
        "guideline_version": guideline.version if guideline else 0,
        "keys": key_table(study.categories.values_list("name", "key")),
        "done": 0,
    }


def work_config(participation: Participation) -> dict[str, Any]:
    study = participation.study
    progress = session_progress(participation)
    urls = {name: reverse(f"work-{name}", args=[study.slug]) for name in ENDPOINTS}
    return base_config(study, participation.user, "work") | {
        "urls": urls,
        "done": progress.done,
        "session_length": progress.of,
    }
