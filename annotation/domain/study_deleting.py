"""Deleting a draft: what goes with it, and why a study that was launched stays.

A draft is work of its researchers alone. What was launched was shown to people: it is closed, never deleted.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotation.domain.studies import StudyError
from annotation.models import ReferenceItem, Study, User

logger = logging.getLogger(__name__)


class Deletion(NamedTuple):
    """What deleting a study would take away, a line each; or why it cannot be deleted, and whether closing is left."""

    goes: list[str]
    refusal: str
    may_close: bool


def deletion_of(study: Study) -> Deletion:
    refusal = why_kept(study)
    may_close = study.state in {Study.State.OPEN, Study.State.PAUSED}
    return Deletion([] if refusal else what_goes(study), refusal, may_close)


def why_kept(study: Study) -> str:
    """Why this study cannot be deleted, in a sentence; empty for one that can."""
    if study.state == Study.State.LAUNCHING:
        return _("This study is being launched, and a launched study is kept.")
    if study.state != Study.State.DRAFT:
        return _("This study was launched: what people were shown and answered is kept, and reports rest on it.")
    if study.items.exists() or study.annotations.exists() or study.export_files.exists():
        return _("This draft holds items or answers from elsewhere, and answers are kept.")
    pilot = study.pilots.first()
    if pilot is None:
        return ""
    return _("'%(pilot)s' is a pilot of this draft and rests on it: delete that first, or keep both.") % {
        "pilot": pilot.name
    }


def what_goes(study: Study) -> list[str]:
    """The parts of a draft that there are, each with its number."""
    kinds = list(study.reference_items.values_list("kind", flat=True))
    n_practice, n_gold = kinds.count(ReferenceItem.Kind.PRACTICE), kinds.count(ReferenceItem.Kind.GOLD)
    n_versions, n_categories, n_terms = study.guidelines.count(), study.categories.count(), study.terms.count()
    n_people = study.participations.exclude(user=study.created_by).count()
    n_invited = study.invitations.filter(used_at__isnull=True, revoked_at__isnull=True).count()
    n_events = study.events.count()
    lines = [
        (1, _("the settings and the sample")),
        (len(study.preregistration), _("the pre-registration")),
        (n_versions, ngettext("%(n)s version of the guideline", "%(n)s versions of the guideline", n_versions)),
        (n_categories, ngettext("%(n)s category", "%(n)s categories", n_categories)),
        (n_terms, ngettext("%(n)s term of the vocabulary", "%(n)s terms of the vocabulary", n_terms)),
        (n_practice, ngettext("%(n)s practice item", "%(n)s practice items", n_practice)),
        (n_gold, ngettext("%(n)s gold item", "%(n)s gold items", n_gold)),
        (n_people, ngettext("the role of %(n)s person in it", "the roles of %(n)s people in it", n_people)),
        (n_invited, ngettext("%(n)s invitation; its link stops working", "%(n)s invitations; their links stop working",
                             n_invited)),
        (n_events, ngettext("%(n)s line of its log", "%(n)s lines of its log", n_events)),
    ]  # fmt: skip
    return [words % {"n": n} for n, words in lines if n]


def delete_draft(*, study: Study, user: User) -> None:
    """Raises StudyError for anything but a draft that nothing rests on; then nothing is deleted."""
    with transaction.atomic():
        locked = Study.objects.select_for_update().get(pk=study.pk)
        refusal = why_kept(locked)
        if refusal:
            raise StudyError(refusal)
        locked.events.all().delete()
        locked.delete()
    logger.info("%s deleted the draft '%s'", user.username, study.slug)
