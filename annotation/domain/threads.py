"""Threads on items: what an annotator remarked, what researchers answered, and whether it is dealt with.

Flags and comments stay open until somebody resolves them; so do reported images. The author of a remark is told of an
answer the next time they work, by text only: nothing of what the item is goes with it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.models import ImageReport, Item, Participation, Remark, Reply, Role, Study, User

TEXT_LENGTH = 4000
MOST_NOTICES = 20
MOST_COUNTED = 100


class ThreadError(Exception):
    """Something cannot be said or settled; the message is fit for the user."""


class Notice(NamedTuple):
    """An answer to one's own remark."""

    reply_id: int
    remark: str
    reply: str
    at: datetime


def said(text: str) -> str:
    words = text.strip()
    if not words:
        raise ThreadError(_("Write something first."))
    if len(words) > TEXT_LENGTH:
        raise ThreadError(
            _("The text has %(n)s characters; %(text_length)s is the most.")
            % {"n": len(words), "text_length": TEXT_LENGTH}
        )
    return words


def open_remarks() -> Q:
    return Q(resolved_at=None) & ~Q(kind=Remark.Kind.SKIP)


def remarks_of(study: Study) -> QuerySet[Remark]:
    """With their threads, the newest first."""
    return (
        Remark.objects.filter(item__study=study)
        .select_related("author", "resolved_by", "item")
        .prefetch_related("replies__author")
        .order_by("-id")
    )


def unresolved_counts(studies: Iterable[Study]) -> dict[int, int]:
    """Open flags, comments and reports of images, by study."""
    ids = [study.pk for study in studies]
    counts = dict.fromkeys(ids, 0)
    remarks = Remark.objects.filter(open_remarks(), item__study__in=ids).values_list("item__study_id")
    reports = ImageReport.objects.filter(study__in=ids, resolved_at=None).values_list("study_id")
    for rows in (remarks, reports):
        for study_id, n in rows.annotate(n=Count("id")).order_by():
            counts[study_id] += n
    return counts


def unresolved_for(user: User) -> int:
    """What waits for this person in the studies they own or are a researcher of; every page asks, so no more is read
    than a badge can say.
    """
    mine = Study.objects.filter(
        Q(created_by=user) | Q(pk__in=Participation.objects.filter(user=user, role=Role.RESEARCHER).values("study_id"))
    )
    remarks = Remark.objects.filter(open_remarks(), item__study__in=mine).order_by().values_list("pk")
    reports = ImageReport.objects.filter(study__in=mine, resolved_at=None).order_by().values_list("pk")
    return len(remarks[:MOST_COUNTED]) + len(reports[:MOST_COUNTED])


def reply_to(*, remark: Remark, author: User, text: str) -> Reply:
    return Reply.objects.create(remark=remark, author=author, text=said(text))


def resolve(*, remark: Remark, user: User, note: str) -> None:
    """Dealt with; the note says how, and is for researchers and reviewers."""
    Remark.objects.filter(pk=remark.pk).update(
        resolved_at=timezone.now(), resolved_by=user, resolution=note.strip()[:TEXT_LENGTH]
    )


def reopen(*, remark: Remark) -> None:
    Remark.objects.filter(pk=remark.pk).update(resolved_at=None, resolved_by=None)


def open_thread(*, item: Item, author: User, text: str) -> Remark:
    """A reviewer's own remark on an item."""
    return Remark.objects.create(uuid=uuid.uuid4(), kind=Remark.Kind.COMMENT, item=item, author=author, text=said(text))


def resolve_report(*, report: ImageReport) -> None:
    """Somebody has looked at the image; the same act opens the report again."""
    report.resolved_at = None if report.resolved_at else timezone.now()
    report.save(update_fields=["resolved_at"])


def replies_to(participation: Participation) -> QuerySet[Reply]:
    """Answers of others to this person's remarks in the study that they have not seen."""
    return Reply.objects.filter(
        remark__item__study_id=participation.study_id, remark__author_id=participation.user_id, seen_at=None
    ).exclude(author_id=participation.user_id)


def notices(participation: Participation) -> list[Notice]:
    rows = replies_to(participation).select_related("remark").order_by("id")[:MOST_NOTICES]
    return [Notice(row.pk, row.remark.text, row.text, row.at) for row in rows]


def mark_seen(*, participation: Participation, reply_ids: Iterable[int]) -> int:
    with transaction.atomic():
        return replies_to(participation).filter(pk__in=list(reply_ids)).update(seen_at=timezone.now())
