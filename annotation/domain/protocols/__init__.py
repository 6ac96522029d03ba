"""The protocols: each a way of asking people about features, one module each (research behind them: docs/guides)."""

from __future__ import annotations

from typing import Any
from typing import Protocol as Shape

from django.utils.translation import gettext as _

from annotation.domain.answer_message import AnswerError
from annotation.domain.protocols import (
    adjudication,
    alignment,
    intruder,
    nature_origin,
    pairwise,
    patch_marking,
    rate_describe,
    spurious,
    two_alternative,
    verification,
)
from annotation.domain.protocols.base import Option, OptionError, Options, Panel, Protocol
from annotation.domain.protocols.questions import (
    Choice,
    Kind,
    Question,
    columns_of,
    questions_right,
    validate,
    validate_accepted,
)

PROTOCOLS: dict[str, Protocol] = {
    module.PROTOCOL.name: module.PROTOCOL
    for module in (
        rate_describe, two_alternative, intruder, verification, pairwise, patch_marking, nature_origin, alignment,
        spurious, adjudication,
    )
}  # fmt: skip


class AsksBy(Shape):
    """A study, as far as its way of asking goes."""

    protocol: str
    protocol_options: dict[str, object]


def protocol_of(study: AsksBy) -> Protocol:
    """Raises AnswerError for a study of a protocol that this version does not have."""
    if study.protocol not in PROTOCOLS:
        raise AnswerError(
            _("This version of Vitrine does not have the protocol '%(name)s'.") % {"name": study.protocol}
        )
    return PROTOCOLS[study.protocol]


def options_of(study: AsksBy) -> dict[str, Any]:
    return protocol_of(study).settle_options(study.protocol_options)


def questions_of(study: AsksBy) -> tuple[Question, ...]:
    """What the study asks, its options in force."""
    return protocol_of(study).questions(options_of(study))


__all__ = [
    "PROTOCOLS",
    "Choice",
    "Kind",
    "Option",
    "OptionError",
    "Options",
    "Panel",
    "Protocol",
    "Question",
    "columns_of",
    "options_of",
    "protocol_of",
    "questions_of",
    "questions_right",
    "validate",
    "validate_accepted",
]
