"""An answer in words: what was asked, what was said, for pages that show answers beside one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotation.domain.protocols import Kind, Question


class Said(NamedTuple):
    """One question and the words of the answer to it; `value` is what the payload holds."""

    name: str
    question: str
    words: str
    value: Any


def words_of(questions: Sequence[Question], payload: Mapping[str, Any]) -> list[Said]:
    """In the order of the questions; one that was left empty says so."""
    return [
        Said(question.name, str(question.text), said(question, payload.get(question.name)), payload.get(question.name))
        for question in questions
    ]


def said(question: Question, value: Any) -> str:
    match question.kind:
        case Kind.CHOICE:
            return next((str(choice.word) for choice in question.choices if choice.value == value), "—")
        case Kind.CELL:
            return "—" if value is None else _("picture %(number)s") % {"number": int(value) + 1}
        case Kind.CELLS:
            return ", ".join(str(int(cell) + 1) for cell in value or []) or _("none")
        case Kind.MARKS:
            n = len(value or [])
            return ngettext("%(n)s patch", "%(n)s patches", n) % {"n": n}
        case Kind.CATEGORY | Kind.TEXT:
            return str(value or "—")
