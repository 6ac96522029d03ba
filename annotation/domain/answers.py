"""Answers are append-only and never lost (research/annotation.md R2, R3, R5, R8).

The client's UUID makes a submit idempotent: the same answer sent twice is one row. An edit is a new row that revises
the last. An answer after its lease ran out takes any slot of the item that is still open, else it is kept as a late
extra, counted apart. A study that was paused or closed meanwhile still keeps what was leased.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone

from annotation import __version__
from annotation.domain.gold import score
from annotation.domain.participation import Progress, session_progress
from annotation.domain.protocol import Answer, AnswerError, Payload, parse_moment, validate_payload
from annotation.models import Annotation, Item, Participation, Slot, Study, Term, User

Stored = Literal["new", "replayed", "late_extra", "revision"]


class SubmitResult(NamedTuple):
    """The row that holds the answer, how it came to be stored, and the person's place in the session."""

    annotation: Annotation
    stored: Stored
    progress: Progress


@dataclass(frozen=True)
class Submission:
    """An answer with the rows it belongs to."""

    answer: Answer
    payload: Payload
    item: Item
    participation: Participation


def submit_answer(*, annotator: User, study: Study, answer: Answer) -> SubmitResult:
    """Store an answer once; raises AnswerError if it is malformed or its UUID is another answer's."""
    item = Item.objects.filter(pk=answer.item, study=study).first()
    if item is None:
        raise AnswerError("The answer names an item that is not in this study.")
    payload = validate_payload(answer.payload, categories=categories_of(study))
    if answer.stimulus_id != item.stimulus_id:
        raise AnswerError("The answer was given to another stimulus than this item's; reload the page.")
    try:
        with transaction.atomic():
            participation = participation_for_update(study, annotator)
            submission = Submission(answer, payload, item, participation)
            annotation, stored = store(submission)
    except IntegrityError as error:
        # Another person's answer took the UUID between our look and our insert.
        if Annotation.objects.filter(uuid=answer.uuid).exists():
            raise AnswerError("The UUID of this answer is already another answer's; make a new one.") from error
        raise
    return SubmitResult(annotation, stored, session_progress(participation, has_just_answered=True))


def categories_of(study: Study) -> set[str]:
    return set(study.categories.values_list("name", flat=True))


def participation_for_update(study: Study, annotator: User) -> Participation:
    """Locks the person's row, so that their own requests go one after the other."""
    row = Participation.objects.select_for_update(of=("self",)).filter(study=study, user=annotator)
    participation = row.select_related("study", "user").first()
    if participation is None:
        raise AnswerError(f"You have not joined '{study.name}'; open the link you were sent.")
    return participation


def store(submission: Submission) -> tuple[Annotation, Stored]:
    sent = Annotation.objects.filter(uuid=submission.answer.uuid).first()
    if sent is not None:
        return replay(sent, submission), "replayed"
    current = current_answer(submission)
    if current is not None:
        return revise(current, submission), "revision"
    if submission.answer.revision_of is not None:
        raise AnswerError("The answer revises one that was never stored; send that one first.")
    slot = take_slot(submission)
    return record_new(submission, slot), ("new" if slot is not None else "late_extra")


def replay(sent: Annotation, submission: Submission) -> Annotation:
    """The stored row of an answer sent again; refused if the UUID is used for something else."""
    is_same = (
        sent.annotator_id == submission.participation.user_id
        and sent.item_id == submission.item.pk
        and sent.payload == submission.payload.as_dict()
    )
    if not is_same:
        raise AnswerError("The UUID of this answer is already another answer's; make a new one.")
    return sent


def current_answer(submission: Submission) -> Annotation | None:
    """The person's answer to this item that counts now: a second answer to an item revises the first."""
    mine = Annotation.objects.filter(
        item=submission.item, annotator_id=submission.participation.user_id, is_current=True
    )
    return mine.order_by("-id").first()


def revise(current: Annotation, submission: Submission) -> Annotation:
    Annotation.objects.filter(pk=current.pk).update(is_current=False)
    revision = build(submission)
    revision.revision_of, revision.slot_id, revision.is_late_extra = current, current.slot_id, current.is_late_extra
    revision.save(force_insert=True)
    count_gold(submission.participation, before=current.is_gold_right, after=revision.is_gold_right)
    count_term(submission)
    return revision


def record_new(submission: Submission, slot: Slot | None) -> Annotation:
    annotation = build(submission)
    annotation.slot, annotation.is_late_extra = slot, slot is None
    annotation.save(force_insert=True)
    if slot is None:
        bar_item(submission.item, submission.participation)
    count_gold(submission.participation, before=None, after=annotation.is_gold_right)
    submission.participation.n_done += 1
    Participation.objects.filter(pk=submission.participation.pk).update(
        n_done=F("n_done") + 1, last_seen_at=timezone.now()
    )
    count_term(submission)
    if slot is not None:  # last, because everybody's answers meet at this row
        Study.objects.filter(pk=submission.item.study_id).update(n_slots_done=F("n_slots_done") + 1)
    return annotation


def build(submission: Submission) -> Annotation:
    answer, payload, person = submission.answer, submission.payload, submission.participation.user
    visible_ms = answer.timing.get("visible_ms")
    return Annotation(
        uuid=answer.uuid, study_id=submission.item.study_id, item=submission.item, annotator=person,
        is_simulated=person.is_simulated, patch_rating=payload.patch_rating, image_rating=payload.image_rating,
        category=payload.category, label=payload.label, payload=payload.as_dict(), timing=dict(answer.timing),
        shown_at=moment_or_none(answer.timing.get("shown_at")), submitted_at=answer.submitted_at,
        visible_ms=visible_ms if isinstance(visible_ms, int) and 0 <= visible_ms < 2**31 else None,
        protocol_version=answer.protocol_version, guideline_version=answer.guideline_version,
        stimulus_id=answer.stimulus_id, app_version=__version__, is_gold_right=score(submission.item, payload),
    )  # fmt: skip


def moment_or_none(value: object) -> datetime | None:
    """Timing is for screening: a time that cannot be read costs the time, never the answer."""
    try:
        return parse_moment(value)
    except AnswerError:
        return None


def take_slot(submission: Submission) -> Slot | None:
    """The slot this answer fills: the one named, another the person holds, or one of the item that is open."""
    person = submission.participation.user_id
    mine = Slot.objects.filter(item=submission.item, annotator_id=person, state=Slot.State.LEASED).first()
    if mine is not None and fill(mine, was=Slot.State.LEASED, annotator_id=person):
        return mine
    free = Slot.objects.filter(item=submission.item, state=Slot.State.OPEN)
    if connection.features.has_select_for_update_skip_locked:
        free = free.select_for_update(skip_locked=True)
    for slot in free.order_by("id"):
        if not has_had(submission.item, person) and fill(slot, was=Slot.State.OPEN, annotator_id=person):
            return slot
    return None


def fill(slot: Slot, *, was: str, annotator_id: int) -> bool:
    """Compare and set: done by this person, if the slot is still what it was."""
    unchanged = Slot.objects.filter(pk=slot.pk, state=was)
    if was == Slot.State.LEASED:
        unchanged = unchanged.filter(annotator_id=annotator_id)
    return unchanged.update(state=Slot.State.DONE, annotator_id=annotator_id, lease_until=None) == 1


def has_had(item: Item, annotator_id: int) -> bool:
    states = (Slot.State.LEASED, Slot.State.DONE, Slot.State.SEEN)
    return Slot.objects.filter(item=item, annotator_id=annotator_id, state__in=states).exists()


def bar_item(item: Item, participation: Participation) -> None:
    """The item shall not be offered to this person again, though no slot of theirs counts."""
    if not has_had(item, participation.user_id):
        Slot.objects.create(study_id=item.study_id, item=item, annotator_id=participation.user_id, state="seen")


def count_gold(participation: Participation, *, before: bool | None, after: bool | None) -> None:
    """Silent: nothing of this is shown to the person."""
    if after is None:
        return
    Participation.objects.filter(pk=participation.pk).update(
        n_gold=F("n_gold") + int(before is None), n_gold_right=F("n_gold_right") + int(after) - int(bool(before))
    )


def count_term(submission: Submission) -> None:
    """Keep the vocabulary that type-ahead offers."""
    label = submission.payload.label[:120]
    if not label:
        return
    known = Term.objects.filter(study_id=submission.item.study_id, text=label)
    if not known.update(n_uses=F("n_uses") + 1):
        Term.objects.bulk_create([Term(study_id=submission.item.study_id, text=label, n_uses=1)], ignore_conflicts=True)
