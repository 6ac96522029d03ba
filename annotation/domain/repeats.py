"""A person's own items shown again after a day or more, so that one sees how far they agree with themselves.

They are prepared when an invited return begins: a share of the items the person has judged, each as an item of its own
that repeats the first. They come among the ordinary items, and the main figures leave them out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from annotation.domain.checks import make_waiting_slots
from annotation.domain.queue_lanes import REPEATS
from annotation.models import Annotation, Condition, Item, Participation, Slot

REST = timedelta(days=1)  # research/annotation.md §4: after at least a day


def begin_return(*, participation: Participation, now: datetime | None = None) -> int:
    """Prepare the repeats of an invited return and say how many; none before a day has passed, or twice in a day."""
    moment = now or timezone.now()
    with transaction.atomic():
        place = Participation.objects.select_for_update().select_related("study").get(pk=participation.pk)
        latest = Annotation.objects.filter(study=place.study, annotator=place.user_id, is_current=True)
        if latest.filter(received_at__gt=moment - REST).exists():
            return 0
        waiting = Slot.objects.filter(annotator=place.user_id, study=place.study, lane=REPEATS)
        if waiting.filter(state__in=[Slot.State.WAITING, Slot.State.LEASED]).exists():
            return 0
        originals = chosen_items(place)
        slots = make_waiting_slots(place, [repeat_of(item).pk for item in originals], REPEATS)
        place.n_repeats += len(slots)
        place.save(update_fields=["n_repeats"])
    return len(slots)


def chosen_items(place: Participation) -> Sequence[Item]:
    """A share of what the person has judged and has not been shown again, by chance; never gold or catch items."""
    counted = Annotation.objects.filter(
        study=place.study, annotator=place.user_id, is_current=True, is_late_extra=False, item__repeat_of=None
    ).exclude(item__condition__in=[Condition.GOLD, Condition.CATCH])
    n_judged = counted.count()
    again = Slot.objects.filter(annotator=place.user_id, study=place.study, lane=REPEATS)
    fresh = counted.exclude(item__in=again.values("item__repeat_of")).values_list("item_id", flat=True)
    n = max(1, round(place.study.repeat_share * n_judged)) if place.study.repeat_share > 0 and n_judged else 0
    ids = list(fresh)
    return list(Item.objects.filter(pk__in=random.sample(ids, min(n, len(ids)))))


def repeat_of(item: Item) -> Item:
    """The item that repeats this one, made the first time; several people may judge it, each their own again."""
    found = Item.objects.filter(repeat_of=item).first()
    if found is not None:
        return found
    copied = (
        "study_id", "feature_id", "condition", "matched_feature_id", "reference_id", "other_feature_id", "variant",
        "text", "truth", "stratum", "seed", "stimulus_id", "accepted",
    )  # fmt: skip
    return Item.objects.create(repeat_of=item, **{name: getattr(item, name) for name in copied})
