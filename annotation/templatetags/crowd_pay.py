"""Amounts of money in templates: `{% load crowd_pay %}{{ amount|money:currency }}`."""

from __future__ import annotations

from decimal import Decimal

from django import template

from annotation.domain.crowd_money import money as money_words

register = template.Library()


@register.filter
def money(amount: Decimal | None, currency: str) -> str:
    """An absent amount is a dash."""
    return "–" if amount is None else money_words(Decimal(amount), currency)


@register.filter
def some_money(amount: Decimal, currency: str) -> str:
    """For columns: nothing is a dash, so that the amounts stand out."""
    return money_words(amount, currency) if amount else "–"
