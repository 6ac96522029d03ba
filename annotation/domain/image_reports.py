"""Images that annotators asked to be looked at, and taking an image out of what is still to be handed out.

Hiding withdraws the wanted judgements of every item that shows the image; answers that were given stay, and one that is
in somebody's hands is still kept when it comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.domain.stimuli import stimulus_record
from annotation.domain.studies import StudyError, log_event
from annotation.models import Image, ImageReport, Item, Slot, Study, User

AT_ONCE = 500
WANTED = (Slot.State.OPEN, Slot.State.LEASED, Slot.State.WAITING)


def hide_image(*, study: Study, image: Image, user: User) -> int:
    """Withdraw what is still wanted of the items that show the image; returns how many items."""
    if study.state == Study.State.CLOSED:
        raise StudyError(_("This study is closed, and nothing of it is handed out any more."))
    items = items_with(study, image)
    n_withdrawn = 0
    with transaction.atomic():
        for start in range(0, len(items), AT_ONCE):
            wanted = Slot.objects.filter(item__in=items[start : start + AT_ONCE], state__in=WANTED)
            withdrawn = {"state": Slot.State.WITHDRAWN, "annotator": None, "lease_until": None}
            n_withdrawn += wanted.filter(lane__gte=0).update(**withdrawn)
            wanted.update(**withdrawn)  # checks, which are not among the judgements wanted
        now = timezone.now()
        ImageReport.objects.filter(study=study, image=image).update(hidden_at=now)
        ImageReport.objects.filter(study=study, image=image, resolved_at=None).update(resolved_at=now)
        Study.objects.filter(pk=study.pk).update(n_slots=F("n_slots") - n_withdrawn)
        log_event(study, user, "image hidden", image=image.pk, n_items=len(items))
    return len(items)


def items_with(study: Study, image: Image) -> list[int]:
    """Items with judgements still wanted whose frozen stimulus shows the image."""
    wanted = Item.objects.filter(study=study, feature__exemplar_set__image_set=image.image_set_id)
    wanted = wanted.filter(slots__state__in=WANTED).distinct()
    found = []
    for pk, stimulus_id in wanted.values_list("pk", "stimulus_id").iterator(2000):
        if image.index in images_in(stimulus_record(study.stimuli_digest, stimulus_id)):
            found.append(pk)
    return found


def images_in(record: Any) -> set[int]:
    """The index of every image that a record names, at whatever depth."""
    return set(image_indices(record))


def image_indices(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "image_index":
                yield int(inner)
            else:
                yield from image_indices(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from image_indices(inner)
