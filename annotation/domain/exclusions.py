"""Leaving answers out: a flag with a reason, its effect shown before it is applied, and a way back.

Answers stay where they are (research/annotation.md R10). While a study takes answers, each judgement left out is wanted
anew from somebody else: its slot remains as a sign that this person has had the item, and an urgent one is opened.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from django.db import transaction
from django.db.models import Count, F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.domain.priorities import verdict
from annotation.domain.quality import asks_for_verdicts
from annotation.domain.quality_measures import pair_agreement
from annotation.domain.queue import give_back
from annotation.domain.queue_lanes import LANES, random_key
from annotation.domain.studies import StudyError, log_event
from annotation.models import Annotation, Condition, Exclusion, Participation, Slot, Study, User

BATCH = 1000
TAKES_ANSWERS = {Study.State.OPEN, Study.State.PAUSED}


class Effect(NamedTuple):
    """What leaving answers out changes; nothing of it is by condition. Agreement is None where it is undefined."""

    n_judgements: int
    n_items: int
    n_items_below: int
    n_reopened: int
    agreement_before: float | None
    agreement_after: float | None


def answers_of(study: Study, annotator: User) -> QuerySet[Annotation]:
    """The answers of one person that count so far."""
    return counted(study).filter(annotator=annotator)


def single_answers(study: Study, ids: Collection[int]) -> QuerySet[Annotation]:
    return counted(study).filter(pk__in=list(ids))


def counted(study: Study) -> QuerySet[Annotation]:
    return Annotation.objects.filter(study=study, is_current=True, excluded_reason="")


def effect_of(*, study: Study, answers: QuerySet[Annotation]) -> Effect:
    """What leaving these answers out would change, without changing it."""
    ids = set(answers.values_list("id", flat=True))
    items = set(answers.filter(is_late_extra=False).values_list("item_id", flat=True))
    wanted = wanted_slots(answers)
    before, after = agreements(study, ids)
    return Effect(
        n_judgements=len(ids),
        n_items=len(items),
        n_items_below=n_below_overlap(study, ids, items),
        n_reopened=wanted.count() if study.state in TAKES_ANSWERS else 0,
        agreement_before=before,
        agreement_after=after,
    )


def wanted_slots(answers: QuerySet[Annotation]) -> QuerySet[Slot]:
    """The slots these answers fill, checks left aside."""
    return Slot.objects.filter(pk__in=answers.values("slot_id"), state=Slot.State.DONE, lane__gte=0)


def n_below_overlap(study: Study, ids: set[int], items: Iterable[int]) -> int:
    """Items that would have fewer counted answers than judgements are wanted, and have enough now."""
    below = 0
    all_items = sorted(items)
    for start in range(0, len(all_items), BATCH):
        part = all_items[start : start + BATCH]
        wanted = count_by_item(
            Slot.objects.filter(item_id__in=part, lane__gte=0).exclude(state__in=[Slot.State.SEEN, "withdrawn"])
        )
        given: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        rows = counted(study).filter(item_id__in=part, is_late_extra=False).values_list("id", "item_id")
        for pk, item in rows:
            given[item][0] += 1
            given[item][1] += pk not in ids
        below += sum(now >= wanted.get(item, 1) > then for item, (now, then) in given.items())
    return below


def count_by_item(slots: QuerySet[Slot]) -> dict[int, int]:
    return dict(slots.values_list("item_id").annotate(n=Count("id")))


def agreements(study: Study, left_out: set[int]) -> tuple[float | None, float | None]:
    """Of all pairs of answers to items of the core, with and without these answers."""
    if not asks_for_verdicts(study):
        return None, None
    rows = counted(study).filter(is_late_extra=False, item__is_core=True, item__repeat_of=None)
    rows = rows.exclude(item__condition__in=[Condition.GOLD, Condition.CATCH])
    before: dict[int, Counter[str]] = defaultdict(Counter)
    after: dict[int, Counter[str]] = defaultdict(Counter)
    columns = rows.values_list("id", "item_id", "patch_rating", "image_rating", "choice")
    for pk, item, patch_rating, image_rating, choice in columns.iterator(chunk_size=5000):
        said = verdict(patch_rating, image_rating, choice)
        before[item][said] += 1
        if pk not in left_out:
            after[item][said] += 1
    return pair_agreement(before.values()), pair_agreement(after.values())


def exclude_annotator(*, study: Study, annotator: User, reason: str, user: User | None) -> Exclusion:
    """Leave out all of a person's answers; they get no more items, and what they hold goes to others."""
    place = Participation.objects.filter(study=study, user=annotator).first()
    if place is None:
        raise StudyError(_("%(annotator_code)s is not in this study.") % {"annotator_code": annotator.annotator_code})
    with transaction.atomic():
        free = Participation.objects.filter(pk=place.pk, excluded_at=None)  # of two researchers at once, one decides
        if not free.update(excluded_at=timezone.now()):
            raise StudyError(
                _("The answers of %(annotator_code)s are left out already.")
                % {"annotator_code": annotator.annotator_code}
            )
        give_back(Slot.objects.filter(study=study, annotator=annotator, state=Slot.State.LEASED))
        return exclude(study, answers_of(study, annotator), annotator, reason=reason, user=user)


def exclude_answers(*, study: Study, ids: Collection[int], reason: str, user: User | None) -> Exclusion:
    """Leave out single answers."""
    with transaction.atomic():
        return exclude(study, single_answers(study, ids), None, reason=reason, user=user)


def exclude(
    study: Study, answers: QuerySet[Annotation], annotator: User | None, *, reason: str, user: User | None
) -> Exclusion:
    words = " ".join(reason.split())
    if not words or len(words) > 200:
        raise StudyError(_("Give the reason in one sentence of at most 200 characters."))
    effect = effect_of(study=study, answers=answers)
    if effect.n_judgements == 0 and annotator is None:
        raise StudyError(_("None of these answers counts now; there is nothing to leave out."))
    exclusion = Exclusion.objects.create(
        study=study, annotator=annotator, reason=words, effect=effect._asdict(), by=user
    )
    ids = list(answers.values_list("id", flat=True))
    if study.state in TAKES_ANSWERS:
        want_anew(study, list(wanted_slots(answers)))
    for start in range(0, len(ids), BATCH):
        part = Annotation.objects.filter(pk__in=ids[start : start + BATCH])
        part.update(excluded_reason=words, exclusion=exclusion)
    log_event(study, user, "left out", n_judgements=effect.n_judgements, exclusion=exclusion.pk, reason=words)
    return exclusion


def want_anew(study: Study, slots: Collection[Slot]) -> None:
    """Somebody else is to judge these: the old slot says who has had the item, an urgent one takes its place."""
    Slot.objects.filter(pk__in=[slot.pk for slot in slots]).update(state=Slot.State.SEEN)
    Slot.objects.bulk_create(
        Slot(study=study, item_id=slot.item_id, lane=slot.lane - slot.lane % LANES, random_key=random_key())
        for slot in slots
    )
    Study.objects.filter(pk=study.pk).update(
        n_slots_done=F("n_slots_done") - len(slots), queue_epoch=F("queue_epoch") + 1, n_kept_up=0
    )
    Participation.objects.filter(study=study).update(queue_empty_at=None)


def undo_exclusion(*, exclusion: Exclusion, user: User | None) -> int:
    """The answers count again; returns how many. A judgement given in their place meanwhile counts too."""
    with transaction.atomic():
        locked = Exclusion.objects.select_for_update(of=("self",)).select_related("study").get(pk=exclusion.pk)
        if locked.undone_at is not None:
            raise StudyError(_("This was taken back already."))
        answers = Annotation.objects.filter(exclusion=locked)
        take_back(locked.study, answers)
        n = answers.update(excluded_reason="", exclusion=None)
        if locked.annotator_id is not None:
            place = Participation.objects.filter(study=locked.study, user_id=locked.annotator_id)
            place.update(excluded_at=None, queue_lane=None)
        locked.undone_at, locked.undone_by = timezone.now(), user
        locked.save(update_fields=["undone_at", "undone_by"])
        log_event(locked.study, user, "taken back", n_judgements=n, exclusion=locked.pk)
    return n


def take_back(study: Study, answers: QuerySet[Annotation]) -> None:
    """Their slots are done again; what was wanted in their place and is still open is wanted no more."""
    filled = answers.filter(is_current=True).values("slot_id")
    slots = list(Slot.objects.filter(pk__in=filled, state=Slot.State.SEEN, lane__gte=0))
    n_filled = 0
    for slot in slots:
        instead = Slot.objects.filter(item_id=slot.item_id, state=Slot.State.OPEN).order_by("lane", "-id").first()
        if instead is not None and Slot.objects.filter(pk=instead.pk, state=Slot.State.OPEN).delete()[0]:
            continue
        n_filled += 1
    Slot.objects.filter(pk__in=[slot.pk for slot in slots]).update(state=Slot.State.DONE)
    changes = {"n_slots_done": F("n_slots_done") + len(slots), "n_slots": F("n_slots") + n_filled}
    Study.objects.filter(pk=study.pk).update(**changes)


def exclusions_of(study: Study) -> QuerySet[Exclusion]:
    """Every decision, the newest first."""
    return Exclusion.objects.filter(study=study).select_related("annotator", "by", "undone_by")
