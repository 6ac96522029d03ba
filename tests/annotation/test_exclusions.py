"""Answers are left out by a flag, with the effect told before, and come back; the work is wanted anew meanwhile."""

from __future__ import annotations

import pytest

from annotation.domain.exclusions import (
    answers_of,
    effect_of,
    exclude_annotator,
    exclude_answers,
    exclusions_of,
    single_answers,
    undo_exclusion,
)
from annotation.domain.participation import ParticipationError
from annotation.domain.queue import claim_slots
from annotation.domain.studies import StudyError, close_study
from annotation.models import Annotation, Item, Participation, Slot, Study
from tests.annotation.judging import INTERPRETABLE, NOTHING, answer, judge, judge_all
from tests.annotation.small_study import SmallStudy, join, make_person, make_study

pytestmark = pytest.mark.django_db
REASON = "Half of the items were looked at for less than 0.3 s."


@pytest.fixture
def judged() -> SmallStudy:
    """Six items of the core by three people; the third says the opposite of the others."""
    small = make_study(n_items=6, overlap=3, n_people=3)
    Item.objects.update(is_core=True)
    for person in small.people[:2]:
        judge_all(small, person, lambda item: INTERPRETABLE)
    judge_all(small, small.people[2], lambda item: NOTHING)
    small.study.refresh_from_db()
    return small


def test_the_effect_is_told_and_nothing_is_changed(judged: SmallStudy) -> None:
    effect = effect_of(study=judged.study, answers=answers_of(judged.study, judged.people[2]))
    assert effect[:4] == (6, 6, 6, 6)
    assert effect.agreement_before == pytest.approx(1 / 3)
    assert effect.agreement_after == 1.0
    assert not Annotation.objects.exclude(excluded_reason="").exists()
    assert Slot.objects.filter(state=Slot.State.DONE).count() == 18


def test_what_is_left_out_is_wanted_anew_from_somebody_else(judged: SmallStudy) -> None:
    eve = judged.people[2]
    exclusion = exclude_annotator(study=judged.study, annotator=eve, reason=REASON, user=None)
    assert exclusion.effect["n_judgements"] == 6
    assert set(Annotation.objects.filter(annotator=eve).values_list("excluded_reason", flat=True)) == {REASON}
    judged.study.refresh_from_db()
    assert (judged.study.n_slots_done, Slot.objects.filter(state=Slot.State.OPEN, lane=0).count()) == (12, 6)
    assert (judged.study.queue_epoch, judged.study.n_kept_up) == (1, 0)
    with pytest.raises(ParticipationError, match="has ended"):
        claim_slots(study=judged.study, annotator=eve)
    assert judge_all(judged, judged.people[0]) == 0
    late = make_person("late")
    join(judged.study, late)
    assert judge_all(judged, late) == 6
    judged.study.refresh_from_db()
    assert judged.study.n_slots_done == 18


def test_what_somebody_holds_goes_to_others_and_their_last_answer_is_kept_apart() -> None:
    small = make_study(n_items=4, n_people=2)
    eve, other = small.people
    held = claim_slots(study=small.study, annotator=eve, n=2)
    exclude_annotator(study=small.study, annotator=eve, reason=REASON, user=None)
    stored = answer(small, eve, held[0])
    assert (stored.is_late_extra, stored.slot_id) == (True, None)
    assert stored.excluded_reason == "given after the person's part had ended"
    assert judge_all(small, other) == 4


def test_it_can_be_taken_back_with_or_without_judgements_given_meanwhile(judged: SmallStudy) -> None:
    eve = judged.people[2]
    exclusion = exclude_annotator(study=judged.study, annotator=eve, reason=REASON, user=None)
    late = make_person("late")
    join(judged.study, late)
    judge(judged, late, 2)
    assert undo_exclusion(exclusion=exclusion, user=None) == 6
    judged.study.refresh_from_db()
    counts = {state: Slot.objects.filter(state=state).count() for state in ("open", "done", "seen")}
    assert counts == {"open": 0, "done": 20, "seen": 0}
    assert (judged.study.n_slots, judged.study.n_slots_done) == (20, 20)
    assert not Annotation.objects.exclude(excluded_reason="").exists()
    assert Participation.objects.get(user=eve).excluded_at is None
    with pytest.raises(StudyError, match="taken back already"):
        undo_exclusion(exclusion=exclusion, user=None)


def test_single_answers_can_be_left_out_and_of_a_closed_study_nothing_is_wanted_anew(judged: SmallStudy) -> None:
    close_study(study=judged.study, user=None)
    ids = list(answers_of(judged.study, judged.people[2]).values_list("id", flat=True)[:2])
    assert effect_of(study=judged.study, answers=single_answers(judged.study, ids)).n_reopened == 0
    exclude_answers(study=judged.study, ids=ids, reason="The picture had not loaded.", user=None)
    assert not Slot.objects.filter(state=Slot.State.OPEN).exists()
    (listed,) = exclusions_of(judged.study)
    assert (listed.annotations.count(), listed.annotator, listed.effect["n_items_below"]) == (2, None, 2)


def test_what_cannot_be_left_out_is_said(judged: SmallStudy) -> None:
    with pytest.raises(StudyError, match="reason in one sentence"):
        exclude_annotator(study=judged.study, annotator=judged.people[0], reason="  ", user=None)
    assert Participation.objects.filter(excluded_at=None).count() == 3
    with pytest.raises(StudyError, match="nothing to leave out"):
        exclude_answers(study=judged.study, ids=[10**9], reason=REASON, user=None)
    exclude_annotator(study=judged.study, annotator=judged.people[0], reason=REASON, user=None)
    with pytest.raises(StudyError, match="left out already"):
        exclude_annotator(study=judged.study, annotator=judged.people[0], reason=REASON, user=None)
    with pytest.raises(StudyError, match="is not in this study"):
        exclude_annotator(study=judged.study, annotator=make_person("mallory"), reason=REASON, user=None)


def test_a_revision_of_what_is_left_out_stays_out(judged: SmallStudy) -> None:
    one = Annotation.objects.filter(annotator=judged.people[2]).first()
    assert one is not None
    exclude_answers(study=judged.study, ids=[one.pk], reason=REASON, user=None)
    slot = Slot.objects.select_related("item").get(annotations=one)
    revised = answer(judged, judged.people[2], slot, INTERPRETABLE)
    assert (revised.revision_of_id, revised.excluded_reason) == (one.pk, REASON)
    assert Study.objects.get(pk=judged.study.pk).n_slots_done == 17
