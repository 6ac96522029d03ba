"""The queue: slots are claimed under a lease, mostly at once, and never counted (research/annotation.md R1, R2).

The open slots of a study lie in lanes (annotation.domain.queue_lanes), and the slots of a lane form a ring ordered by
their random key. A person starts at a random place and walks on, so people neither wait for each other's rows nor share
an order. The walk goes along the ring by an index, and one look at (item, annotator) per slot tells what this person
may not be offered; it ends where enough is found. The place reached is kept, so that what was passed over once is not
looked at again before the next lap. A lap that finds nothing returns expired leases, and is remembered.

Checks (gold of a schedule, own items again) wait for their person in a row each; how many are among the next items is
drawn when they are claimed.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.domain.checks import gold_schedule_of, make_gold_slots, take_checks
from annotation.domain.participation import ParticipationError
from annotation.domain.queue_at_once import EMPTY_SECONDS, NO_LIMIT, Wanted, claim_at_once, lease_end
from annotation.domain.queue_lanes import FIRST, GOLD, REPEATS, draw_gold, draw_repeats
from annotation.domain.queue_walk import walk
from annotation.models import Participation, Slot, Study, User
from annotation.models.study import QUEUE_KEYS

EXPIRE_AT_ONCE = 1000

chance = random.SystemRandom()


def claim_slots(
    *,
    study: Study,
    annotator: User,
    n: int = 5,
    have: Collection[int] = (),
    now: datetime | None = None,
    place: Participation | None = None,
) -> list[Slot]:
    """Lease up to n slots to the annotator: first those leased to them already that their browser has lost.

    `have` names the slots their browser still holds, answers not yet acknowledged included; `place` spares the look for
    the person's row. Empty when the study is not open, when nothing is left for this person, or when they have given as
    many answers as one person may. In no order that matters: browsers get them in that of their numbers
    (annotation.domain.row_numbers). Raises ParticipationError before practice is passed.
    """
    moment = now or timezone.now()
    if study.state != Study.State.OPEN:
        return []
    at = place or Participation.objects.filter(study=study, user=annotator).first()
    if at is None:
        raise ParticipationError(practice_first(study))
    wanted = drawn(study, at, n, have)
    slots = claim_at_once(study, annotator, wanted, now=moment)
    if len(slots) < n:
        slots += claim_step_by_step(study, annotator, rest_of(wanted, slots), moment)
    return slots


def practice_first(study: Study) -> str:
    return _("Finish the practice of '%(study)s' before you begin.") % {"study": study.name}


def drawn(study: Study, place: Participation, n: int, have: Collection[int]) -> Wanted:
    """How many of the next items shall be checks; the person cannot tell, and each draw is its own."""
    n_gold = draw_gold(gold_schedule_of(study), place.n_done, n, chance)
    return Wanted(n, have, n_gold, min(draw_repeats(place, n, chance), n - n_gold))


def rest_of(wanted: Wanted, given: Sequence[Slot]) -> Wanted:
    """What is still wanted of the same claim: checks that were given are not given twice."""
    lanes = [slot.lane for slot in given]
    return Wanted(
        wanted.n - len(given), [*wanted.have, *(slot.pk for slot in given)], wanted.n_gold - lanes.count(GOLD),
        wanted.n_repeats - lanes.count(REPEATS), is_begun=bool(given),
    )  # fmt: skip


def fewer(wanted: Wanted, n: int) -> Wanted:
    """Only n of the items wanted, each as likely to be a check as before."""
    kinds = chance.sample([GOLD, REPEATS, FIRST], n, counts=[wanted.n_gold, wanted.n_repeats, wanted.n_ordinary])
    return wanted._replace(n=n, n_gold=kinds.count(GOLD), n_repeats=kinds.count(REPEATS))


def claim_step_by_step(study: Study, annotator: User, wanted: Wanted, moment: datetime) -> list[Slot]:
    """Every case: leases the browser has lost, people who are refused, any number of looks, expired leases."""
    with transaction.atomic():
        place = Participation.objects.select_for_update().filter(study=study, user=annotator).first()
        if place is None or place.practised_at is None:
            raise ParticipationError(practice_first(study))
        if place.excluded_at is not None:
            raise ParticipationError(_("Your part in this study has ended. Thank you for your work."))
        ids = held_slots(study, annotator, wanted.have)[: wanted.n]
        extend_leases(annotator=annotator, slot_ids=ids, now=moment)
        n = min(wanted.n - len(ids), left_for(study, place))
        if n > 0:
            ids += claim_new(place, fewer(wanted, n) if n < wanted.n else wanted, moment)
    slots = Slot.objects.select_related("item").in_bulk(ids)
    return [slots[slot_id] for slot_id in ids]


def left_for(study: Study, place: Participation) -> int:
    """How many more items this person may be given, those in their hands taken into account."""
    if study.max_per_person is None:
        return NO_LIMIT
    return max(0, study.max_per_person - place.n_done - in_hand(study, place.user_id).count())


def held_slots(study: Study, annotator: User, have: Collection[int]) -> list[int]:
    held = in_hand(study, annotator.pk).exclude(pk__in=list(have))
    return list(held.order_by("id").values_list("id", flat=True))


def in_hand(study: Study, annotator_id: int) -> QuerySet[Slot]:
    return Slot.objects.filter(
        annotator_id=annotator_id, study=study, state=Slot.State.LEASED, lease_until__isnull=False
    )


def claim_new(place: Participation, wanted: Wanted, now: datetime) -> list[int]:
    if place.queue_empty_at is not None and now - place.queue_empty_at < timedelta(seconds=EMPTY_SECONDS):
        return []
    study = Study.objects.get(pk=place.study_id)
    if study.state != Study.State.OPEN:  # since the request began
        return []
    if place.queue_lane is None:
        make_gold_slots(study=study, place=place)
    until, n = lease_end(now), wanted.n
    ids = take_checks(place, n_gold=wanted.n_gold, n_repeats=wanted.n_repeats, until=until)
    ordinary = walk(place, n - len(ids), epoch=study.queue_epoch, now=now, until=until) if len(ids) < n else []
    is_found = wanted.is_begun or bool(ids)
    if not ordinary and not is_found and expire_leases(study=study, now=now):
        ordinary = walk(place, n, epoch=study.queue_epoch, now=now, until=until)
    if not ordinary and not is_found and place.n_repeats:  # nothing to mix them with any more
        ids = take_checks(place, n_gold=0, n_repeats=n, until=until)
    place.queue_empty_at = None if ordinary or ids or wanted.is_begun else now
    place.last_seen_at = now
    place.save(
        update_fields=[
            "queue_lane", "queue_position", "queue_epoch", "queue_empty_at", "last_seen_at"
        ]
    )  # fmt: skip
    return ids + ordinary


def extend_leases(*, annotator: User, slot_ids: Collection[int], now: datetime | None = None) -> int:
    """The heartbeat: renew the leases still held, expired ones that nobody took included; returns how many."""
    if not slot_ids:
        return 0
    return leased_to(annotator, slot_ids).update(lease_until=lease_end(now or timezone.now()))


def release_slots(*, annotator: User, slot_ids: Collection[int]) -> int:
    """Give leases back, as when the page is left; returns how many."""
    return give_back(leased_to(annotator, slot_ids)) if slot_ids else 0


def leased_to(annotator: User, slot_ids: Collection[int]) -> QuerySet[Slot]:
    return Slot.objects.filter(id__in=list(slot_ids), annotator=annotator, state=Slot.State.LEASED)


def give_back(leased: QuerySet[Slot]) -> int:
    """Open again for anybody; a check waits for its person again, behind their other checks.

    An ordinary item does not come back before the next lap; were a check the next one again, it would be known by that.
    """
    n_checks = leased.filter(lane__lt=0).update(
        state=Slot.State.WAITING, lease_until=None, random_key=QUEUE_KEYS - 1
    )  # fmt: skip
    return n_checks + leased.filter(lane__gte=0).update(state=Slot.State.OPEN, annotator=None, lease_until=None)


def expire_leases(*, study: Study, now: datetime | None = None) -> int:
    """Return slots whose lease has run out; answers that come later are still kept (annotation.domain.answers)."""
    moment = now or timezone.now()
    with transaction.atomic():
        expired = Slot.objects.filter(study=study, state=Slot.State.LEASED, lease_until__lt=moment)
        if connection.features.has_select_for_update_skip_locked:
            expired = expired.select_for_update(skip_locked=True)
        ids = list(expired.order_by("lease_until").values_list("id", flat=True)[:EXPIRE_AT_ONCE])
        return give_back(Slot.objects.filter(id__in=ids, state=Slot.State.LEASED))
