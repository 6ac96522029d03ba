"""Changing a study that people already work in: each change is a new version, minor or major, that says what it does.

Minor changes leave the meaning of an answer as it was (how long a session is, in which order items come, wording of the
guideline). Major ones do not (what the guideline asks for, which categories there are): answers before and after are
kept, carry their version, and are reported apart; the people read the guideline and practise again. What was frozen at
launch (features, stimuli, protocol) never changes: that is another study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from django.db import transaction
from django.utils.translation import gettext, gettext_noop

from annotation.domain.crowd_consent import settle_consent_version
from annotation.domain.launching import settings_hash
from annotation.domain.participation import current_guideline
from annotation.domain.practice import ask_anew
from annotation.domain.queue_order import put_in_order
from annotation.domain.studies import StudyError, log_event, write_guideline
from annotation.models import Guideline, Study, StudyVersion, User

LIVE_STATES = (Study.State.OPEN, Study.State.PAUSED)
MINOR, MAJOR = StudyVersion.Kind.MINOR, StudyVersion.Kind.MAJOR
LONGEST_REASON = 500


class Rule(NamedTuple):
    """What changing a setting of a live study means."""

    label: str
    kind: str
    invalidates: str
    is_right: Callable[[Any], bool]
    words: str


def is_whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def is_whole_or_none(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: value is None or is_whole(low, high)(value)


RULES: dict[str, Rule] = {
    "session_length": Rule(
        gettext_noop("Items in a session"),
        MINOR,
        gettext_noop("Nothing: sessions under way end by the new length."),
        is_whole(5, 500),
        gettext_noop("a whole number from 5 to 500"),
    ),
    "max_per_person": Rule(
        gettext_noop("Judgements per person, at most"),
        MINOR,
        gettext_noop("Nothing: who has given more gets no further items."),
        is_whole_or_none(1, 1_000_000),
        gettext_noop("a whole number from 1, or empty"),
    ),
    "queue_order": Rule(
        gettext_noop("Order of the queue"),
        MINOR,
        gettext_noop("Nothing: judgements still wanted come in the new order."),
        lambda value: value in Study.QueueOrder.values,
        ", ".join(Study.QueueOrder.values),
    ),
    "repeat_share": Rule(
        gettext_noop("Share of own items repeated on a return"),
        MINOR,
        gettext_noop("Nothing: returns from now on have the new share."),
        lambda value: isinstance(value, int | float) and 0 <= value <= 0.2,
        gettext_noop("a share from 0 to 0.2"),
    ),
    "stopping": Rule(
        gettext_noop("Stopping rule"),
        MINOR,
        gettext_noop("The pre-registered rule, if there is one: the report will say that it was left."),
        lambda value: isinstance(value, dict),
        gettext_noop("the width and the number of judgements"),
    ),
    "consent_text": Rule(
        gettext_noop("Consent text"),
        MINOR,
        gettext_noop("Nothing; everybody is asked for consent again before they go on."),
        lambda value: isinstance(value, str) and bool(value.strip()),
        gettext_noop("a text"),
    ),
    "min_viewing_ms": Rule(
        gettext_noop("Shortest time an item is looked at"),
        MAJOR,
        gettext_noop("Comparing times and ratings across the change: earlier answers could be given faster."),
        is_whole(0, 60_000),
        gettext_noop("milliseconds from 0 to 60000"),
    ),
}
GUIDELINE_MINOR = gettext_noop("Nothing: the wording changed, not what is asked for.")
GUIDELINE_MAJOR = gettext_noop(
    "Pooling answers across the change: people were asked for something else. Everybody reads the new "
    "guideline and practises again before their next item."
)


class VersionPlan(NamedTuple):
    """What a change would make, before it is made."""

    version: str
    kind: str
    changes: list[tuple[str, Any, Any]]
    invalidates: list[str]
    n_answers_before: int


def plan_change(*, study: Study, values: Mapping[str, Any]) -> VersionPlan:
    """What changing these settings would mean; raises StudyError for what cannot be."""
    require_live(study)
    changed = {name: value for name, value in values.items() if not is_same(getattr(study, name, value), value)}
    for name, value in values.items():
        if name not in RULES:
            raise StudyError(
                gettext("'%(name)s' was frozen at launch and cannot change; make a new study for it.") % {"name": name}
            )
        if not RULES[name].is_right(value):
            raise StudyError(
                gettext("%(label)s cannot be %(value)s; it can be %(words)s.")
                % {"label": gettext(RULES[name].label), "value": repr(value), "words": gettext(RULES[name].words)}
            )
    if not changed:
        raise StudyError(gettext("Nothing is different from the version in force."))
    kind = MAJOR if any(RULES[name].kind == MAJOR for name in changed) else MINOR
    changes = [(name, getattr(study, name), value) for name, value in changed.items()]
    return planned(study, kind, changes, [RULES[name].invalidates for name in changed])


def is_same(before: Any, after: Any) -> bool:
    """Whether nothing changes; a form takes away the blank lines around a text."""
    return before.strip() == after.strip() if isinstance(before, str) and isinstance(after, str) else before == after


def planned(study: Study, kind: str, changes: list[tuple[str, Any, Any]], invalidates: list[str]) -> VersionPlan:
    n_before = study.annotations.filter(is_current=True).count()
    return VersionPlan(next_version(study.version, kind), kind, changes, invalidates, n_before)


def next_version(version: str, kind: str) -> str:
    major, minor = (int(part) for part in version.split("."))
    return f"{major + 1}.0" if kind == MAJOR else f"{major}.{minor + 1}"


def change_live_study(*, study: Study, user: User | None, values: Mapping[str, Any], reason: str) -> StudyVersion:
    """Make the change; raises StudyError, and then nothing is changed."""
    settled = settle_reason(reason)
    with transaction.atomic():
        locked = Study.objects.select_for_update().get(pk=study.pk)
        plan = plan_change(study=locked, values=values)
        for name, _, value in plan.changes:
            setattr(locked, name, value)
        changed = {name for name, _, _ in plan.changes}
        if "consent_text" in changed:
            locked.consent_version = next_consent(locked.consent_version)
        version = record(locked, user, plan, settled)
        if "queue_order" in changed:
            put_in_order(locked, locked.queue_order)
        settle_consent_version(locked, is_raised="consent_text" in changed)
    study.refresh_from_db()
    return version


def plan_guideline(*, study: Study, text: str, is_major: bool) -> VersionPlan:
    require_live(study)
    last = current_guideline(study)
    if last is not None and last.text == text:
        raise StudyError(gettext("The guideline is the same as the version in force."))
    before = last.version if last else 0
    kind, words = (MAJOR, GUIDELINE_MAJOR) if is_major else (MINOR, GUIDELINE_MINOR)
    return planned(study, kind, [("guideline", before, before + 1)], [words])


def change_guideline(*, study: Study, user: User | None, text: str, is_major: bool, reason: str) -> Guideline:
    """A new guideline in a live study; after a major change everybody reads it and practises again."""
    settled = settle_reason(reason)
    with transaction.atomic():
        locked = Study.objects.select_for_update().get(pk=study.pk)
        plan = plan_guideline(study=locked, text=text, is_major=is_major)
        guideline = write_guideline(study=locked, user=user, text=text)
        record(locked, user, plan, settled)
        if is_major:
            ask_anew(study=locked)
    study.refresh_from_db()
    return guideline


def record(study: Study, user: User | None, plan: VersionPlan, reason: str) -> StudyVersion:
    study.version = plan.version
    study.save()
    log_event(study, user, "version", version=plan.version, level=plan.kind, reason=reason)
    return StudyVersion.objects.create(
        study=study, version=plan.version, kind=plan.kind, changes=[list(change) for change in plan.changes],
        invalidates=plan.invalidates, reason=reason, settings_hash=settings_hash(study, frozen_plan(study)),
        n_answers_before=plan.n_answers_before, created_by=user,
    )  # fmt: skip


def frozen_plan(study: Study) -> str:
    return str(study.launch_run.config.get("plan", "")) if study.launch_run else ""


def require_live(study: Study) -> None:
    if study.state not in LIVE_STATES:
        raise StudyError(
            gettext("'%(name)s' is %(state)s; versions are for a study that people work in.")
            % {"name": study.name, "state": study.get_state_display()}
        )


def settle_reason(reason: str) -> str:
    settled = " ".join(reason.split())
    if not settled or len(settled) > LONGEST_REASON:
        raise StudyError(
            gettext("Say why, in at most %(longest_reason)s characters: the report shows it.")
            % {"longest_reason": LONGEST_REASON}
        )
    return settled


def next_consent(version: str) -> str:
    """The version after this one: its last number raised, or .1 put behind it."""
    head, dot, tail = version.rpartition(".")
    return f"{head}{dot}{int(tail) + 1}" if tail.isdecimal() else f"{version}.1"[-12:]
