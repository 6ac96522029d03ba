"""An answer as a client sends it: who it is by, to what, when, and under which versions; its payload is the protocol's.

What a payload consists of is said in annotation.domain.protocols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

MAX_TIMING_ENTRIES = 40


class AnswerError(Exception):
    """An answer is not well formed or cannot be stored; the message is fit for the user."""


@dataclass(frozen=True)
class Answer:
    """One answer as the client sent it, its parts of the right type."""

    uuid: UUID
    item: int
    slot: int | None
    payload: Mapping[str, Any]
    submitted_at: datetime
    stimulus_id: str
    protocol_version: str = "1.0"
    guideline_version: int = 0
    revision_of: UUID | None = None
    timing: Mapping[str, Any] = field(default_factory=dict)


def text_of(value: Any, name: str, limit: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise AnswerError(_("The %(name)s must be text.") % {"name": name})
    if len(value) > limit:
        words = {"name": name, "n": len(value), "most": limit}
        raise AnswerError(_("The %(name)s has %(n)s characters; %(most)s is the most.") % words)
    return value


def parse_answer(raw: Mapping[str, Any]) -> Answer:
    """An Answer from the JSON a client sent; raises AnswerError naming the part that is wrong."""
    payload, timing = raw.get("payload"), raw.get("timing") or {}
    if not isinstance(payload, Mapping) or not isinstance(timing, Mapping):
        raise AnswerError(_("The answer needs a payload and a timing, both JSON objects."))
    if len(timing) > MAX_TIMING_ENTRIES:
        raise AnswerError(
            _("The timing has %(n)s entries; %(most)s is the most.") % {"n": len(timing), "most": MAX_TIMING_ENTRIES}
        )
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
        raise AnswerError(
            _("The %(name)s of the answer is '%(value)s'; it must be a UUID.") % {"name": name, "value": value}
        ) from error


def parse_id(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        words = {"name": name, "value": repr(value)}
        raise AnswerError(_("The %(name)s of the answer is %(value)s; it must be a whole number.") % words)
    return value


def parse_moment(value: Any) -> datetime:
    """A client's clock may be wrong, but not so wrong that the database cannot hold it."""
    try:
        moment = parse_datetime(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise AnswerError(
            _("The time of the answer is %(value)s; it must be an ISO date and time.") % {"value": repr(value)}
        )
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if abs(aware - datetime.now(UTC)) > timedelta(days=3660):
        raise AnswerError(
            _("The time of the answer is %(value)s, years from now; set the clock of this computer.")
            % {"value": repr(value)}
        )
    return aware
