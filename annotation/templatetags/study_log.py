"""The log of a study as people read it: `{% load study_log %}`."""

from __future__ import annotations

from django import template

from annotation.models import StudyEvent

register = template.Library()

SENTENCES = {
    "guideline": "Guideline, version {version}",
    "launched": "Launched: its stimuli are frozen by run {run}",
    "opened": "Opened with {n_items:,} items and {n_slots:,} judgements to give",
    "launch-failed": "The launch failed: {reason}",
    "simulated": "{n_answers:,} answers by simulated annotators",
    "unblinded": "Unblinded, over {n_annotations:,} answers",
    "stopped itself": "Paused itself after {n_judgements:,} judgements: the interval of its main quantity is within "
    "{half_width} on either side",
    "left out": "{n_judgements:,} judgements left out: {reason}",
    "taken back": "{n_judgements:,} judgements that were left out count again",
    "reserved": "{n_slots:,} judgements reserved for {name}",
    "reservation withdrawn": "{n_slots:,} judgements reserved for {name} given back to everybody",
    "answers imported": "{n_answers:,} answers of {n_annotators} annotators imported",
    "items imported": "{n_features:,} features imported from {file}, {n_texts:,} with a text",
    "bundle made": "A bundle for another site: {n_items:,} items, {n_judgements:,} judgements wanted",
    "bundle received": "Received from {site}: {n_items:,} items",
    "answers returned": "{n_new:,} answers came home from {site}, {n_known:,} of those sent were here already",
    "export written": "Export {export}: {n_answers:,} answers",
    "webhook added": "Webhook to {host} added",
    "webhook changed": "Webhook to {host}: other events",
    "webhook removed": "Webhook to {host} removed",
    "webhook disabled": "Webhook to {host} was switched off. {reason}",
    "webhook switched off": "Webhook to {host} switched off",
    "webhook switched on": "Webhook to {host} switched on",
    "webhook secret renewed": "Webhook to {host}: a new secret",
    "recruitment changed": "Ways in, sessions or pay changed; the consent is version {consent_version}",
    "invited": "{n_invitations:,} invitations made",
    "invited back": "{n_invitations:,} people invited back",
    "invitations revoked": "{n_invitations:,} invitations taken back",
    "pay approved": "The pay of {n_sessions:,} sessions approved",
    "pay refused": "The pay of {n_sessions:,} sessions refused: {reason}",
    "bonus given": "A bonus of {amount} for {code}",
    "paid": "{n_entries:,} lines of pay written down as paid",
    "identity deleted": "Somebody deleted who they are",
    "identities deleted": "{n_identities:,} outside identities deleted",
    "answers withdrawn": "{n_answers:,} answers taken back by {code}",
    "image hidden": "An image hidden, and with it {n_items:,} items",
    "role given": "{username} is now {role} here",
}


@register.filter
def event_sentence(event: StudyEvent) -> str:
    """What happened, in words; a kind without its own sentence is its own words."""
    words = event.kind[:1].upper() + event.kind[1:]
    try:
        return SENTENCES.get(event.kind, words).format(**event.detail)
    except (KeyError, ValueError):  # an event whose detail lacks these names or numbers
        return words
