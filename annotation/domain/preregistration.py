"""Pre-registration: what is expected, how many judgements, who is excluded, when to stop; locked with a hash at launch.

It is written while the study is a draft, and part of what the launch locks. `departures` compares it with what was done
afterwards: counts, exclusions, changes of a live study; never how anybody judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Count
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotation.domain.setting_words import setting_label, share_words
from annotation.domain.studies import StudyError, log_event
from annotation.domain.study_editing import require_draft
from annotation.domain.wording import within_sentence
from annotation.models import Annotation, Participation, Role, Study, User

LONGEST_TEXT = 5000
NEARLY = 0.95  # of the registered number counts as reached: a late lease or a withdrawal is no departure


class Field(NamedTuple):
    """One line of a pre-registration; `kind` is text, whole or share."""

    name: str
    label: str
    kind: str
    help: str = ""


FIELDS = (
    Field(
        "hypotheses",
        gettext_noop("Hypotheses"),
        "text",
        gettext_noop("One per line. Say which figure decides each, and in which direction."),
    ),
    Field(
        "primary",
        gettext_noop("Primary figure"),
        "text",
        gettext_noop("The one number the study stands or falls with."),
    ),
    Field("n_judgements", gettext_noop("Judgements"), "whole", gettext_noop("How many will be collected.")),
    Field("n_annotators", gettext_noop("Annotators"), "whole", gettext_noop("How many people, at least.")),
    Field(
        "min_gold_share",
        gettext_noop("Exclude below this share of gold right"),
        "share",
        gettext_noop("80 excludes who gets less than 80 % of the gold items right."),
    ),
    Field("min_median_seconds", gettext_noop("Exclude below this median time per item, s"), "whole"),
    Field("max_same_share", gettext_noop("Exclude above this share of one and the same answer"), "share"),
    Field(
        "other_exclusions",
        gettext_noop("Other exclusions"),
        "text",
        gettext_noop("Each with the reason that will be given for it."),
    ),
    Field(
        "stopping",
        gettext_noop("Stopping rule"),
        "text",
        gettext_noop("When data taking ends, and who looks at what before."),
    ),
    Field(
        "analysis",
        gettext_noop("Analysis"),
        "text",
        gettext_noop("What is left out, what is corrected for, what counts as a result."),
    ),
)
NEEDED = ("hypotheses", "n_judgements", "stopping")


def settle(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with their types, empty ones left out; raises StudyError naming the line that is wrong."""
    known = {field.name: field for field in FIELDS}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise StudyError(
            _("A pre-registration has no line '%(unknown)s'; it has %(values)s.")
            % {"unknown": unknown[0], "values": ", ".join(known)}
        )
    settled = {name: settled_value(known[name], value) for name, value in values.items() if value not in (None, "")}
    missing = [_(known[name].label) for name in NEEDED if settled and name not in settled]
    if missing:
        raise StudyError(_("A pre-registration needs %(values)s.") % {"values": within_sentence(", ".join(missing))})
    return settled


def settled_value(field: Field, value: Any) -> Any:
    if field.kind == "text":
        if not isinstance(value, str) or len(value) > LONGEST_TEXT:
            raise StudyError(
                _("%(label)s must be a text of at most %(longest_text)s characters.")
                % {"label": _(field.label), "longest_text": LONGEST_TEXT}
            )
        return value.strip()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if field.kind == "whole" and not (is_number and value == int(value) and 1 <= value < 2**31):
        raise StudyError(
            _("%(label)s is %(value)s; it must be a whole number from 1.")
            % {"label": _(field.label), "value": repr(value)}
        )
    if field.kind == "share" and not (is_number and 0 <= value <= 1):
        raise StudyError(
            _("%(label)s is %(value)s; it must be a share from 0 to 1.")
            % {"label": _(field.label), "value": repr(value)}
        )
    return int(value) if field.kind == "whole" else float(value)


def preregister(*, study: Study, user: User | None, values: Mapping[str, Any]) -> None:
    """Write it down for a draft; no values take it away."""
    require_draft(study)
    settled = settle(values)
    with transaction.atomic():
        Study.objects.filter(pk=study.pk).update(preregistration=settled)
        log_event(study, user, "pre-registration written" if settled else "pre-registration removed")
    study.preregistration = settled


class Line(NamedTuple):
    label: str
    value: Any


def lines_of(study: Study) -> list[Line]:
    """What is registered, in the order of the form."""
    return [
        Line(_(field.label), line_value(field, study.preregistration[field.name]))
        for field in FIELDS
        if field.name in study.preregistration
    ]


def line_value(field: Field, value: Any) -> Any:
    return share_words(value) if field.kind == "share" else value


def departures(study: Study) -> list[str]:
    """Where practice left what was registered, a sentence each; nothing for a study without a pre-registration."""
    if not study.preregistration:
        return []
    return [*count_departures(study), *exclusion_departures(study), *version_departures(study)]


def count_departures(study: Study) -> list[str]:
    registered, found = study.preregistration, []
    n_given, n_people = study.n_slots_done, active_annotators(study)
    wanted = registered["n_judgements"]
    if study.state == Study.State.CLOSED and n_given < NEARLY * wanted:
        found.append(
            _("%(n_given)s judgements were collected; %(wanted)s were registered.")
            % {"n_given": n_given, "wanted": wanted}
        )
    if n_given > wanted / NEARLY:
        found.append(
            _("%(n_given)s judgements were collected, more than the %(wanted)s registered.")
            % {"n_given": n_given, "wanted": wanted}
        )
    least = registered.get("n_annotators", 0)
    if study.state == Study.State.CLOSED and n_people < least:
        found.append(
            _("%(n_people)s people judged; at least %(least)s were registered.")
            % {"n_people": n_people, "least": least}
        )
    return found


def active_annotators(study: Study) -> int:
    return Participation.objects.filter(study=study, role=Role.ANNOTATOR, n_done__gt=0).count()


def exclusion_departures(study: Study) -> list[str]:
    """Exclusions in force whose reason the registered text does not name."""
    rows = (
        Annotation.objects.filter(study=study)
        .exclude(excluded_reason="")
        .values_list("excluded_reason")
        .annotate(n=Count("id"))
        .order_by("excluded_reason")
    )
    registered = study.preregistration.get("other_exclusions", "").casefold()
    rules = [
        name for name in ("min_gold_share", "min_median_seconds", "max_same_share") if name in study.preregistration
    ]
    return [
        _("%(n)s answers are excluded because '%(reason)s', which was not registered.") % {"n": n, "reason": reason}
        for reason, n in rows
        if reason.casefold() not in registered and not is_registered_rule(reason, rules)
    ]


RULE_WORDS = {"min_gold_share": "gold", "min_median_seconds": "time", "max_same_share": "same answer"}


def is_registered_rule(reason: str, rules: list[str]) -> bool:
    """Whether the reason names one of the thresholds; withdrawals are a person's right and never a departure."""
    words = reason.casefold()
    return words == "withdrawn" or any(RULE_WORDS[rule] in words for rule in rules)


def version_departures(study: Study) -> list[str]:
    found = []
    for version in study.versions.order_by("id"):
        what = ", ".join(within_sentence(setting_label(change[0])) for change in version.changes)
        after = _("after %(n_answers_before)s answers") % {"n_answers_before": version.n_answers_before}
        found.append(
            _("Version %(version)s (%(kind)s) changed %(what)s %(after)s: %(reason)s")
            % {
                "version": version.version,
                "kind": _(version.kind),
                "what": what,
                "after": after,
                "reason": version.reason,
            }
        )
    return found
