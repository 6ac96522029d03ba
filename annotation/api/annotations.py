"""Answers, read in the order in which they came. They are written by the player, by imports and by bundles only."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import Field

from annotation.api.base import api, study_for_token
from annotation.domain.export_columns import ColumnType, columns_for, export_rows
from annotation.domain.unblinding import unblinding_of
from annotation.models import Annotation


class AnswerQuery(Schema):
    """`since` is the cursor of the last page, export or webhook; `after` is another word for it."""

    after: int = Field(0, ge=0)
    since: int = Field(0, ge=0)
    limit: int = Field(100, ge=1, le=1000)


class AnswerPage(Schema):
    """Answers have the columns of an export, and `key` to page by. `next` is null only where there was none."""

    items: list[dict[str, Any]]
    next: int | None


@api.get("/studies/{slug}/annotations", response=AnswerPage, tags=["answers"])
def list_annotations(request: HttpRequest, slug: str, page: Query[AnswerQuery]) -> AnswerPage:
    """In the order in which they came; a program that keeps `next` reads only what is new."""
    study = study_for_token(request, slug, "annotations:read")
    columns = columns_for(is_unblinded=unblinding_of(study) is not None)
    keys = list(
        Annotation.objects.filter(study=study, pk__gt=max(page.after, page.since))
        .order_by("pk")
        .values_list("pk", flat=True)[: page.limit]
    )
    rows = export_rows(study, columns, keys=keys)
    names = [column.name for column in columns]
    nested = [column.name for column in columns if column.type is ColumnType.JSON]
    items = [{"key": key} | dict(zip(names, row, strict=True)) for key, row in zip(keys, rows, strict=True)]
    return AnswerPage(items=[parsed(item, nested) for item in items], next=keys[-1] if keys else None)


def parsed(item: dict[str, Any], nested: list[str]) -> dict[str, Any]:
    return item | {name: json.loads(item[name]) for name in nested}
