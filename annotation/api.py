"""The HTTP interface for programs: studies, items, answers, exports. Described at /api/docs.

A token (`Authorization: Bearer ...`) acts for its owner and within its scopes: 401 without a live token, 403 for what
its scope or its owner's role does not allow, 404 for what its owner may not know of. Lists are paged by key: pass
`next` of one page as `after` of the following one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import FileResponse, HttpRequest, HttpResponse
from ninja import NinjaAPI, Query, Schema, Status
from ninja.errors import HttpError
from ninja.security import HttpBearer
from pydantic import Field

from annotation.domain.export_columns import ColumnType, columns_for, export_rows
from annotation.domain.exports import ExportError, download_path, downloads_of, request_export
from annotation.domain.results import require_results_role, studies_with_results, study_with_results
from annotation.domain.tokens import token_for
from annotation.domain.unblinding import unblinding_of
from annotation.models import Annotation, ApiToken, ExportFile, Item, Study
from config.wakeup import wake_workers


class TokenAuth(HttpBearer):
    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        return token_for(token)


api = NinjaAPI(title="Vitrine", version="1", auth=TokenAuth(), urls_namespace="api")


@api.exception_handler(PermissionDenied)
def refused(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    return api.create_response(request, {"detail": str(error)}, status=403)


@api.exception_handler(Study.DoesNotExist)
def not_there(request: HttpRequest, error: Study.DoesNotExist) -> HttpResponse:
    return api.create_response(request, {"detail": str(error)}, status=404)


def token_with(request: HttpRequest, scope: str) -> ApiToken:
    token: ApiToken = request.auth  # type: ignore[attr-defined]
    if scope not in token.scopes:
        raise HttpError(403, f"This token lacks the scope '{scope}'.")
    return token


def study_for_token(request: HttpRequest, slug: str, scope: str) -> Study:
    return study_with_results(token_with(request, scope).user, slug)


class PageQuery(Schema):
    after: int = Field(0, ge=0)
    limit: int = Field(100, ge=1, le=1000)


class StudyOut(Schema):
    slug: str
    name: str
    state: str
    protocol: str
    protocol_version: str
    is_simulated: bool
    is_unblinded: bool
    n_slots: int
    n_slots_done: int
    created_at: datetime
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


class ItemOut(Schema):
    """`condition`, `block` and `dictionary` are null until the study is unblinded."""

    item: int
    stimulus: str
    condition: str | None
    block: int | None
    dictionary: str | None


class ItemPage(Schema):
    items: list[ItemOut]
    next: int | None


class AnswerPage(Schema):
    """Answers have the columns of an export, and `key` to page by."""

    items: list[dict[str, Any]]
    next: int | None


class ExportOut(Schema):
    id: int
    file_format: str
    state: str
    sha256: str
    n_rows: int
    size: int
    error: str
    files: list[str]
    created_at: datetime


class ExportIn(Schema):
    file_format: str


def study_out(study: Study) -> StudyOut:
    values = {name: getattr(study, name) for name in StudyOut.model_fields if name != "is_unblinded"}
    return StudyOut(**values, is_unblinded=unblinding_of(study) is not None)


def export_out(export: ExportFile) -> ExportOut:
    values = {name: getattr(export, name) for name in ExportOut.model_fields if name != "files"}
    return ExportOut(**values, files=downloads_of(export))


@api.get("/studies", response=StudyPage, tags=["studies"])
def list_studies(request: HttpRequest, page: Query[PageQuery]) -> StudyPage:
    """Newest last."""
    user = token_with(request, "studies:read").user
    require_results_role(user)
    studies = list(studies_with_results(user).filter(pk__gt=page.after).order_by("pk")[: page.limit])
    return StudyPage(
        items=[study_out(study) for study in studies], next=studies[-1].pk if len(studies) == page.limit else None
    )


@api.get("/studies/{slug}", response=StudyOut, tags=["studies"])
def get_study(request: HttpRequest, slug: str) -> StudyOut:
    return study_out(study_for_token(request, slug, "studies:read"))


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


@api.get("/studies/{slug}/items", response=ItemPage, tags=["studies"])
def list_items(request: HttpRequest, slug: str, page: Query[PageQuery]) -> ItemPage:
    study = study_for_token(request, slug, "studies:read")
    is_unblinded = unblinding_of(study) is not None
    query = Item.objects.filter(study=study, pk__gt=page.after).order_by("pk")
    rows = list(
        query.values_list("pk", "stimulus_id", "condition", "feature__block", "feature__dictionary__name")[: page.limit]
    )
    items = [
        ItemOut(
            item=pk,
            stimulus=stimulus,
            condition=condition if is_unblinded else None,
            block=block if is_unblinded else None,
            dictionary=dictionary if is_unblinded else None,
        )
        for pk, stimulus, condition, block, dictionary in rows
    ]
    return ItemPage(items=items, next=rows[-1][0] if len(rows) == page.limit else None)


@api.get("/studies/{slug}/annotations", response=AnswerPage, tags=["answers"])
def list_annotations(request: HttpRequest, slug: str, page: Query[PageQuery]) -> AnswerPage:
    """In the order in which they came; a program that keeps `next` reads only what is new."""
    study = study_for_token(request, slug, "annotations:read")
    columns = columns_for(is_unblinded=unblinding_of(study) is not None)
    keys = list(
        Annotation.objects.filter(study=study, pk__gt=page.after)
        .order_by("pk")
        .values_list("pk", flat=True)[: page.limit]
    )
    rows = export_rows(study, columns, keys=keys)
    names = [column.name for column in columns]
    nested = [column.name for column in columns if column.type is ColumnType.JSON]
    items = [{"key": key} | dict(zip(names, row, strict=True)) for key, row in zip(keys, rows, strict=True)]
    return AnswerPage(items=[_parsed(item, nested) for item in items], next=keys[-1] if keys else None)


def _parsed(item: dict[str, Any], nested: list[str]) -> dict[str, Any]:
    import json

    return item | {name: json.loads(item[name]) for name in nested}


@api.get("/studies/{slug}/exports", response=list[ExportOut], tags=["exports"])
def list_exports(request: HttpRequest, slug: str) -> list[ExportOut]:
    """The latest fifty."""
    study = study_for_token(request, slug, "exports:read")
    return [export_out(export) for export in study.export_files.all()[:50]]


@api.post("/studies/{slug}/exports", response={202: ExportOut}, tags=["exports"])
def start_export(request: HttpRequest, slug: str, body: ExportIn) -> Status[ExportOut]:
    """A worker writes the file; ask for the export until its state is `done`."""
    token = token_with(request, "exports:write")
    study = study_with_results(token.user, slug)
    try:
        export = request_export(study=study, file_format=body.file_format, user=token.user)
    except ExportError as error:
        raise HttpError(400, str(error)) from error
    transaction.on_commit(lambda: wake_workers("cpu"))
    return Status(202, export_out(export))


@api.get("/studies/{slug}/exports/{export_id}", response=ExportOut, tags=["exports"])
def get_export(request: HttpRequest, slug: str, export_id: int) -> ExportOut:
    return export_out(_export(request, slug, export_id))


@api.get("/studies/{slug}/exports/{export_id}/files/{name}", tags=["exports"])
def download_export(request: HttpRequest, slug: str, export_id: int, name: str) -> FileResponse:
    try:
        path = download_path(_export(request, slug, export_id), name)
    except ExportError as error:
        raise HttpError(404, str(error)) from error
    return FileResponse(path.open("rb"), as_attachment=True, filename=name)


def _export(request: HttpRequest, slug: str, export_id: int) -> ExportFile:
    study = study_for_token(request, slug, "exports:read")
    export = study.export_files.filter(pk=export_id).first()
    if export is None:
        raise HttpError(404, f"There is no export {export_id} of '{slug}'.")
    return export
