"""Imports and bundles: work that a worker does; ask for its errand until it is `done`, `checked` or `failed`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django.db import transaction
from django.http import FileResponse, HttpRequest
from django.utils.translation import gettext as _
from ninja import File, Form, Schema, Status
from ninja.errors import HttpError
from ninja.files import UploadedFile
from pydantic import Field

from annotation.api.base import api, refusing, require_researcher, study_to_change, token_with
from annotation.domain.errands import ErrandError, ask_errand, confirm_errand, output_path
from annotation.models import Errand, Study, User
from config.wakeup import wake_workers


class ErrandOut(Schema):
    """`report` says what was found or done; a dry run ends as `checked` and changes nothing."""

    id: int
    kind: str
    state: str
    study: str | None
    is_dry_run: bool
    n_done: int
    n_wanted: int
    error: str
    report: dict[str, Any]
    created_at: datetime
    finished_at: datetime | None


class ImportForm(Schema):
    """`mapping` is JSON: our name of a column to theirs. Give `name` and `protocol`, or the `study` of an import."""

    name: str = ""
    protocol: str = "rate-describe-categorise"
    study: str = ""
    mapping: str = "{}"
    dry_run: bool = False


class DryRun(Schema):
    dry_run: bool = False


class BundleIn(Schema):
    """`per_item`: judgements wanted of every item; null: those that are still open."""

    per_item: int | None = Field(None, ge=1)


def errand_out(errand: Errand) -> ErrandOut:
    values = {name: getattr(errand, name) for name in ErrandOut.model_fields if name != "study"}
    return ErrandOut(**values, study=errand.study.slug if errand.study else None)


def asked(kind: str, user: User, **values: Any) -> Status[ErrandOut]:
    errand = refusing(lambda: ask_errand(kind=kind, user=user, **values), ErrandError, status=400)
    transaction.on_commit(lambda: wake_workers("cpu"))
    return Status(202, errand_out(errand))


@api.post("/imports/answers", response={202: ErrandOut}, tags=["imports"])
def import_answers(request: HttpRequest, form: Form[ImportForm], file: File[UploadedFile]) -> Status[ErrandOut]:
    """Earlier answers (an export, or any CSV or JSONL with named columns) as a study of their own."""
    user = token_with(request, "annotations:write").user
    require_researcher(user)
    study = study_to_change(request, form.study, "annotations:write") if form.study else None
    options = {"name": form.name, "protocol": form.protocol, "mapping": mapping_in(form.mapping)}
    upload = (file.name or "", file.chunks())
    return asked(Errand.Kind.IMPORT_ANSWERS, user, study=study, options=options, upload=upload, is_dry_run=form.dry_run)


def mapping_in(text: str) -> dict[str, str]:
    try:
        mapping = json.loads(text)
    except ValueError as error:
        raise HttpError(422, _("The mapping is not JSON.")) from error
    if not isinstance(mapping, dict) or not all(isinstance(value, str) for value in mapping.values()):
        raise HttpError(422, _('The mapping must be like {"annotator": "rater"}.'))
    return mapping


@api.post("/studies/{slug}/imports/items", response={202: ErrandOut}, tags=["imports"])
def import_items(request: HttpRequest, slug: str, form: Form[DryRun], file: File[UploadedFile]) -> Status[ErrandOut]:
    """The features of a draft, and their explanations (dictionary, hookpoint, latent[, pole, text])."""
    study, user = study_to_change(request, slug, "studies:write"), token_with(request, "studies:write").user
    upload = (file.name or "", file.chunks())
    return asked(Errand.Kind.IMPORT_ITEMS, user, study=study, upload=upload, is_dry_run=form.dry_run)


@api.post("/studies/{slug}/bundles", response={202: ErrandOut}, tags=["bundles"])
def make_bundle(request: HttpRequest, slug: str, body: BundleIn) -> Status[ErrandOut]:
    """A launched study for another site; of a study received from there, its answers for the way back."""
    study, user = study_to_change(request, slug, "exports:write"), token_with(request, "exports:write").user
    is_received = study.origin == Study.Origin.BUNDLE
    kind = Errand.Kind.EXPORT_ANSWERS if is_received else Errand.Kind.EXPORT_BUNDLE
    return asked(kind, user, study=study, options={"per_item": body.per_item})


@api.post("/bundles", response={202: ErrandOut}, tags=["bundles"])
def receive_bundle(request: HttpRequest, file: File[UploadedFile]) -> Status[ErrandOut]:
    """Take in a study of another site; it arrives paused."""
    user = token_with(request, "studies:write").user
    require_researcher(user)
    return asked(Errand.Kind.IMPORT_BUNDLE, user, upload=(file.name or "", file.chunks()))


@api.post("/studies/{slug}/returns", response={202: ErrandOut}, tags=["bundles"])
def return_answers(request: HttpRequest, slug: str, form: Form[DryRun], file: File[UploadedFile]) -> Status[ErrandOut]:
    """Take in the answers to a bundle of this study; each is stored once, however often the file comes."""
    study, user = study_to_change(request, slug, "annotations:write"), token_with(request, "annotations:write").user
    upload = (file.name or "", file.chunks())
    return asked(Errand.Kind.RETURN_ANSWERS, user, study=study, upload=upload, is_dry_run=form.dry_run)


@api.get("/errands/{errand_id}", response=ErrandOut, tags=["imports", "bundles"])
def get_errand(request: HttpRequest, errand_id: int) -> ErrandOut:
    """Yours only."""
    return errand_out(errand_of(request, errand_id, "studies:read"))


@api.post("/errands/{errand_id}/confirm", response={202: ErrandOut}, tags=["imports", "bundles"])
def confirm(request: HttpRequest, errand_id: int) -> Status[ErrandOut]:
    """After its dry run: do it."""
    errand = errand_of(request, errand_id, "annotations:write")
    refusing(lambda: confirm_errand(errand=errand), ErrandError)
    transaction.on_commit(lambda: wake_workers("cpu"))
    errand.refresh_from_db()
    return Status(202, errand_out(errand))


@api.get("/errands/{errand_id}/file", tags=["bundles"])
def download(request: HttpRequest, errand_id: int) -> FileResponse:
    errand = errand_of(request, errand_id, "exports:read")
    path = refusing(lambda: output_path(errand), ErrandError, status=404)
    return FileResponse(path.open("rb"), as_attachment=True, filename=errand.file_name)


def errand_of(request: HttpRequest, errand_id: int, scope: str) -> Errand:
    user = token_with(request, scope).user
    errand = Errand.objects.select_related("study").filter(pk=errand_id, created_by=user).first()
    if errand is None:
        raise HttpError(404, _("You asked for no errand %(errand_id)s.") % {"errand_id": errand_id})
    return errand
