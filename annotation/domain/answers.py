"""Answers are append-only and never lost (research/annotation.md R2, R3, R5, R8).

The client's UUID makes a submit idempotent: the same answer sent twice is one row. An edit is a new row that revises
the last. An answer after its lease ran out takes any slot of the item that is still open, else it is kept as a late
extra, counted apart. A study that was paused or closed meanwhile still keeps what was leased.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation import __version__
from annotation.domain.answer_counts import count_afterwards, is_counted_apart
from annotation.domain.answer_message import Answer, AnswerError, parse_moment
from annotation.domain.first_answers import store_first
from annotation.domain.gold import accepted_in, score, score_by
from annotation.domain.participation import Progress, progress_in, session_progress
from annotation.domain.protocols import Question, columns_of, questions_of, validate
from annotation.domain.queue import give_back
from annotation.domain.queue_lanes import lane_ranges
from annotation.domain.vocabulary import check_label
from annotation.models import Annotation, Category, Item, Participation, Slot, Study, User

Stored = Literal["new", "replayed", "late_extra", "revision"]
AFTER_THE_END = "given after the person's part had ended"
WITHDRAWN = "withdrawn"


class SubmitResult(NamedTuple):
    """The row that holds the answer, how it came to be stored, and the person's place in the session."""

    annotation: Annotation
    stored: Stored
    progress: Progress


@dataclass(frozen=True)
class Submission:
    """An answer with the rows it belongs to."""

    answer: Answer
    payload: dict[str, Any]
    item: Item
    participation: Participation

    @property
    def person(self) -> User:
        return self.participation.user


def submit_answer(*, annotator: User, study: Study, answer: Answer) -> SubmitResult:
    """Store an answer once; raises AnswerError if it is malformed or its UUID is another answer's."""
    asked = asked_in(study)
    payload = validate(asked.questions, answer.payload, categories=asked.categories)
    require_label(study, answer, str(payload.get("label", "")))
    if answer.revision_of is None:
        annotation = build(answer, payload, study=study, person=annotator)
        annotation.slot_id = answer.slot
        annotation.is_gold_right = score_by(accepted_in(study).get(answer.item, {}), payload)
        n_done = store_first(annotation)
        if n_done is not None:
            return SubmitResult(annotation, "new", progress_in(study, n_done, has_just_answered=True))
    return submit_step_by_step(annotator, study, answer, payload)


def require_label(study: Study, answer: Answer, label: str) -> None:
    """A label that a fixed vocabulary does not have is refused, unless the answer was taken when it still did."""
    try:
        check_label(study, label)
    except AnswerError:
        if not Annotation.objects.filter(uuid=answer.uuid).exists():
            raise


def submit_step_by_step(annotator: User, study: Study, answer: Answer, payload: dict[str, Any]) -> SubmitResult:
    """Every case, one look after the other under a lock on the person's row."""
    item = Item.objects.filter(pk=answer.item, study=study).first()
    if item is None:
        raise AnswerError(_("The answer names an item that is not in this study."))
    if answer.stimulus_id != item.stimulus_id:
        raise AnswerError(_("The answer was given to another stimulus than this item's; reload the page."))
    try:
        with transaction.atomic():
            participation = participation_for_update(study, annotator)
            annotation, stored = store(Submission(answer, payload, item, participation))
            if not is_counted_apart():
                count(annotation, stored)
        if is_counted_apart():
            count(annotation, stored)
    except IntegrityError as error:
        # Another person's answer took the UUID between our look and our insert.
        if Annotation.objects.filter(uuid=answer.uuid).exists():
            raise AnswerError(uuid_taken()) from error
        raise
    return SubmitResult(annotation, stored, session_progress(participation, has_just_answered=True))


def count(annotation: Annotation, stored: Stored) -> None:
    if stored != "replayed":
        count_afterwards(annotation, fills_slot=stored == "new" and is_wanted(annotation))


def uuid_taken() -> str:
    return _("The UUID of this answer is already another answer's; make a new one.")


def is_wanted(annotation: Annotation) -> bool:
    """Whether its slot is one the study wants, not a check of the person."""
    return annotation.slot_id is not None and Slot.objects.filter(pk=annotation.slot_id, lane__gte=0).exists()


class Asked(NamedTuple):
    """What a study asks: its questions, and the names a category can have."""

    questions: tuple[Question, ...]
    categories: frozenset[str]


def asked_in(study: Study) -> Asked:
    """A launched study's are locked for as long as its version, so they are read once per process."""
    return locked_asked(study.pk, study.locked_hash, study.version) if study.locked_hash else read_asked(study)


def read_asked(study: Study) -> Asked:
    names = Category.objects.filter(study_id=study.pk).values_list("name", flat=True)
    return Asked(questions_of(study), frozenset(names))


@lru_cache(maxsize=256)
def locked_asked(study_id: int, locked_hash: str, version: str) -> Asked:
    return read_asked(Study.objects.only("protocol", "protocol_options").get(pk=study_id))


def participation_for_update(study: Study, annotator: User) -> Participation:
    """Locks the person's row, so that their own requests go one after the other."""
    participation = Participation.objects.select_for_update().filter(study=study, user=annotator).first()
    if participation is None:
        raise AnswerError(not_joined(study))
    participation.study, participation.user = study, annotator
    return participation


def not_joined(study: Study) -> str:
    return _("You have not joined '%(study)s'; open the link you were sent.") % {"study": study.name}


def store(submission: Submission) -> tuple[Annotation, Stored]:
    """The same UUID is a replay; another answer of this person to the item is revised; else a slot is filled."""
    answer, item, person = submission.answer, submission.item, submission.participation.user_id
    earlier = list(
        Annotation.objects.filter(Q(uuid=answer.uuid) | Q(item=item, annotator_id=person, is_current=True)).order_by(
            "-id"
        )
    )
    sent = next((one for one in earlier if one.uuid == answer.uuid), None)
    if sent is not None:
        return replay(sent, submission), "replayed"
    if earlier:
        return revise(earlier[0], submission), "revision"
    if answer.revision_of is not None:
        raise AnswerError(_("The answer revises one that was never stored; send that one first."))
    require_practice(submission.participation)
    slot_id = None
    if reason_left_out(submission.participation):
        leave_slot(submission)
    else:
        slot_id = take_slot(submission)
    return record_new(submission, slot_id), ("new" if slot_id is not None else "late_extra")


def require_practice(place: Participation) -> None:
    """Nobody's first answer comes before consent and practice; one from before both were asked anew is kept."""
    if place.consented_at is None or (place.practised_at is None and not place.n_old_rounds):
        raise AnswerError(_("Give your consent and finish the practice before you answer."))


def reason_left_out(place: Participation) -> str:
    """Why an answer that comes now counts in no figure; empty if it does. It is kept all the same."""
    if place.withdrawn_at is not None:
        return WITHDRAWN
    return AFTER_THE_END if place.excluded_at is not None else ""


def replay(sent: Annotation, submission: Submission) -> Annotation:
    """The stored row of an answer sent again; refused if the UUID is used for something else."""
    is_same = (
        sent.annotator_id == submission.participation.user_id
        and sent.item_id == submission.item.pk
        and sent.payload == submission.payload
    )
    if not is_same:
        raise AnswerError(uuid_taken())
    return sent


def revise(current: Annotation, submission: Submission) -> Annotation:
    Annotation.objects.filter(pk=current.pk).update(is_current=False)
    revision = build_scored(submission)
    revision.revision_of, revision.slot_id, revision.is_late_extra = current, current.slot_id, current.is_late_extra
    revision.excluded_reason, revision.exclusion_id = current.excluded_reason, current.exclusion_id
    revision.save(force_insert=True)
    count_gold(submission.participation, before=current.is_gold_right, after=revision.is_gold_right)
    return revision


def record_new(submission: Submission, slot_id: int | None) -> Annotation:
    annotation = build_scored(submission)
    annotation.slot_id, annotation.is_late_extra = slot_id, slot_id is None
    annotation.excluded_reason = reason_left_out(submission.participation)
    annotation.save(force_insert=True)
    if slot_id is None:
        bar_item(submission.item, submission.participation)
    count_gold(submission.participation, before=None, after=annotation.is_gold_right)
    submission.participation.n_done += 1
    Participation.objects.filter(pk=submission.participation.pk).update(
        n_done=F("n_done") + 1, last_seen_at=timezone.now()
    )
    return annotation


def build_scored(submission: Submission) -> Annotation:
    item, payload = submission.item, submission.payload
    study = submission.participation.study
    annotation = build(submission.answer, payload, study=study, person=submission.person)
    annotation.is_gold_right = score(item, payload)
    return annotation


def build(answer: Answer, payload: dict[str, Any], *, study: Study, person: User) -> Annotation:
    visible_ms = answer.timing.get("visible_ms")
    seen_ms = visible_ms if type(visible_ms) is int and 0 <= visible_ms < 2**31 else None
    return Annotation(
        uuid=answer.uuid, study_id=study.pk, item_id=answer.item, annotator=person,
        is_simulated=person.is_simulated, payload=payload, timing=dict(answer.timing),
        **columns_of(asked_in(study).questions, payload),
        shown_at=moment_or_none(answer.timing.get("shown_at")), submitted_at=answer.submitted_at,
        visible_ms=seen_ms, is_too_quick=seen_ms is not None and seen_ms < study.min_viewing_ms,
        protocol_version=answer.protocol_version, guideline_version=answer.guideline_version,
        study_version=study.version, vocabulary_version=study.vocabulary_version,
        stimulus_id=answer.stimulus_id, app_version=__version__,
    )  # fmt: skip


def moment_or_none(value: object) -> datetime | None:
    """Timing is for screening: a time that cannot be read costs the time, never the answer."""
    try:
        return parse_moment(value)
    except AnswerError:
        return None


def take_slot(submission: Submission) -> int | None:
    """The slot this answer fills: the one named, another the person holds, or one of the item that is open."""
    item, person, named = submission.item, submission.participation.user_id, submission.answer.slot
    mine = Slot.objects.filter(item=item, annotator_id=person, state__in=[Slot.State.LEASED, Slot.State.WAITING])
    if named is not None and fill(mine.filter(pk=named), person):
        return named
    held = mine.values_list("pk", flat=True).first()
    if held is not None and fill(mine.filter(pk=held), person):
        return held
    if has_had(item, person):
        return None
    mine_to_take = Q()
    for low, high in lane_ranges(submission.participation):
        mine_to_take |= Q(lane__gte=low, lane__lt=high)
    free = Slot.objects.filter(mine_to_take, item=item, state=Slot.State.OPEN).order_by("lane", "id")
    return next((pk for pk in free.values_list("pk", flat=True) if fill(free.filter(pk=pk), person)), None)


def leave_slot(submission: Submission) -> None:
    """Somebody whose part has ended fills no slot: theirs goes to another."""
    give_back(Slot.objects.filter(item=submission.item, annotator=submission.person, state=Slot.State.LEASED))


def fill(unchanged: QuerySet[Slot], annotator_id: int) -> bool:
    """Compare and set: done by this person, if the slot is still what the query says."""
    return unchanged.update(state=Slot.State.DONE, annotator_id=annotator_id, lease_until=None) == 1


def has_had(item: Item, annotator_id: int) -> bool:
    states = (Slot.State.LEASED, Slot.State.DONE, Slot.State.SEEN, Slot.State.WAITING)
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
