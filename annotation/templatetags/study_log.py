"""The log of a study as people read it: `{% load study_log %}`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from django import template
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from annotation.domain.setting_words import share_words
from annotation.models import StudyEvent

register = template.Library()

SENTENCES = {
    "guideline": _("Guideline, version %(version)s"),
    "launched": _("Launched: its stimuli are frozen by run %(run)s"),
    "opened": _("Opened with %(n_items)s items and %(n_slots)s judgements to give"),
    "launch-failed": _("The launch failed: %(reason)s"),
    "simulated": _("%(n_answers)s answers by simulated annotators"),
    "unblinded": _("Unblinded, over %(n_annotations)s answers"),
    "stopped itself": _(
        "Paused itself after %(n_judgements)s judgements: the interval of its main quantity is within "
        "%(half_width)s on either side"
    ),
    "left out": _("%(n_judgements)s judgements left out: %(reason)s"),
    "taken back": _("%(n_judgements)s judgements that were left out count again"),
    "reserved": _("%(n_slots)s judgements reserved for %(name)s"),
    "reservation withdrawn": _("%(n_slots)s judgements reserved for %(name)s given back to everybody"),
    "answers imported": _("%(n_answers)s answers of %(n_annotators)s annotators imported"),
    "items imported": _("%(n_features)s features imported from %(file)s, %(n_texts)s with a text"),
    "bundle made": _("A bundle for another site: %(n_items)s items, %(n_judgements)s judgements wanted"),
    "bundle received": _("Received from %(site)s: %(n_items)s items"),
    "answers returned": _("%(n_new)s answers came home from %(site)s, %(n_known)s of those sent were here already"),
    "export written": _("Export %(export)s: %(n_answers)s answers"),
    "webhook added": _("Webhook to %(host)s added"),
    "webhook changed": _("Webhook to %(host)s: other events"),
    "webhook removed": _("Webhook to %(host)s removed"),
    "webhook disabled": _("Webhook to %(host)s was switched off. %(reason)s"),
    "webhook switched off": _("Webhook to %(host)s switched off"),
    "webhook switched on": _("Webhook to %(host)s switched on"),
    "webhook secret renewed": _("Webhook to %(host)s: a new secret"),
    "recruitment changed": _("Ways in, sessions or pay changed; the consent is version %(consent_version)s"),
    "invited": _("%(n_invitations)s invitations made"),
    "invited back": _("%(n_invitations)s people invited back"),
    "invitations revoked": _("%(n_invitations)s invitations taken back"),
    "pay approved": _("The pay of %(n_sessions)s sessions approved"),
    "pay refused": _("The pay of %(n_sessions)s sessions refused: %(reason)s"),
    "bonus given": _("A bonus of %(amount)s for %(code)s"),
    "paid": _("%(n_entries)s lines of pay written down as paid"),
    "identity deleted": _("Somebody deleted who they are"),
    "identities deleted": _("%(n_identities)s outside identities deleted"),
    "answers withdrawn": _("%(n_answers)s answers taken back by %(code)s"),
    "image hidden": _("An image hidden, and with it %(n_items)s items"),
    "role given": _("%(username)s is now %(role)s here"),
    "created": _("Created"),
    "copied": _("Copied"),
    "pilot made": _("Pilot made"),
    "settings changed": _("Settings changed"),
    "categories changed": _("Categories changed"),
    "pre-registration written": _("Pre-registration written"),
    "pre-registration removed": _("Pre-registration removed"),
    "version": _("Version %(version)s: %(reason)s"),
    "paused": _("Paused"),
    "resumed": _("Resumed"),
    "closed": _("Closed"),
    "term added": _("Term added"),
    "term renamed": _("Term renamed"),
    "synonym added": _("Synonym added"),
    "terms merged": _("Terms merged"),
    "merge undone": _("Merge undone"),
    "vocabulary mode": _("Vocabulary mode"),
    "terms imported": _("Terms imported"),
    "practice item added": _("Practice item added"),
    "practice item changed": _("Practice item changed"),
    "practice item removed": _("Practice item removed"),
    "practice items reordered": _("Practice items reordered"),
    "gold item added": _("Gold item added"),
    "gold item changed": _("Gold item changed"),
    "gold item removed": _("Gold item removed"),
    "gold items reordered": _("Gold items reordered"),
}


@register.filter
def event_sentence(event: StudyEvent) -> str:
    """What happened, in words; a kind without its own sentence is its own words."""
    words = event.kind[:1].upper() + event.kind[1:]
    try:
        return gettext(SENTENCES.get(event.kind, words)) % {
            name: worded(name, value) for name, value in event.detail.items()
        }
    except KeyError:  # an event whose detail lacks these names
        return gettext(words)


class LogLine(NamedTuple):
    """What happened, so many times in a row, last at this moment."""

    at: datetime
    sentence: str
    username: str
    n: int


@register.filter
def log_lines(events: Iterable[StudyEvent]) -> list[LogLine]:
    """The events from the last on; the same done again and again by one person is one line."""
    lines: list[LogLine] = []
    for event in events:
        sentence, username = event_sentence(event), event.user.username if event.user else ""
        if lines and lines[-1][1:3] == (sentence, username):
            lines[-1] = lines[-1]._replace(n=lines[-1].n + 1)
        else:
            lines.append(LogLine(event.at, sentence, username, 1))
    return lines


def worded(name: str, value: object) -> str:
    """Counts with their thousands set apart, shares as percent."""
    if name == "half_width" and isinstance(value, float):
        return share_words(value)
    if name == "role":
        return gettext(str(value))
    return f"{value:,}" if name.startswith("n_") and isinstance(value, int) else str(value)
