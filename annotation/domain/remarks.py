"""What a person says about an item instead of, or beside, an answer: skip, flag, comment, and reports of images.

Each carries a UUID of the client's, so that an outbox may send it twice.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from annotation.domain.answer_message import AnswerError
from annotation.domain.answers import bar_item, participation_for_update
from annotation.domain.queue import give_back
from annotation.domain.stimuli import image_of_cell
from annotation.models import Image, ImageReport, Item, Participation, Remark, Slot, Study, User

TEXT_LENGTH = 4000


@dataclass(frozen=True)
class RemarkText:
    """A remark as the client sent it."""

    uuid: uuid.UUID
    item: int
    kind: str
    text: str = ""

    def __post_init__(self) -> None:
        if self.kind not in Remark.Kind.values:
            raise AnswerError(
                _("A remark can be %(kinds)s, not '%(kind)s'.")
                % {"kinds": ", ".join(Remark.Kind.values), "kind": self.kind}
            )
        if len(self.text) > TEXT_LENGTH:
            raise AnswerError(
                _("The remark has %(n)s characters; %(most)s is the most.") % {"n": len(self.text), "most": TEXT_LENGTH}
            )
        if self.kind == Remark.Kind.COMMENT and not self.text.strip():
            raise AnswerError(_("A comment needs some text."))


def add_remark(*, annotator: User, study: Study, remark: RemarkText) -> Remark:
    """Store a remark once. A skipped item goes to somebody else and never comes back to this person."""
    item = item_of(study, remark.item)
    with transaction.atomic():
        participation = participation_for_update(study, annotator)
        sent = Remark.objects.filter(uuid=remark.uuid).first()
        if sent is not None:
            return replayed(sent, annotator, remark)
        stored = Remark.objects.create(
            uuid=remark.uuid, kind=remark.kind, item=item, author=annotator, text=remark.text.strip()
        )
        if remark.kind == Remark.Kind.SKIP:
            pass_over(item, participation)
    return stored


def replayed(sent: Remark, annotator: User, remark: RemarkText) -> Remark:
    if sent.author_id != annotator.pk or sent.item_id != remark.item or sent.kind != remark.kind:
        raise AnswerError(_("The UUID of this remark is already another remark's; make a new one."))
    return sent


def pass_over(item: Item, participation: Participation) -> None:
    mine = Slot.objects.filter(item=item, annotator_id=participation.user_id, state=Slot.State.LEASED)
    mine.filter(lane__lt=0).update(state=Slot.State.SEEN, lease_until=None)  # a check is nobody else's
    give_back(mine)
    bar_item(item, participation)
    Participation.objects.filter(pk=participation.pk).update(n_skipped=F("n_skipped") + 1)


def report_image(*, annotator: User, study: Study, report: RemarkText, panel: str, cell: int) -> ImageReport | Remark:
    """Ask that the image in one cell of a panel be looked at; the person never learns which image it is.

    Where the study came from another site, which image it is is known there only: a flag says so and goes home with it.
    """
    if study.origin == Study.Origin.BUNDLE:
        words = f"Image {cell + 1} of '{panel}' is reported: {report.text.strip()}"
        return add_remark(annotator=annotator, study=study, remark=replace(report, kind=Remark.Kind.FLAG, text=words))
    item = item_of(study, report.item)
    require_participation(study, annotator)
    index = image_of_cell(study=study, stimulus_id=item.stimulus_id, panel=panel, cell=cell)
    image = Image.objects.get(image_set=item.feature.exemplar_set.image_set, index=index)
    stored, _is_new = ImageReport.objects.get_or_create(
        uuid=report.uuid,
        defaults={"image": image, "study": study, "reporter": annotator, "reason": report.text.strip()},
    )
    return stored


def require_participation(study: Study, annotator: User) -> None:
    if not Participation.objects.filter(study=study, user=annotator).exists():
        raise AnswerError(_("You have not joined '%(study)s'; open the link you were sent.") % {"study": study.name})


def item_of(study: Study, item_id: int) -> Item:
    item = Item.objects.filter(pk=item_id, study=study).select_related("feature__exemplar_set__image_set").first()
    if item is None:
        raise AnswerError(_("The remark names an item that is not in this study."))
    return item
