"""Items: what is judged in a study, and, once it is unblinded, what each really is."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Query, Schema

from annotation.api.base import PageQuery, api, study_for_token
from annotation.domain.unblinding import unblinding_of
from annotation.models import Item

PUBLIC = {"item": "pk", "stimulus": "stimulus_id"}
HIDDEN = {
    "condition": "condition", "variant": "variant", "text": "text", "block": "feature__block",
    "dictionary": "feature__dictionary__name", "hookpoint": "feature__hookpoint", "latent": "feature__latent",
    "pole": "feature__pole", "truth": "truth",
}  # fmt: skip


class ItemOut(Schema):
    """Everything but `item` and `stimulus` is null until the study is unblinded."""

    item: int
    stimulus: str
    condition: str | None
    variant: str | None
    text: str | None
    block: int | None
    dictionary: str | None
    hookpoint: str | None
    latent: int | None
    pole: int | None
    truth: dict[str, Any] | None


class ItemPage(Schema):
    items: list[ItemOut]
    next: int | None


@api.get("/studies/{slug}/items", response=ItemPage, tags=["items"])
def list_items(request: HttpRequest, slug: str, page: Query[PageQuery]) -> ItemPage:
    study = study_for_token(request, slug, "items:read")
    shown = PUBLIC | HIDDEN if unblinding_of(study) is not None else PUBLIC
    query = Item.objects.filter(study=study, pk__gt=page.after).order_by("pk")
    rows = list(query.values_list(*shown.values())[: page.limit])
    blank: dict[str, Any] = dict.fromkeys(HIDDEN)
    items = [ItemOut(**(blank | dict(zip(shown, row, strict=True)))) for row in rows]
    return ItemPage(items=items, next=rows[-1][0] if len(rows) == page.limit else None)
