"""A disagreement in a line: `{% load disagreements %}`."""

from __future__ import annotations

from django import template

from annotation.domain.answer_words import said
from annotation.domain.disagreement import Spread
from annotation.domain.protocols import Kind

register = template.Library()

MOST_WORDS = 60


@register.filter
def words(name: str) -> str:
    """'patch_rating' → 'patch rating'."""
    return name.replace("_", " ")


@register.filter
def percent_of(amount: float) -> int:
    return round(100 * amount)


@register.filter
def marks(spread: Spread) -> str:
    """The answers themselves: ratings as their numbers, the rest in words; sorted, so that nobody is told by place."""
    if spread.question.kind is Kind.CHOICE and all(value is None or isinstance(value, int) for value in spread.given):
        told = sorted(value for value in spread.given if value is not None)
        return " ".join([*map(str, told), *("?" for value in spread.given if value is None)])
    return ", ".join(sorted({said(spread.question, value) for value in spread.given}))[:MOST_WORDS]
