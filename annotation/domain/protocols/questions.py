"""The questions a protocol asks, and when an answer to them is well formed.

A protocol is a list of questions; the player draws them, the server validates by them, gold and practice are scored by
them. Kinds: *choice* (one value of a list), *cell* (one cell of a panel), *cells* (any cells of a panel), *marks*
(patches of the cells of a panel), *category* (one of the study's), *text*.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.utils.translation import gettext as _

from annotation.domain.answer_message import AnswerError, text_of

Value = int | str | None
MOST_MARKS = 4096


class Kind(StrEnum):
    CHOICE = "choice"
    CELL = "cell"
    CELLS = "cells"
    MARKS = "marks"
    CATEGORY = "category"
    TEXT = "text"


@dataclass(frozen=True)
class Choice:
    """One possible answer: its value, the word on the button, and the keys that give it."""

    value: Value
    word: str
    chords: tuple[str, ...]
    hint: str
    help: str = ""


@dataclass(frozen=True)
class Question:
    """One question. `column` names the typed column of Annotation that holds the answer besides the payload."""

    name: str
    kind: Kind
    text: str
    choices: tuple[Choice, ...] = ()
    panel: str = ""
    n_cells: int = 0
    is_required: bool = True
    column: str = ""
    max_length: int = 200

    @property
    def values(self) -> tuple[Value, ...]:
        return tuple(choice.value for choice in self.choices)

    @property
    def can_be_scored(self) -> bool:
        """Whether accepted answers can be listed for it."""
        return self.kind in {Kind.CHOICE, Kind.CELL, Kind.CATEGORY}


def validate(
    questions: Sequence[Question], payload: Mapping[str, Any], *, categories: Collection[str] = ()
) -> dict[str, Any]:
    """The payload with its types settled, a value for every question; raises AnswerError naming what is wrong."""
    unknown = sorted(set(payload) - {question.name for question in questions})
    if unknown:
        raise AnswerError(
            _("The answer has a part '%(name)s' that this protocol does not ask for.") % {"name": unknown[0]}
        )
    return {question.name: settled(question, payload, categories) for question in questions}


def settled(question: Question, payload: Mapping[str, Any], categories: Collection[str]) -> Any:
    if question.name not in payload and question.is_required:
        raise AnswerError(
            _("The answer has no %(name)s; %(wanted)s.") % {"name": question.name, "wanted": asked_for(question)}
        )
    value = payload.get(question.name)
    match question.kind:
        case Kind.CHOICE:
            return choice_of(question, value) if question.name in payload else None
        case Kind.CELL:
            return cell_of(question, value)
        case Kind.CELLS:
            return cells_of(question, value)
        case Kind.MARKS:
            return marks_of(question, value)
        case Kind.CATEGORY:
            return category_of(question, value, categories)
        case Kind.TEXT:
            return words_of(question, value)


def asked_for(question: Question) -> str:
    """What can be given, in words."""
    if question.kind is Kind.CHOICE:
        named = ", ".join("null" if value is None else str(value) for value in question.values)
        return _("it can be %(values)s") % {"values": named}
    if question.kind is Kind.CELL:
        return _("it is a number from 0 to %(last)s") % {"last": question.n_cells - 1}
    return _("it is asked for")


def wrong_value(question: Question, value: Any) -> AnswerError:
    words = {"name": question.name, "value": repr(value), "wanted": asked_for(question)}
    return AnswerError(_("The %(name)s is %(value)s; %(wanted)s.") % words)


def choice_of(question: Question, value: Any) -> Value:
    is_same_type = any(value == allowed and type(value) is type(allowed) for allowed in question.values)
    if not is_same_type:
        raise wrong_value(question, value)
    chosen: Value = value
    return chosen


def cell_of(question: Question, value: Any) -> int | None:
    if value is None and not question.is_required:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < question.n_cells:
        raise wrong_value(question, value)
    return value


def cells_of(question: Question, value: Any) -> list[int]:
    if not isinstance(value, list) or len(value) > question.n_cells:
        raise AnswerError(
            _("The %(name)s must be a list of at most %(n)s numbers.") % {"name": question.name, "n": question.n_cells}
        )
    if len({cell_of(question, cell) for cell in value}) != len(value):
        raise AnswerError(_("The %(name)s names a picture twice.") % {"name": question.name})
    return sorted(value)


def marks_of(question: Question, value: Any) -> list[list[int]]:
    """[cell, patch] pairs, sorted; how many patches there are is checked where the stimulus is at hand."""
    if not isinstance(value, list) or len(value) > MOST_MARKS:
        raise AnswerError(
            _("The %(name)s must be a list of at most %(n)s pairs [picture, patch].")
            % {"name": question.name, "n": MOST_MARKS}
        )
    pairs = set()
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or any(type(part) is not int or part < 0 for part in pair):
            raise AnswerError(
                _("A mark is %(value)s; it must be a pair [picture, patch] of numbers.") % {"value": repr(pair)}
            )
        if pair[0] >= question.n_cells:
            raise AnswerError(
                _("A mark names picture %(number)s; there are %(n)s.") % {"number": pair[0], "n": question.n_cells}
            )
        pairs.add((pair[0], pair[1]))
    return [list(pair) for pair in sorted(pairs)]


def category_of(question: Question, value: Any, categories: Collection[str]) -> str:
    category = text_of(value, question.name, 60)
    if category and category not in categories:
        raise AnswerError(_("This study has no category '%(name)s'.") % {"name": category})
    return category


def words_of(question: Question, value: Any) -> str:
    words = " ".join(text_of(value, question.name, question.max_length).split())
    if question.is_required and not words:
        raise AnswerError(_("The %(name)s is empty; write a few words.") % {"name": question.name})
    return words


def columns_of(questions: Sequence[Question], payload: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the typed columns of Annotation, by column."""
    values: dict[str, Any] = {}
    for question in questions:
        value = payload[question.name]
        if question.column == "choice":
            values["choice"] = "" if value is None else str(value)
        elif question.column:
            values[question.column] = value
    return values


def questions_right(payload: Mapping[str, Any], accepted: Mapping[str, Any]) -> dict[str, bool]:
    """Whether each question that has accepted answers was answered by one of them, in the order of the questions."""
    return {name: given in list(accepted[name]) for name, given in payload.items() if name in accepted}


def validate_accepted(
    questions: Sequence[Question], accepted: Mapping[str, Any], *, categories: Collection[str] = ()
) -> dict[str, list[Any]]:
    """Accepted answers by question, checked; raises AnswerError. At least one question must have some."""
    by_name = {question.name: question for question in questions if question.can_be_scored}
    checked: dict[str, list[Any]] = {}
    for name, answers in accepted.items():
        if name not in by_name:
            raise AnswerError(
                _("'%(name)s' cannot have accepted answers; %(values)s can.")
                % {"name": name, "values": ", ".join(by_name)}
            )
        if not isinstance(answers, list) or not answers:
            raise AnswerError(
                _("Give a list of accepted answers for %(name)s, or leave %(name)s out.") % {"name": name}
            )
        for answer in answers:
            try:
                settled(by_name[name], {name: answer}, categories)
            except AnswerError as error:
                raise AnswerError(
                    _("%(answer)s is no possible answer for %(name)s.") % {"answer": repr(answer), "name": name}
                ) from error
        checked[name] = list(answers)
    if not checked:
        raise AnswerError(_("Give the accepted answers of at least one question."))
    return checked
