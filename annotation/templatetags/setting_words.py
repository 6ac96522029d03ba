"""Settings as people read them: `{% load setting_words %}`."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.translation import gettext as _

from annotation.domain.answer_words import said
from annotation.domain.protocols import PROTOCOLS, questions_of
from annotation.domain.setting_words import ChangeInWords, change_in_words, never_drawn, stopping_words
from annotation.models import ReferenceItem, Study

register = template.Library()

register.filter("never_drawn", never_drawn)
register.filter("stopping_words", stopping_words)


@register.filter
def protocol_title(study: Study) -> str:
    """How people call the protocol of this study."""
    found = PROTOCOLS.get(study.protocol)
    return _(found.title) if found else study.protocol


@register.filter
def accepted_words(item: ReferenceItem) -> list[tuple[str, str]]:
    """The answers that a practice or gold item takes: what they are to, and which."""
    questions = {question.name: question for question in questions_of(item.study)}
    return [
        (short_name(name), ", ".join(_(said(questions[name], answer)) for answer in answers))
        for name, answers in item.accepted.items()
        if name in questions
    ]


def short_name(name: str) -> str:
    return {"patch_rating": _("patches"), "image_rating": _("images"), "category": _("category")}.get(name, name)


@register.filter
def changes_in_words(changes: list[list[Any]]) -> list[ChangeInWords]:
    """What a version changed, as it keeps it."""
    return [change_in_words(change) for change in changes]
