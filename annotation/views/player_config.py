"""What the player is told when its page opens: addresses, the board, questions, keys, words, versions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext

from annotation.domain.categories import player_categories
from annotation.domain.own_keys import apply_own_keys
from annotation.domain.participation import current_guideline, session_progress
from annotation.domain.player_keys import TEXT_BINDING, Binding, bindings_of, key_table
from annotation.domain.protocols import Choice, Kind, Protocol, Question, protocol_of, questions_of
from annotation.models import Participation, Study, User
from annotation.views.player_texts import player_texts

ENDPOINTS = (
    "claim", "answers", "history", "remarks", "reports", "heartbeat", "release", "terms", "keys", "me", "session",
    "leave", "notices",
)  # fmt: skip
BREAK_MINUTES = 30
MOST_BESIDE = 4
ROOM_BESIDE = 34  # letters that choices beside one another have room for


def question_rows(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """The questions as the page draws them and the script asks them."""
    first_text = next((question for question in questions if question.kind is Kind.TEXT), None)
    rows = [question_row(question) for question in questions]
    return [
        row | {"hint": TEXT_BINDING[2] if question is first_text else ""}
        for row, question in zip(rows, questions, strict=True)
    ]


def question_row(question: Question) -> dict[str, Any]:
    choices = [choice_row(choice) for choice in question.choices]
    n_beside = min(sum(choice.value is not None for choice in question.choices), MOST_BESIDE)
    return {
        "name": question.name,
        "kind": question.kind.value,
        "text": gettext(question.text),
        "panel": question.panel,
        "n_cells": question.n_cells,
        "is_required": question.is_required,
        "max_length": question.max_length if question.kind is Kind.TEXT else 0,
        "choices": choices,
        "n_beside": n_beside,
        "is_long": any(len(one["word"]) * n_beside > ROOM_BESIDE for one in choices if one["value"] is not None),
    }


def choice_row(choice: Choice) -> dict[str, Any]:
    return {
        "value": choice.value, "json": json.dumps(choice.value), "word": gettext(choice.word), "hint": choice.hint,
    }  # fmt: skip


def category_rows(study: Study) -> list[dict[str, Any]]:
    """The categories as buttons, those under each of them with it."""
    return [with_json(row) | {"children": list(map(with_json, row["children"]))} for row in player_categories(study)]


def with_json(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"json": json.dumps(row["name"])}


def study_bindings(study: Study, questions: Sequence[Question] | None = None) -> list[Binding]:
    """What the player binds in this study, before anybody's own keys."""
    asked = questions_of(study) if questions is None else questions
    categories = player_categories(study)
    keys: list[tuple[str, ...]] = [(row["name"], row["key"]) for row in categories]
    keys += [(child["name"], child["key"], row["name"]) for row in categories for child in row["children"]]
    return [in_words(one) for one in bindings_of(asked, keys)]


def in_words(binding: Binding) -> Binding:
    """The binding's help in the reader's language; a cell is helped to by its number."""
    if binding.help.isdigit():
        binding = binding._replace(help=gettext("picture %(number)s") % {"number": binding.help})
        return binding._replace(group=gettext(binding.group))
    hint = gettext(binding.hint) if binding.hint else ""
    return binding._replace(hint=hint, help=help_in_words(binding.help), group=gettext(binding.group))


def help_in_words(words: str) -> str:
    """A second row of keys says in brackets what else gives the answer (annotation.domain.protocols.choices)."""
    word, is_second, key = words.partition(" (or Shift+")
    if not is_second:
        return gettext(words) if words else ""
    return gettext("%(word)s (or Shift+%(key)s)") % {"word": gettext(word), "key": key.rstrip(")")}


def base_config(
    study: Study, user: User, mode: str, *, questions: Sequence[Question] | None = None, layout: str = ""
) -> dict[str, Any]:
    """A page's config; a review asks other questions, in another layout, about the study's panels."""
    guideline, protocol = current_guideline(study), protocol_of(study)
    asked = questions_of(study) if questions is None else questions
    return {
        "mode": mode,
        "study": study.slug,
        "user": user.pk,
        "protocol": protocol.name,
        "protocol_version": study.protocol_version,
        "study_version": study.version,
        "guideline_version": guideline.version if guideline else 0,
        "layout": layout or protocol.layout,
        "panels": panel_rows(protocol),
        "questions": question_rows(asked),
        "submits_at_once": protocol.submits_at_once and not layout,
        "min_viewing_ms": study.min_viewing_ms if mode == "work" else 0,
        "break_minutes": BREAK_MINUTES,
        "keys": key_table(apply_own_keys(study_bindings(study, asked), user.player_keys)),
        "own_keys": user.player_keys,
        "texts": player_texts(),
        "urls": {},
        "session_length": 0,
        "done": 0,
    }


def panel_rows(protocol: Protocol) -> list[dict[str, str]]:
    return [
        {"name": panel.name, "title": gettext(panel.title), "hint": gettext(panel.hint) if panel.hint else ""}
        for panel in protocol.panels
    ]


def work_config(participation: Participation) -> dict[str, Any]:
    study = participation.study
    progress = session_progress(participation)
    return base_config(study, participation.user, "work") | {
        "urls": {name: reverse(f"work-{name}", args=[study.slug]) for name in ENDPOINTS},
        "done": progress.done,
        "session_length": progress.of,
    }
