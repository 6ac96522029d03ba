"""What a session earns, and amounts of money as people read them."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from django.utils.translation import get_language

from annotation.models import Recruitment, WorkSession

CENT = Decimal("0.01")
SYMBOLS = {"GBP": "£", "EUR": "€", "USD": "$"}
MOST_PAID = 2  # times the announced minutes: what work by the hour can cost at most, so that a cap can hold
Ending = WorkSession.Ending


COMMA_FOR_POINT = str.maketrans(",.", ".,")


def money(amount: Decimal, currency: str) -> str:
    """£3.00, or CHF 3.00 where the currency has no sign of its own here."""
    rounded = f"{amount.quantize(CENT, ROUND_HALF_UP):,}"
    if (get_language() or "").startswith("de"):
        rounded = rounded.translate(COMMA_FOR_POINT)
    return f"{SYMBOLS[currency]}{rounded}" if currency in SYMBOLS else f"{currency} {rounded}"


def most_paid_minutes(recruitment: Recruitment) -> int:
    return MOST_PAID * (recruitment.announced_minutes or 0)


def terms_of(recruitment: Recruitment) -> dict[str, Any]:
    """What a session that begins now is paid by, to be kept with it."""
    return {
        "pay": str(recruitment.pay), "amount": str(recruitment.amount),
        "screen_out": str(recruitment.screen_out_amount), "minutes": recruitment.announced_minutes,
    }  # fmt: skip


def agreed_pay(session: WorkSession) -> Recruitment:
    """The pay a session began with, as an unsaved row."""
    terms = session.terms
    return Recruitment(
        pay=terms["pay"], amount=Decimal(terms["amount"]), screen_out_amount=Decimal(terms["screen_out"]),
        announced_minutes=terms["minutes"],
    )  # fmt: skip


def session_price(recruitment: Recruitment) -> Decimal:
    """The most that one session can cost."""
    if not recruitment.is_paid:
        return Decimal(0)
    by_work = recruitment.amount
    if recruitment.pay == Recruitment.Pay.HOUR:
        by_work = hourly(recruitment, float(most_paid_minutes(recruitment)))
    return max(by_work, recruitment.screen_out_amount)


def earned_by(session: WorkSession) -> Decimal:
    """What a session that has ended earned: whole when complete, in proportion when it ended early."""
    recruitment = agreed_pay(session)
    if not recruitment.is_paid:
        return Decimal(0)
    if session.ending == Ending.SCREENED_OUT:
        return recruitment.screen_out_amount
    if recruitment.pay == Recruitment.Pay.HOUR:
        return hourly(recruitment, session.minutes or 0.0)
    if session.ending == Ending.COMPLETE and session.n_done:
        return recruitment.amount
    share = Decimal(min(session.n_done, session.length)) / Decimal(max(session.length, 1))
    return (recruitment.amount * share).quantize(CENT, ROUND_HALF_UP)


def hourly(recruitment: Recruitment, minutes: float) -> Decimal:
    paid = min(minutes, float(most_paid_minutes(recruitment)))
    return (recruitment.amount * Decimal(str(round(paid, 4))) / 60).quantize(CENT, ROUND_HALF_UP)


def announced_hourly(recruitment: Recruitment) -> Decimal | None:
    """What an hour is worth if a session takes as long as announced; None where that is not said."""
    if not recruitment.is_paid:
        return None
    if recruitment.pay == Recruitment.Pay.HOUR:
        return recruitment.amount
    if not recruitment.announced_minutes:
        return None
    return (recruitment.amount * 60 / recruitment.announced_minutes).quantize(CENT, ROUND_HALF_UP)
