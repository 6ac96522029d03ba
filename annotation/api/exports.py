"""Exports: files of a study's answers, asked for, waited for, downloaded."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.http import FileResponse, HttpRequest
from django.utils.translation import gettext as _
from ninja import Schema, Status
from ninja.errors import HttpError
from pydantic import Field

from annotation.api.base import api, study_for_token, token_with
from annotation.domain.exports import ExportError, download_path, downloads_of, request_export
from annotation.domain.results import study_with_results
from annotation.models import ExportFile
from config.wakeup import wake_workers


class ExportOut(Schema):
    id: int
    file_format: str
    state: str
    sha256: str
    n_rows: int
    after: int
    last: int
    size: int
    error: str
    files: list[str]
    created_at: datetime


class ExportIn(Schema):
    """`after` is `last` of an earlier export: only what came later is written."""

    file_format: str
    after: int = Field(0, ge=0)


def export_out(export: ExportFile) -> ExportOut:
    values = {name: getattr(export, name) for name in ExportOut.model_fields if name != "files"}
    return ExportOut(**values, files=downloads_of(export))


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
        export = request_export(study=study, file_format=body.file_format, user=token.user, after=body.after)
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
        raise HttpError(
            404, _("There is no export %(export_id)s of '%(slug)s'.") % {"export_id": export_id, "slug": slug}
        )
    return export
