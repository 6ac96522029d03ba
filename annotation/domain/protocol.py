"""The first protocol, rate-describe-categorise 1.0: what an answer consists of, and when it is well formed.

Two ordinal questions, "do the patches share something you could name?" and "do the images?": 1 no, 2 a hint, 3 mostly,
4 clearly, or cannot tell (null); then a category and a label, both of which may stay empty.
A judgement counts as interpretable at 3 or 4.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils.dateparse import parse_datetime

PROTOCOL = "rate-describe-categorise"
PROTOCOL_VERSION = "1.0"
RATINGS = (1, 2, 3, 4)
INTERPRETABLE_FROM = 3
LABEL_LENGTH = 200
QUESTIONS = ("patch_rating", "image_rating", "category", "label")
MAX_TIMING_ENTRIES = 40


class AnswerError(Exception):
    """An answer is not well formed or cannot be stored; the message is fit for the user."""


@dataclass(frozen=True)
class Payload:
    """What the person said."""

    patch_rating: int | None
    image_rating: int | None
    category: str = ""
    label: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """One answer as the client sent it, its parts of the right type."""

    uuid: UUID
    item: int
    slot: int | None
    payload: Mapping[str, Any]
    submitted_at: datetime
    stimulus_id: str
    protocol_version: str = PROTOCOL_VERSION
    guideline_version: int = 0
    revision_of: UUID | None = None
    timing: Mapping[str, Any] = field(default_factory=dict)


def validate_payload(payload: Mapping[str, Any], *, categories: Collection[str]) -> Payload:
    """The payload with its types settled; raises AnswerError naming what is wrong."""
    unknown = sorted(set(payload) - set(QUESTIONS))
    if unknown:
        raise AnswerError(f"The answer has a part '{unknown[0]}' that this protocol does not ask for.")
    missing = [name for name in ("patch_rating", "image_rating") if name not in payload]
    if missing:
        raise AnswerError(f"The answer has no {missing[0]}; give 1 to 4, or null for 'cannot tell'.")
    category = text_of(payload.get("category"), "category", 60)
    if category and category not in categories:
        raise AnswerError(f"This study has no category '{category}'.")
    return Payload(
        patch_rating=rating_of(payload["patch_rating"], "patch_rating"),
        image_rating=rating_of(payload["image_rating"], "image_rating"),
        category=category,
        label=" ".join(text_of(payload.get("label"), "label", LABEL_LENGTH).split()),
    )


def rating_of(value: Any, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value not in RATINGS:
        raise AnswerError(f"The {name} is {value!r}; it can be 1, 2, 3, 4, or null for 'cannot tell'.")
    return value


def text_of(value: Any, name: str, limit: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise AnswerError(f"The {name} must be text.")
    if len(value) > limit:
        raise AnswerError(f"The {name} has {len(value)} characters; {limit} is the most.")
    return value


def parse_answer(raw: Mapping[str, Any]) -> Answer:
    """An Answer from the JSON a client sent; raises AnswerError naming the part that is wrong."""
    payload, timing = raw.get("payload"), raw.get("timing") or {}
    if not isinstance(payload, Mapping) or not isinstance(timing, Mapping):
        raise AnswerError("The answer needs a payload and a timing, both JSON objects.")
    if len(timing) > MAX_TIMING_ENTRIES:
        raise AnswerError(f"The timing has {len(timing)} entries; {MAX_TIMING_ENTRIES} is the most.")
    return Answer(
        uuid=parse_uuid(raw.get("uuid"), "uuid"),
        item=parse_id(raw.get("item"), "item"),
        slot=None if raw.get("slot") is None else parse_id(raw.get("slot"), "slot"),
        payload=payload,
        submitted_at=parse_moment(raw.get("submitted_at")),
        stimulus_id=text_of(raw.get("stimulus_id"), "stimulus_id", 64),
        protocol_version=text_of(raw.get("protocol_version"), "protocol_version", 12),
        guideline_version=parse_id(raw.get("guideline_version", 0), "guideline_version"),
        revision_of=None if not raw.get("revision_of") else parse_uuid(raw["revision_of"], "revision_of"),
        timing=timing,
    )


def parse_uuid(value: Any, name: str) -> UUID:
    try:
        return UUID(str(value))
    except ValueError as error:
        raise AnswerError(f"The {name} of the answer is '{value}'; it must be a UUID.") from error


def parse_id(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise AnswerError(f"The {name} of the answer is {value!r}; it must be a whole number.")
    return value


def parse_moment(value: Any) -> datetime:
    """A client's clock may be wrong, but not so wrong that the database cannot hold it."""
    try:
        moment = parse_datetime(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise AnswerError(f"The time of the answer is {value!r}; it must be an ISO date and time.")
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if abs(aware - datetime.now(UTC)) > timedelta(days=3660):
        raise AnswerError(f"The time of the answer is {value!r}, years from now; set the clock of this computer.")
    return aware


def is_interpretable(rating: int | None) -> bool:
    return rating is not None and rating >= INTERPRETABLE_FROM


def questions_right(payload: Payload, accepted: Mapping[str, Any]) -> dict[str, bool]:
    """Whether each question that has accepted answers was answered by one of them."""
    given = payload.as_dict()
    return {name: given[name] in list(answers) for name, answers in accepted.items() if name in given}


def validate_accepted(accepted: Mapping[str, Any], *, categories: Collection[str]) -> dict[str, list[Any]]:
    """Accepted answers by question, checked; raises AnswerError. At least one question must have some."""
    settled: dict[str, list[Any]] = {}
    for name, answers in accepted.items():
        if name not in ("patch_rating", "image_rating", "category"):
            raise AnswerError(f"'{name}' cannot have accepted answers; patch_rating, image_rating and category can.")
        if not isinstance(answers, list) or not answers:
            raise AnswerError(f"Give a list of accepted answers for {name}, or leave {name} out.")
        wrong = [a for a in answers if (a not in categories if name == "category" else a not in (*RATINGS, None))]
        if wrong:
            raise AnswerError(f"{wrong[0]!r} is no possible answer for {name}.")
        settled[name] = list(answers)
    if not settled:
        raise AnswerError("Give the accepted answers of at least one question.")
    return settled
