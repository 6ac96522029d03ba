"""The vocabulary as its page and its file show it: every term with its wordings and its uses, pooled.

Uses are counted over all answers alike; nothing here tells conditions, blocks or dictionaries apart, so it can be read
while the study is blind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Count
from django.utils.translation import gettext_noop as _

from annotation.domain.export_writers import without_formula
from annotation.domain.term_matching import bare, fold
from annotation.domain.vocabulary import roots
from annotation.models import Annotation, Study, Term, TermMerge

SHOWN = {
    "": _("all"),
    "listed": _("on the list"),
    "new": _("not on the list"),
    "merged": _("with merges"),
    "alike": _("spelled alike"),
}
N_PICTURES = 6


class Wording(NamedTuple):
    text: str
    n_uses: int
    kind: str


@dataclass
class TermRow:
    """One term and what stands for it."""

    pk: int
    text: str
    own_uses: int
    is_listed: bool
    made_at: datetime
    wordings: list[Wording] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)

    @property
    def n_uses(self) -> int:
        return self.own_uses + sum(wording.n_uses for wording in self.wordings)

    @property
    def synonyms(self) -> list[Wording]:
        return [wording for wording in self.wordings if wording.kind != TermMerge.Kind.MERGE]

    @property
    def merged(self) -> list[Wording]:
        return [wording for wording in self.wordings if wording.kind == TermMerge.Kind.MERGE]


ORDERS: dict[str, Callable[[TermRow], Any]] = {
    "uses": lambda row: (row.n_uses, row.text),
    "term": lambda row: fold(row.text),
    "wordings": lambda row: (len(row.wordings), row.n_uses),
    "made": lambda row: (row.made_at, row.pk),
}


def term_rows(study: Study, *, query: str = "", shown: str = "", order: str = "-uses") -> list[TermRow]:
    """The terms that fit, in this order ('-' first: largest first)."""
    rows = [row for row in all_rows(study) if fits(row, fold(query), shown)]
    key = ORDERS.get(order.removeprefix("-"), ORDERS["uses"])
    return sorted(rows, key=key, reverse=order.startswith("-"))


def all_rows(study: Study) -> list[TermRow]:
    root_ids = roots(study)
    kinds = dict(TermMerge.objects.filter(study=study, undone_at__isnull=True).values_list("source_id", "kind"))
    rows: dict[int, TermRow] = {}
    wordings: dict[int, list[Wording]] = defaultdict(list)
    for pk, text, n_uses, is_listed, made_at in Term.objects.filter(study=study).values_list(
        "id", "text", "n_uses", "is_listed", "made_at"
    ):
        if pk in root_ids:
            wordings[root_ids[pk]].append(Wording(text, n_uses, kinds.get(pk, TermMerge.Kind.MERGE)))
        else:
            rows[pk] = TermRow(pk, text, n_uses, is_listed, made_at)
    for pk, found in wordings.items():
        rows[pk].wordings = sorted(found, key=lambda wording: (-wording.n_uses, wording.text))
    mark_alike(rows.values())
    return [row for row in rows.values() if row.n_uses or row.is_listed or row.wordings]


def mark_alike(rows: Iterable[TermRow]) -> None:
    """Which terms differ by case, spaces, signs or a plural only."""
    groups: dict[str, list[TermRow]] = defaultdict(list)
    for row in rows:
        groups[bare(row.text).replace(" ", "")].append(row)
    for group in groups.values():
        for row in group if len(group) > 1 else ():
            row.alike = [other.text for other in group if other.pk != row.pk]


def fits(row: TermRow, query: str, shown: str) -> bool:
    if query and not any(query in fold(text) for text in (row.text, *(wording.text for wording in row.wordings))):
        return False
    match shown:
        case "listed":
            return row.is_listed
        case "new":
            return not row.is_listed
        case "merged":
            return bool(row.merged)
        case "alike":
            return bool(row.alike)
    return True


def csv_rows(rows: Iterable[TermRow]) -> list[list[object]]:
    """With a heading; the first two columns are those of an import."""
    table: list[list[object]] = [["term", "synonyms", "uses", "own uses", "is listed", "merged from", "made at"]]
    for row in rows:
        merged = "; ".join(f"{wording.text} ({wording.n_uses})" for wording in row.merged)
        synonyms = "; ".join(wording.text for wording in row.synonyms)
        made_at = row.made_at.isoformat(timespec="seconds")
        cells = [row.text, synonyms, row.n_uses, row.own_uses, int(row.is_listed), merged, made_at]
        table.append([without_formula(cell) for cell in cells])
    return table


class LabelledItem(NamedTuple):
    """An item that was called so, and by how many."""

    item_id: int
    stimulus_id: str
    n: int


def items_called(study: Study, row: TermRow) -> list[LabelledItem]:
    """The items with most labels of this term: what people meant by it, in pictures."""
    texts = [row.text, *(wording.text for wording in row.wordings)]
    called = (
        Annotation.objects.filter(study=study, is_current=True, label__in=texts)
        .values_list("item_id", "item__stimulus_id")
        .annotate(n=Count("id"))
        .order_by("-n", "item_id")[:N_PICTURES]
    )
    return [LabelledItem(*found) for found in called]
