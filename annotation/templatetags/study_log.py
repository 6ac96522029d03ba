"""The log of a study as people read it: `{% load study_log %}`."""

from __future__ import annotations

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


def worded(name: str, value: object) -> str:
    """Counts with their thousands set apart, shares as percent."""
    if name == "half_width" and isinstance(value, float):
        return share_words(value)
    return f"{value:,}" if name.startswith("n_") and isinstance(value, int) else str(value)
