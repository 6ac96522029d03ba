"""Numbers as people read them: `{% load quantities %}`."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext as _

register = template.Library()


@register.filter
def percent(share: float | None) -> str:
    """0.00832 → '0.83 %'; small shares keep two significant digits, an absent one is a dash."""
    if share is None:
        return "–"
    value = 100 * share
    if value == 0 or abs(value) >= 10:
        return f"{value:.0f} %"
    return f"{value:.2g} %" if abs(value) >= 0.001 else f"{value:.0e} %"


@register.filter
def one_in(share: float | None) -> str:
    """0.00832 → '1 in 120'; nothing for shares of a half or more."""
    if not share or share >= 0.5:
        return ""
    n = 1 / share
    rounded = round(n) if n < 100 else round(n, 1 - len(str(int(n))) + 1)
    return _("1 in %(n)s") % {"n": f"{int(rounded):,}"}


@register.filter
def work_time(hours: float) -> str:
    """0.29 → '17 min', 3.5 → '3.5 h': whole minutes below two hours."""
    if hours < 2:
        return _("%(n)s min") % {"n": max(1, round(60 * hours)) if hours > 0 else 0}
    return _("%(n)s h") % {"n": f"{hours:,.1f}"}


@register.filter
def fixed3(value: float | None) -> str:
    """Three decimals, for columns of shares; an absent value is a dash."""
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


@register.filter
def digits3(value: float | None) -> str:
    """Three significant digits, without an exponent where that is short; an absent value is a dash."""
    if value is None:
        return "–"
    if value == 0 or 0.001 <= abs(value) < 100_000:
        text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
        return text.replace("-", "−")
    return f"{value:.2e}".replace("-", "−")
