"""Settings as people read them: `{% load setting_words %}`."""

from __future__ import annotations

from typing import Any

from django import template

from annotation.domain.setting_words import ChangeInWords, change_in_words, never_drawn, stopping_words

register = template.Library()

register.filter("never_drawn", never_drawn)
register.filter("stopping_words", stopping_words)


@register.filter
def changes_in_words(changes: list[list[Any]]) -> list[ChangeInWords]:
    """What a version changed, as it keeps it."""
    return [change_in_words(change) for change in changes]
