"""What the player is told when its page opens: addresses, the board, questions, keys, versions."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from annotation.domain.participation import current_guideline, session_progress
from annotation.domain.player_keys import key_table
from annotation.domain.protocols import Kind, Question, protocol_of, questions_of
from annotation.models import Participation, Study, User

ENDPOINTS = ("claim", "answers", "history", "remarks", "reports", "heartbeat", "release", "terms")


def question_rows(study: Study) -> list[dict[str, Any]]:
    """The study's questions as the page draws them; the hints come from the choices."""
    return [question_row(question) for question in questions_of(study)]


def question_row(question: Question) -> dict[str, Any]:
    return {
        "name": question.name,
        "kind": question.kind.value,
        "text": question.text,
        "panel": question.panel,
        "n_cells": question.n_cells,
        "is_required": question.is_required,
        "max_length": question.max_length if question.kind is Kind.TEXT else 0,
        "choices": [{"value": choice.value, "word": choice.word, "hint": choice.hint} for choice in question.choices],
    }


def base_config(study: Study, user: User, mode: str) -> dict[str, Any]:
    guideline, protocol = current_guideline(study), protocol_of(study)
    return {
        "mode": mode,
        "study": study.slug,
        "user": user.pk,
        "protocol": protocol.name,
        "protocol_version": study.protocol_version,
        "guideline_version": guideline.version if guideline else 0,
        "layout": protocol.layout,
        "panels": [panel._asdict() for panel in protocol.panels],
        "questions": question_rows(study),
        "submits_at_once": protocol.submits_at_once,
        "min_viewing_ms": study.min_viewing_ms,
        "keys": key_table(questions_of(study), study.categories.values_list("name", "key")),
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
