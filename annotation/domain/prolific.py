"""Arriving from Prolific: PROLIFIC_PID, STUDY_ID and SESSION_ID in the address, checked before anything is stored.

One PID takes part once per study. A second arrival resumes the same place; another SESSION_ID is written down with it.
Somebody who was invited back begins the return session by arriving again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from annotation.domain.crowd_consent import recruitment_of
from annotation.domain.crowd_sessions import entry_problem
from annotation.domain.invitations import use_return
from annotation.domain.participation import ParticipationError, admit, require_account, require_open
from annotation.domain.retention import find_identity, keep_identity, place_of_identity
from annotation.models import ExternalIdentity, ExternalVisit, Participation, Recruitment, Study, User

PARAMETERS = ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID")
PID = re.compile(r"[0-9A-Za-z]{24}")
LABEL = re.compile(r"[0-9A-Za-z]{12,64}")
SOURCE = ExternalIdentity.Source.PROLIFIC


class Arrival(NamedTuple):
    """Who comes, for which study on Prolific, as which submission."""

    pid: str
    study_id: str
    session_id: str


def parse_arrival(parameters: Mapping[str, str]) -> Arrival | None:
    """The arrival in an address; None if it has none of the parameters. Raises for a part of them or wrong ones."""
    given = {name: parameters.get(name, "").strip() for name in PARAMETERS}
    if not any(name in parameters for name in PARAMETERS):
        return None
    missing = [name for name, value in given.items() if not value or "{" in value]
    if missing:
        raise ParticipationError(
            _("This address from Prolific lacks %(names)s; open the study on Prolific again, or tell its researchers.")
            % {"names": ", ".join(missing)}
        )
    wrong = [name for name, value in given.items() if not (PID if name == "PROLIFIC_PID" else LABEL).fullmatch(value)]
    if wrong:
        raise ParticipationError(
            _("%(name)s in this address is not one of Prolific's; open the study on Prolific again.")
            % {"name": wrong[0]}
        )
    return Arrival(given["PROLIFIC_PID"], given["STUDY_ID"], given["SESSION_ID"])


def arrival_problem(*, study: Study, arrival: Arrival) -> str:
    """Why somebody new cannot take part now, in a sentence, before they read a consent; empty for those who are in."""
    return "" if find_identity(study, SOURCE, arrival.pid) else entry_problem(study, None)


def arrive(*, study: Study, arrival: Arrival, user: User | None = None) -> Participation:
    """The place of this PID in the study, new or resumed, with the submission written down."""
    require_open(study)
    recruitment = recruitment_of(study)
    if not recruitment.by_prolific:
        raise ParticipationError(_("This study does not take part on Prolific; open the link you were sent."))
    require_expected(recruitment, arrival)
    if problem := arrival_problem(study=study, arrival=arrival):
        raise ParticipationError(problem)
    identity = find_identity(study, SOURCE, arrival.pid) or new_identity(study, arrival)
    participation = place_of_identity(identity)
    require_account(participation, user)
    ExternalVisit.objects.get_or_create(
        identity=identity, external_session=arrival.session_id, defaults={"external_study": arrival.study_id}
    )
    use_return(participation=participation)
    return participation


def require_expected(recruitment: Recruitment, arrival: Arrival) -> None:
    expected = [name.strip() for name in recruitment.prolific_study_ids.split(",") if name.strip()]
    if expected and arrival.study_id not in expected:
        raise ParticipationError(
            _("This address belongs to another study on Prolific; open the study there again, or tell its researchers.")
        )


def new_identity(study: Study, arrival: Arrival) -> ExternalIdentity:
    """Account, place and identity at once; of two arrivals at the same moment the second takes the first's."""
    try:
        with transaction.atomic():
            place = admit(study=study, user=None, came_by=Participation.CameBy.PROLIFIC)
            return keep_identity(participation=place, source=SOURCE, external_id=arrival.pid)
    except IntegrityError:
        found = find_identity(study, SOURCE, arrival.pid)
        if found is None:
            raise
        return found
