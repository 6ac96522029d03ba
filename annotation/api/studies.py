"""Studies: list, read, progress; made from the values of a study file; launched, paused, resumed, closed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.http import HttpRequest
from ninja import Query, Schema, Status

from annotation.api.base import (
    PageQuery,
    api,
    refusing,
    require_researcher,
    study_for_token,
    study_to_change,
    token_with,
)
from annotation.domain.launching import launch_study
from annotation.domain.results import require_results_role, studies_with_results
from annotation.domain.studies import StudyError, close_study, pause_study, resume_study
from annotation.domain.study_file_checks import StudyFileError
from annotation.domain.study_files import create_study_from
from annotation.domain.unblinding import unblinding_of
from annotation.models import Study
from config.wakeup import wake_workers


class StudyOut(Schema):
    slug: str
    name: str
    state: str
    origin: str
    protocol: str
    protocol_version: str
    protocol_options: dict[str, Any]
    version: str
    is_simulated: bool
    is_unblinded: bool
    n_items: int
    n_slots: int
    n_slots_done: int
    locked_hash: str
    created_at: datetime
    launched_at: datetime | None
    closed_at: datetime | None


class StudyPage(Schema):
    items: list[StudyOut]
    next: int | None


class ProgressOut(Schema):
    state: str
    n_slots: int
    n_slots_done: int
    n_annotators: int
    n_annotators_active: int


class StudyIn(Schema):
    """`values` are the entries of a study file (docs/commands.md); texts stand in it, for it has no files beside it."""

    values: dict[str, Any]


def study_out(study: Study) -> StudyOut:
    values = {name: getattr(study, name) for name in StudyOut.model_fields if name != "is_unblinded"}
    return StudyOut(**values, is_unblinded=unblinding_of(study) is not None)


@api.get("/studies", response=StudyPage, tags=["studies"])
def list_studies(request: HttpRequest, page: Query[PageQuery]) -> StudyPage:
    """Newest last."""
    user = token_with(request, "studies:read").user
    require_results_role(user)
    studies = list(studies_with_results(user).filter(pk__gt=page.after).order_by("pk")[: page.limit])
    return StudyPage(
        items=[study_out(study) for study in studies], next=studies[-1].pk if len(studies) == page.limit else None
    )


@api.post("/studies", response={201: StudyOut}, tags=["studies"])
def create_study(request: HttpRequest, body: StudyIn) -> Status[StudyOut]:
    """A draft with the values of a study file."""
    user = token_with(request, "studies:write").user
    require_researcher(user)
    study = refusing(lambda: create_study_from(values=body.values, folder=None, user=user), StudyFileError, status=400)
    return Status(201, study_out(study))


@api.get("/studies/{slug}", response=StudyOut, tags=["studies"])
def get_study(request: HttpRequest, slug: str) -> StudyOut:
    return study_out(study_for_token(request, slug, "studies:read"))


@api.post("/studies/{slug}/launch", response={202: StudyOut}, tags=["studies"])
def launch(request: HttpRequest, slug: str) -> Status[StudyOut]:
    """A run freezes the stimuli; ask for the study until it is `open`."""
    token, study = token_with(request, "studies:write"), study_to_change(request, slug, "studies:write")
    run = refusing(lambda: launch_study(study=study, user=token.user), StudyError)
    transaction.on_commit(lambda: wake_workers(run.queue))
    return Status(202, study_out(study))


@api.post("/studies/{slug}/pause", response=StudyOut, tags=["studies"])
def pause(request: HttpRequest, slug: str) -> StudyOut:
    return changed(request, slug, pause_study)


@api.post("/studies/{slug}/resume", response=StudyOut, tags=["studies"])
def resume(request: HttpRequest, slug: str) -> StudyOut:
    return changed(request, slug, resume_study)


@api.post("/studies/{slug}/close", response=StudyOut, tags=["studies"])
def close(request: HttpRequest, slug: str) -> StudyOut:
    """For good; only then can the study be unblinded, which is done on its page."""
    return changed(request, slug, close_study)


def changed(request: HttpRequest, slug: str, act: Any) -> StudyOut:
    token, study = token_with(request, "studies:write"), study_to_change(request, slug, "studies:write")
    refusing(lambda: act(study=study, user=token.user), StudyError)
    study.refresh_from_db()
    return study_out(study)


@api.get("/studies/{slug}/progress", response=ProgressOut, tags=["studies"])
def get_progress(request: HttpRequest, slug: str) -> ProgressOut:
    study = study_for_token(request, slug, "studies:read")
    people = study.participations.filter(role="annotator")
    return ProgressOut(
        state=study.state,
        n_slots=study.n_slots,
        n_slots_done=study.n_slots_done,
        n_annotators=people.count(),
        n_annotators_active=people.filter(n_done__gt=0).count(),
    )
