"""Pre-registration: what is expected, how many judgements, who is excluded, when to stop; locked with a hash at launch.

It is written while the study is a draft, and part of what the launch locks. `departures` compares it with what was done
afterwards: counts, exclusions, changes of a live study; never how anybody judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Count

from annotation.domain.studies import StudyError, log_event
from annotation.domain.study_editing import require_draft
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
    Field("hypotheses", "Hypotheses", "text", "One per line. Say which figure decides each, and in which direction."),
    Field("primary", "Primary figure", "text", "The one number the study stands or falls with."),
    Field("n_judgements", "Judgements", "whole", "How many will be collected."),
    Field("n_annotators", "Annotators", "whole", "How many people, at least."),
    Field("min_gold_share", "Exclude below this share of gold right", "share", "0.8 excludes who gets less than 80 %."),
    Field("min_median_seconds", "Exclude below this median time per item, s", "whole"),
    Field("max_same_share", "Exclude above this share of one and the same answer", "share"),
    Field("other_exclusions", "Other exclusions", "text", "Each with the reason that will be given for it."),
    Field("stopping", "Stopping rule", "text", "When data taking ends, and who looks at what before."),
    Field("analysis", "Analysis", "text", "What is left out, what is corrected for, what counts as a result."),
)
NEEDED = ("hypotheses", "n_judgements", "stopping")


def settle(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with their types, empty ones left out; raises StudyError naming the line that is wrong."""
    known = {field.name: field for field in FIELDS}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise StudyError(f"A pre-registration has no line '{unknown[0]}'; it has {', '.join(known)}.")
    settled = {name: settled_value(known[name], value) for name, value in values.items() if value not in (None, "")}
    missing = [known[name].label for name in NEEDED if settled and name not in settled]
    if missing:
        raise StudyError(f"A pre-registration needs {', '.join(missing).lower()}.")
    return settled


def settled_value(field: Field, value: Any) -> Any:
    if field.kind == "text":
        if not isinstance(value, str) or len(value) > LONGEST_TEXT:
            raise StudyError(f"{field.label} must be a text of at most {LONGEST_TEXT} characters.")
        return value.strip()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if field.kind == "whole" and not (is_number and value == int(value) and 1 <= value < 2**31):
        raise StudyError(f"{field.label} is {value!r}; it must be a whole number from 1.")
    if field.kind == "share" and not (is_number and 0 <= value <= 1):
        raise StudyError(f"{field.label} is {value!r}; it must be a share from 0 to 1.")
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
        Line(field.label, study.preregistration[field.name]) for field in FIELDS if field.name in study.preregistration
    ]


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
        found.append(f"{n_given} judgements were collected; {wanted} were registered.")
    if n_given > wanted / NEARLY:
        found.append(f"{n_given} judgements were collected, more than the {wanted} registered.")
    least = registered.get("n_annotators", 0)
    if study.state == Study.State.CLOSED and n_people < least:
        found.append(f"{n_people} people judged; at least {least} were registered.")
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
        f"{n} answers are excluded because '{reason}', which was not registered."
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
        what = ", ".join(change[0] for change in version.changes)
        after = f"after {version.n_answers_before} answers"
        found.append(f"Version {version.version} ({version.kind}) changed {what} {after}: {version.reason}")
    return found
