"""Practice: a person answers the study's practice items, sees at once what was right and why, and then may work.

An answer to a practice item never counts. A round is over once every item was answered; an item may be tried again, and
the first try of the round is the one that is marked. Where the study has a pass mark, a round below it is followed by
another, up to as many as the study allows; then the person is thanked and screened out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.domain.participation import ParticipationError, Step, next_step
from annotation.domain.protocols import questions_of, questions_right, validate
from annotation.models import Participation, PracticeAnswer, ReferenceItem, Role, Study

Outcome = Literal["continue", "passed", "again", "screened-out"]


class Standing(NamedTuple):
    """How far practice has come; `share_right` is known when a round is over."""

    outcome: Outcome
    n_answered: int
    n_items: int
    practice_round: int
    n_rounds: int
    share_right: float | None = None
    sentence: str = ""


class Feedback(NamedTuple):
    """What the person is shown after a practice answer."""

    is_right: bool
    right_by_question: dict[str, bool]
    accepted: dict[str, list[Any]]
    reason: str
    standing: Standing


def practice_items(participation: Participation) -> list[ReferenceItem]:
    """In their order; one that could not be frozen is passed over."""
    study = participation.study
    items = study.reference_items.filter(kind=ReferenceItem.Kind.PRACTICE)
    if study.ineligible:
        items = items.exclude(stimulus_id="")
    return list(items.order_by("position", "id"))


def first_tries(participation: Participation) -> dict[int, bool]:
    """Whether the first answer of this round was right, by practice item."""
    answers = PracticeAnswer.objects.filter(
        reference__study=participation.study, annotator=participation.user, reference__kind="practice",
        practice_round=participation.practice_round,
    )  # fmt: skip
    tries: dict[int, bool] = {}
    for reference_id, is_right in answers.order_by("id").values_list("reference_id", "is_right"):
        tries.setdefault(reference_id, is_right)
    return tries


def answered_ids(participation: Participation) -> set[int]:
    """The practice items answered in this round."""
    return set(first_tries(participation))


def check_practice(*, participation: Participation, reference: ReferenceItem, payload: Mapping[str, Any]) -> Feedback:
    """Store a practice answer and say what was right; raises AnswerError or ParticipationError."""
    if next_step(participation) in {Step.CONSENT, Step.GUIDELINE}:
        raise ParticipationError(_("Give your consent and read the guideline first."))
    if participation.screened_out_at is not None:
        raise ParticipationError(screened_out())
    if reference.study_id != participation.study_id or reference.kind != ReferenceItem.Kind.PRACTICE:
        raise ParticipationError(_("This is no practice item of the study."))
    categories = set(participation.study.categories.values_list("name", flat=True))
    answer = validate(questions_of(participation.study), payload, categories=categories)
    right = questions_right(answer, reference.accepted)
    with transaction.atomic():
        # One after the other, so that two tabs do not both end the round.
        place = Participation.objects.select_for_update().get(pk=participation.pk)
        for name in ("practice_round", "n_old_rounds", "practised_at", "screened_out_at"):
            setattr(participation, name, getattr(place, name))
        PracticeAnswer.objects.create(
            reference=reference, annotator=participation.user, payload=answer, is_right=all(right.values()),
            practice_round=participation.practice_round,
        )  # fmt: skip
        standing = settle_practice(participation)
    return Feedback(all(right.values()), right, dict(reference.accepted), _(reference.reason), standing)


def ask_anew(*, study: Study) -> int:
    """Everybody practises again, as after a guideline that asks for something else; returns how many people."""
    return Participation.objects.filter(study=study, role=Role.ANNOTATOR).update(
        guideline_version=None, practised_at=None, practice_position=0, practice_round=F("practice_round") + 1,
        n_old_rounds=F("practice_round"),
    )  # fmt: skip


def settle_practice(participation: Participation) -> Standing:
    """Keep how far practice has come: still in the round, passed, another round, or screened out."""
    study, now = participation.study, timezone.now()
    tries = first_tries(participation)
    ids = {item.pk for item in practice_items(participation)}
    done = [is_right for pk, is_right in tries.items() if pk in ids]
    this_round = participation.practice_round - participation.n_old_rounds
    standing = Standing("continue", len(done), len(ids), this_round, study.practice_rounds)
    participation.practice_position = len(done)
    if participation.practised_at is not None:
        standing = standing._replace(outcome="passed")
    elif len(done) == len(ids):
        standing = marked(standing, sum(done) / len(ids) if ids else 1.0, study.pass_mark)
        if standing.outcome == "passed":
            participation.practised_at = now
        elif standing.outcome == "again":
            participation.practice_round, participation.practice_position = participation.practice_round + 1, 0
        else:
            participation.screened_out_at = now
    participation.save(update_fields=["practice_position", "practice_round", "practised_at", "screened_out_at"])
    return standing


def marked(standing: Standing, share: float, pass_mark: float) -> Standing:
    """A round that is over, with its outcome and the sentence for the person."""
    n_right, n_needed = round(share * standing.n_items), -int(-pass_mark * standing.n_items // 1)
    counts = {"right": n_right, "of": standing.n_items, "needed": n_needed}
    if n_right >= n_needed:
        return standing._replace(outcome="passed", share_right=share, sentence=_("Practice is done."))
    if standing.n_rounds and standing.practice_round >= standing.n_rounds:
        return standing._replace(outcome="screened-out", share_right=share, sentence=screened_out())
    sentence = _("You had %(right)d of %(of)d right at the first try; %(needed)d are needed. Here they come again.")
    return standing._replace(outcome="again", share_right=share, sentence=sentence % counts)


def screened_out() -> str:
    return _("Thank you for practising. This study needs answers of another kind, so it ends here for you.")
