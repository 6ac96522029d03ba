"""Pages of a long list by keyset: the page after (value, id), never an OFFSET, never a count of all rows.

The cursor is the last row's value and id, so that a page costs one range of the index on (…, field, id) however deep
it lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from django.db.models import Model, Q, QuerySet
from django.utils.translation import gettext

SEPARATOR = "~"
Row = TypeVar("Row", bound=Model)


class CursorError(ValueError):
    """The address holds a cursor nobody gave out; the message is fit for the user."""


class Cursor(NamedTuple):
    value: float
    pk: int

    def __str__(self) -> str:
        return f"{self.value!r}{SEPARATOR}{self.pk}"


@dataclass(frozen=True)
class Order:
    """A list sorted by a numeric column, ties by id."""

    field: str
    is_descending: bool = False

    def cursor_of(self, row: Model) -> Cursor:
        return Cursor(getattr(row, self.field), row.pk)

    def columns(self, *, is_backward: bool = False) -> tuple[str, str]:
        sign = "-" if self.is_descending != is_backward else ""
        return (f"{sign}{self.field}", f"{sign}id")

    def beyond(self, cursor: Cursor, *, is_backward: bool = False) -> Q:
        """Rows past the cursor. The first condition is redundant: it is the one that indexes can use."""
        way = "lt" if self.is_descending != is_backward else "gt"
        tie = Q(**{self.field: cursor.value, f"id__{way}": cursor.pk})
        return Q(**{f"{self.field}__{way}e": cursor.value}) & (Q(**{f"{self.field}__{way}": cursor.value}) | tie)


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows of one page; the cursors are '' where there is no page in that direction."""

    rows: list[Row]
    following: str
    previous: str


def read_cursor(text: str) -> Cursor:
    value, _, pk = text.partition(SEPARATOR)
    try:
        return Cursor(float(value) if "." in value or "e" in value else int(value), int(pk))
    except ValueError as error:
        raise CursorError(
            gettext("This address names a page that does not exist; begin again at the first page.")
        ) from error


def keyset_page(rows: QuerySet[Row], order: Order, *, after: str = "", before: str = "", size: int = 24) -> Page[Row]:
    """The page after or before a cursor; the first one without. Costs one query of size + 1 rows."""
    cursor = read_cursor(after or before) if after or before else None
    is_backward = bool(before and not after)
    if cursor is not None:
        rows = rows.filter(order.beyond(cursor, is_backward=is_backward))
    found = list(rows.order_by(*order.columns(is_backward=is_backward))[: size + 1])
    has_more = len(found) > size
    found = found[:size][::-1] if is_backward else found[:size]
    if not found:
        return Page([], "", "")
    has_following = has_more if not is_backward else True
    has_previous = has_more if is_backward else cursor is not None
    return Page(
        rows=found,
        following=str(order.cursor_of(found[-1])) if has_following else "",
        previous=str(order.cursor_of(found[0])) if has_previous else "",
    )


def neighbors(rows: QuerySet[Row], order: Order, row: Any) -> tuple[Row | None, Row | None]:
    """The rows just before and just after this one in the same list."""
    cursor = order.cursor_of(row)
    previous = rows.filter(order.beyond(cursor, is_backward=True)).order_by(*order.columns(is_backward=True)).first()
    following = rows.filter(order.beyond(cursor)).order_by(*order.columns()).first()
    return previous, following
