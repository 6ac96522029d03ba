"""Reading a table of earlier answers: our own export, or any table whose columns are named.

What is needed of a row: who (`annotator`), to what (`item`, or `dictionary`, `hookpoint`, `latent`), and what was said
(`payload` as JSON, or one column per question of the protocol). `submitted_at` and the other columns of our export are
taken where they are there. A mapping says which column of the table is which of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from django.utils.translation import gettext as _

from annotation.domain.answer_message import AnswerError, parse_moment, parse_uuid
from annotation.domain.errands import ErrandError
from annotation.domain.import_tables import Faults, Line, RowError, flag_in, json_in, number_in, text_in
from annotation.domain.protocols import Kind, Question, validate
from annotation.models import Condition
from workers.artifacts import canonical_json

NAMESPACE = UUID("6d1f3c7e-7f0a-5a3e-9a2b-3f6f1d0c8e51")
CONDITIONS = frozenset(Condition.values)


class Place(NamedTuple):
    dictionary: str
    hookpoint: str
    latent: int
    pole: int


class ItemRow(NamedTuple):
    """What the table tells of an item."""

    key: str
    place: Place | None
    stimulus: str
    condition: str
    stratum: str
    variant: str
    text: str
    truth: dict[str, Any]


class EarlierAnswer(NamedTuple):
    """A row of the table, read and checked."""

    line: int
    uuid: UUID
    item: str
    stimulus: str
    annotator: str
    payload: dict[str, Any]
    submitted_at: datetime | None
    timing: dict[str, Any]
    visible_ms: int | None
    shown_at: datetime | None
    is_current: bool
    revision_of: UUID | None
    is_late_extra: bool
    is_simulated: bool
    excluded_reason: str
    is_gold_right: bool | None
    protocol_version: str
    guideline_version: int


class Table(NamedTuple):
    answers: list[EarlierAnswer]
    items: dict[str, ItemRow]
    n_repeated: int


def read_answers(
    lines: Iterable[Line], *, questions: Sequence[Question], mapping: Mapping[str, str], scope: str, faults: Faults
) -> Table:
    """All rows that are well formed; `scope` names the study, so that ids made up here differ between studies."""
    answers: dict[UUID, EarlierAnswer] = {}
    items: dict[str, ItemRow] = {}
    n_repeated = 0
    for line in lines:
        row = renamed(line.values, mapping)
        try:
            item = item_in(row)
            answer = answer_in(line.number, row, item, questions, scope)
        except (RowError, AnswerError) as error:
            faults.add(line.number, str(error))
            continue
        if items.setdefault(item.key, item).place != item.place:
            faults.add(
                line.number, _("The item '%(key)s' is of another feature than in an earlier line.") % {"key": item.key}
            )
        n_repeated += answer.uuid in answers
        answers.setdefault(answer.uuid, answer)
    return Table(list(answers.values()), items, n_repeated)


def renamed(values: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    """The row under our names."""
    missing = [theirs for theirs in mapping.values() if theirs not in values]
    if missing:
        raise ErrandError(
            _("The table has no column '%(missing)s'; it has %(values)s.")
            % {"missing": missing[0], "values": ", ".join(values)}
        )
    taken = set(mapping.values())
    return {name: value for name, value in values.items() if name not in taken} | {
        ours: values[theirs] for ours, theirs in mapping.items()
    }


def item_in(row: Mapping[str, Any]) -> ItemRow:
    place = None
    if row.get("hookpoint") not in (None, ""):
        named = "dictionary_digest" if row.get("dictionary_digest") else "dictionary"
        place = Place(
            text_in(row, named, limit=120), text_in(row, "hookpoint", limit=60), number_in(row, "latent"),
            number_in(row, "pole", default=1),
        )  # fmt: skip
    variant = text_in(row, "variant", limit=40, default="")
    made_up = " ".join(map(str, [*(place or ()), variant])).strip()
    key = text_in(row, "item", limit=200, default=made_up)
    if not key:
        raise RowError(_("The line names neither an item nor a feature (dictionary, hookpoint, latent)."))
    condition = text_in(row, "condition", default=Condition.REAL)
    if condition not in CONDITIONS:
        raise RowError(
            _("The condition is '%(condition)s'; it can be %(values)s.")
            % {"condition": condition, "values": ", ".join(Condition.values)}
        )
    return ItemRow(
        key, place, text_in(row, "stimulus", limit=64, default=""), condition,
        text_in(row, "stratum", limit=60, default=""), variant, text_in(row, "text", limit=500, default=""),
        json_in(row, "truth"),
    )  # fmt: skip


def answer_in(
    line: int, row: Mapping[str, Any], item: ItemRow, questions: Sequence[Question], scope: str
) -> EarlierAnswer:
    given = payload_in(row, questions) | json_in(row, "payload")
    payload = validate(questions, given, categories=[str(given.get("category", ""))])
    annotator = text_in(row, "annotator", limit=80)
    at = moment_in(row, "submitted_at")
    visible = number_in(row, "visible_ms", default=-1)
    return EarlierAnswer(
        line=line,
        uuid=uuid_in(row, "annotation") or made_up_uuid(scope, item.key, annotator, at, payload),
        item=item.key,
        stimulus=item.stimulus,
        annotator=annotator,
        payload=payload,
        submitted_at=at,
        timing=json_in(row, "timing"),
        visible_ms=visible if visible >= 0 else None,
        shown_at=moment_in(row, "shown_at"),
        is_current=flag_in(row, "is_current", default=True),
        revision_of=uuid_in(row, "revision_of"),
        is_late_extra=flag_in(row, "is_late_extra", default=False),
        is_simulated=flag_in(row, "is_simulated", default=False),
        excluded_reason=text_in(row, "excluded_reason", limit=200, default=""),
        is_gold_right=flag_in(row, "is_gold_right", default=False)
        if row.get("is_gold_right") not in (None, "")
        else None,
        protocol_version=text_in(row, "protocol_version", limit=12, default="1.0"),
        guideline_version=number_in(row, "guideline_version", default=0),
    )


def payload_in(row: Mapping[str, Any], questions: Sequence[Question]) -> dict[str, Any]:
    """One column per question; a text is turned into what the question takes."""
    return {one.name: value_in(one, row[one.name]) for one in questions if one.name in row}


def value_in(question: Question, value: Any) -> Any:
    if not isinstance(value, str) or question.kind in (Kind.TEXT, Kind.CATEGORY):
        return value
    text = value.strip()
    if question.kind is Kind.CHOICE:
        return next((one for one in question.values if str("" if one is None else one) == text), value)
    if text == "":
        return None
    try:
        return json.loads(text)
    except ValueError:
        return value


def moment_in(row: Mapping[str, Any], name: str) -> datetime | None:
    value = row.get(name)
    return None if value in (None, "") else parse_moment(str(value))


def uuid_in(row: Mapping[str, Any], name: str) -> UUID | None:
    value = row.get(name)
    return None if value in (None, "") else parse_uuid(value, name)


def made_up_uuid(scope: str, item: str, annotator: str, at: datetime | None, payload: Mapping[str, Any]) -> UUID:
    """The same row of the same study always has the same id, so that it is imported once."""
    facts = [scope, item, annotator, at.isoformat() if at else "", payload]
    return uuid5(NAMESPACE, canonical_json(facts))
