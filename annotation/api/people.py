"""People of a study, by their pseudonym: how far each is, and how they do on gold. Never a name or an address."""

from __future__ import annotations

from datetime import datetime

from django.http import HttpRequest
from ninja import Query, Schema

from annotation.api.base import PageQuery, api, study_for_token
from annotation.models import Participation


class PersonOut(Schema):
    annotator: str
    is_simulated: bool
    came_by: str
    n_done: int
    n_skipped: int
    n_gold: int
    n_gold_right: int
    joined_at: datetime
    consented_at: datetime | None
    practised_at: datetime | None
    last_seen_at: datetime | None


class PersonPage(Schema):
    items: list[PersonOut]
    next: int | None


@api.get("/studies/{slug}/people", response=PersonPage, tags=["people"])
def list_people(request: HttpRequest, slug: str, page: Query[PageQuery]) -> PersonPage:
    """Annotators only, in the order in which they joined."""
    study = study_for_token(request, slug, "annotations:read")
    rows = Participation.objects.filter(study=study, role="annotator", pk__gt=page.after).select_related("user")
    people = list(rows.order_by("pk")[: page.limit])
    own = [name for name in PersonOut.model_fields if name not in ("annotator", "is_simulated")]
    items = [
        PersonOut(
            annotator=row.user.annotator_code, is_simulated=row.user.is_simulated,
            **{name: getattr(row, name) for name in own},
        )
        for row in people
    ]  # fmt: skip
    return PersonPage(items=items, next=people[-1].pk if len(people) == page.limit else None)
