"""What researchers change of a study: its guideline, categories, practice and gold items, people.

Everything annotators see is settled before launch and locked by it; afterwards only a new version of the guideline and
the people can change. Each change is an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils.translation import gettext

from annotation.domain.answer_message import AnswerError
from annotation.domain.launch_problems import wants_accepted
from annotation.domain.protocols import questions_of, validate_accepted
from annotation.domain.studies import StudyError, log_event
from annotation.models import Feature, Participation, ReferenceItem, Role, Study, User

STUDY_ROLES = (Role.ANNOTATOR, Role.REVIEWER, Role.RESEARCHER)


def require_draft(study: Study) -> None:
    if study.state != Study.State.DRAFT:
        raise StudyError(
            gettext("This study was launched, and what annotators see is locked; make a new study instead.")
        )


def change_study(*, study: Study, user: User, values: Mapping[str, Any]) -> None:
    require_draft(study)
    with transaction.atomic():
        Study.objects.filter(pk=study.pk).update(**values)
        log_event(study, user, "settings changed")


@dataclass(frozen=True)
class ReferenceValues:
    """What a practice or gold item is: its feature, the second of a pair, the sentence shown, what is right and why."""

    kind: str
    feature: Feature
    accepted: Mapping[str, Any]
    reason: str = ""
    other_feature: Feature | None = None
    text: str = ""


def add_reference(*, study: Study, user: User, values: ReferenceValues) -> ReferenceItem:
    """A practice or gold item; the same feature again is changed in place."""
    require_draft(study)
    settled = settle_accepted(study, values.accepted)
    kind, feature = values.kind, values.feature
    with transaction.atomic():
        last = study.reference_items.filter(kind=kind).aggregate(last=Max("position"))["last"]
        reference, is_new = ReferenceItem.objects.get_or_create(
            study=study, kind=kind, feature=feature, defaults={"position": 0 if last is None else last + 1}
        )
        reference.accepted, reference.reason = settled, values.reason
        reference.other_feature, reference.text = values.other_feature, values.text
        reference.save(update_fields=["accepted", "reason", "other_feature", "text"])
        event = "added" if is_new else "changed"
        log_event(study, user, f"{kind} item {event}", feature=feature.pk)
    return reference


def settle_accepted(study: Study, accepted: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Checked; empty where they follow from the stimulus once it is frozen, or where none can be listed."""
    if not wants_accepted(study):
        return {}
    try:
        names = set(study.categories.values_list("name", flat=True))
        return validate_accepted(questions_of(study), accepted, categories=names)
    except AnswerError as error:
        raise StudyError(str(error)) from error


def remove_reference(*, reference: ReferenceItem, user: User) -> None:
    require_draft(reference.study)
    with transaction.atomic():
        reference.delete()
        log_event(reference.study, user, f"{reference.kind} item removed", feature=reference.feature_id)


def move_reference(*, reference: ReferenceItem, user: User, by: int) -> None:
    """One place up (-1) or down (+1) among the items of its kind."""
    require_draft(reference.study)
    siblings = list(reference.study.reference_items.filter(kind=reference.kind).order_by("position", "id"))
    place = next(i for i, sibling in enumerate(siblings) if sibling.pk == reference.pk)
    other = min(max(place + by, 0), len(siblings) - 1)
    siblings[place], siblings[other] = siblings[other], siblings[place]
    with transaction.atomic():
        for position, sibling in enumerate(siblings):
            ReferenceItem.objects.filter(pk=sibling.pk).update(position=position)
        log_event(reference.study, user, f"{reference.kind} items reordered")


def set_role(*, study: Study, user: User, username: str, role: str) -> Participation:
    """Give somebody a role in the study; an annotator who has answered stays one, so that the counts stay true."""
    if role not in STUDY_ROLES:
        raise StudyError(
            gettext("The role '%(role)s' is unknown; it can be %(values)s.")
            % {"role": role, "values": ", ".join(STUDY_ROLES)}
        )
    person = User.objects.filter(username__iexact=username.strip()).first()
    if person is None:
        raise StudyError(
            gettext("There is nobody called '%(username)s'; send them the link, or ask an administrator.")
            % {"username": username}
        )
    with transaction.atomic():
        participation, _ = Participation.objects.get_or_create(study=study, user=person, defaults={"role": role})
        if participation.role == Role.ANNOTATOR and role != Role.ANNOTATOR and participation.n_done:
            raise StudyError(
                gettext("%(username)s has answered here and stays an annotator of this study.")
                % {"username": person.username}
            )
        participation.role = role
        participation.save(update_fields=["role"])
        log_event(study, user, "role given", username=person.username, role=role)
    return participation
