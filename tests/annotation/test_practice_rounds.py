"""Practice in rounds: the first tries are marked, another round below the mark, and a polite end after the last."""

from __future__ import annotations

import pytest

from annotation.domain.participation import ParticipationError
from annotation.domain.practice import Standing, ask_anew, check_practice
from annotation.models import Participation, PracticeAnswer, ReferenceItem, Study
from tests.annotation.judging import INTERPRETABLE, NOTHING, next_practice_item
from tests.annotation.small_study import make_study

pytestmark = pytest.mark.django_db


@pytest.fixture
def beginner() -> Participation:
    """Five practice items, four of which must be right at the first try, in at most two rounds."""
    small = make_study(n_people=1)
    Study.objects.update(pass_mark=0.8, practice_rounds=2)
    for position, feature in enumerate(item.feature for item in small.items[:5]):
        ReferenceItem.objects.create(
            study=small.study, kind="practice", position=position, feature=feature, accepted={"patch_rating": [3, 4]}
        )
    Participation.objects.update(practised_at=None)
    return Participation.objects.select_related("study").get()


def practise(participation: Participation, n_right: int) -> Standing:
    """A whole round, so many of its first tries right; each wrong one is tried again."""
    standing = None
    for number in range(5):
        reference = next_practice_item(participation)
        assert reference is not None
        first = INTERPRETABLE if number < n_right else NOTHING
        if first is NOTHING and number < 4:
            check_practice(participation=participation, reference=reference, payload=first)
            first = INTERPRETABLE
        standing = check_practice(participation=participation, reference=reference, payload=first).standing
    assert standing is not None
    return standing


def test_enough_right_at_the_first_try_pass(beginner: Participation) -> None:
    standing = practise(beginner, 4)
    assert standing == ("passed", 5, 5, 1, 2, 0.8, "Practice is done.")
    beginner.refresh_from_db()
    assert beginner.practised_at is not None


def test_below_the_mark_comes_another_round_and_after_the_last_a_polite_end(beginner: Participation) -> None:
    again = practise(beginner, 3)
    assert (again.outcome, again.practice_round, again.share_right) == ("again", 1, 0.6)
    assert again.sentence == "You had 3 of 5 right at the first try; 4 are needed. Here they come again."
    beginner.refresh_from_db()
    assert (beginner.practice_round, beginner.practice_position) == (2, 0)
    last = practise(beginner, 2)
    assert (last.outcome, last.sentence.startswith("Thank you for practising.")) == ("screened-out", True)
    beginner.refresh_from_db()
    assert (beginner.practised_at, beginner.screened_out_at is None) == (None, False)
    with pytest.raises(ParticipationError, match="ends here"):
        check_practice(
            participation=beginner, reference=ReferenceItem.objects.all()[0], payload=INTERPRETABLE
        )  # fmt: skip


def test_a_second_round_can_be_passed_and_without_a_limit_rounds_go_on(beginner: Participation) -> None:
    Study.objects.update(practice_rounds=0)
    beginner.study.refresh_from_db()
    assert [practise(beginner, 0).outcome for _ in range(3)] == ["again"] * 3
    assert practise(beginner, 5).outcome == "passed"
    assert PracticeAnswer.objects.filter(practice_round=4).count() == 5


def test_without_a_pass_mark_answering_is_enough(beginner: Participation) -> None:
    Study.objects.update(pass_mark=0)
    beginner.study.refresh_from_db()
    assert practise(beginner, 0).outcome == "passed"


def test_practice_that_is_asked_anew_begins_with_a_first_round(beginner: Participation) -> None:
    assert practise(beginner, 5).outcome == "passed"
    assert ask_anew(study=beginner.study) == 1
    beginner.refresh_from_db()
    assert (beginner.practised_at, beginner.guideline_version) == (None, None)
    Participation.objects.update(guideline_version=1)
    beginner.refresh_from_db()
    assert practise(beginner, 0)[:5] == ("again", 5, 5, 1, 2)
    assert practise(beginner, 4).outcome == "passed"
