"""What a report says, in the language of its reader; see `analysis.statistics.wording`."""

from __future__ import annotations

from django.utils.translation import gettext

from analysis.statistics.figures import Figure
from analysis.statistics.wording import Several, Words


def say(text: str) -> str:
    """Translated with all it is made of; names that people gave stay as they are."""
    if isinstance(text, Several):
        return "; ".join(map(say, text.parts))
    if not isinstance(text, Words):
        return text
    if not text.values:
        return gettext(text.template)
    return gettext(text.template) % {
        name: say(value) if isinstance(value, str) else value for name, value in text.values.items()
    }


def said(figure: Figure) -> Figure:
    return figure._replace(of=say(figure.of), note=say(figure.note))
