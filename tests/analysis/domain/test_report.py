"""The report: which answers count, numbers worked out by hand, and blindness until it is lifted."""

from __future__ import annotations

import numpy as np
import pytest
from django.utils import timezone

from analysis.domain.answers import AnswerRow, Answers, collect, rows_of_study
from analysis.domain.report import StillBlindError, figures_of, make_report, report_of_study
from analysis.domain.reports.frame import Report, Subject
from analysis.statistics.figures import Figure
from annotation.domain.unblinding import UnblindingError, unblind, unblinding_of
from annotation.models import Annotation, Condition, Item, Study
from tests.analysis.rows import row
from tests.analysis.studies import answer, make_study

pytestmark = pytest.mark.django_db
SUBJECT = Subject("rate-describe-categorise", {})


def rated(item: int, annotator: str, patch: int | None, image: int | None = 1, **fields: object) -> AnswerRow:
    fields.setdefault("block", item % 2)
    return row(item, annotator, {"patch_rating": patch, "image_rating": image}, **fields)


def collected(rows: list[AnswerRow], *, include_simulated: bool = False) -> Answers:
    return collect(rows, protocol=SUBJECT.protocol, options={}, include_simulated=include_simulated)


def report_on(rows: list[AnswerRow]) -> Report:
    return make_report(collected(rows), SUBJECT, include_simulated=False)


def group(report: Report, name: str, level: str = "patch") -> dict[str, Figure]:
    return {line: figure for series, of, line, figure in figures_of(report) if (series, of) == (level, name)}


def values(report: Report, name: str, level: str = "patch") -> dict[str, float | None]:
    return {line: figure.value for line, figure in group(report, name, level).items()}


def test_every_row_is_used_or_left_out_for_one_reason() -> None:
    answers = collected(
        [
            rated(1, "A", 4),
            rated(1, "B", 4, is_current=False),
            rated(1, "C", 4, is_late_extra=True),
            rated(1, "D", 4, excluded_reason="too fast"),
            rated(2, "D", 4, excluded_reason="too fast"),
            rated(2, "E", 4, is_simulated=True),
            rated(3, "A", 4, repeat_of=1),
        ]
    )
    tally = answers.tally
    assert (tally.n_rows, tally.n_used, tally.n_revised, tally.n_late_extra) == (7, 1, 1, 1)
    assert (tally.n_repeats, tally.n_simulated_left_out, tally.excluded) == (1, 1, {"too fast": 2})
    assert tally.n_rows == 1 + 1 + 1 + tally.n_excluded + tally.n_simulated_left_out + tally.n_repeats


def test_simulated_answers_are_counted_where_they_are_let_in() -> None:
    answers = collected([rated(1, "A", 4), rated(1, "S", 1, is_simulated=True)], include_simulated=True)
    assert (answers.tally.n_used, answers.tally.n_used_simulated) == (2, 1)


def test_shares_by_block_and_condition_by_hand() -> None:
    report = report_on(
        [rated(item, name, 4 if item != 2 else 1) for item in range(4) for name in "AB"]
        + [
            rated(item, name, None if item == 4 else 3, condition="random_directions")
            for item in (4, 5)
            for name in "AB"
        ]
    )
    assert values(report, "block") == {"block 0": 0.5, "block 1": 1.0}
    assert values(report, "condition") == {"feature": 0.75, "random directions": 0.5}
    assert values(report, "overall")["every feature"] == 0.75
    assert values(report, "overall", "image")["every feature"] == 0.0
    # "cannot tell" on item 4 has no place on the scale: six real 4s and two 1s against two 3s
    assert values(report, "auc")["all controls"] == pytest.approx(6 / 8)
    assert report.notes[0] == ("Cannot tell, patch level", "2")


def test_each_control_kind_is_compared_apart() -> None:
    report = report_on(
        [rated(item, "A", 3) for item in range(3)]
        + [rated(10, "A", 1, condition="random_directions"), rated(11, "A", 4, condition="shuffled")]
    )
    found = values(report, "auc")
    assert (found["random directions"], found["patches shuffled between features"]) == (1.0, 0.0)


def test_catch_and_gold_items_are_no_features() -> None:
    report = report_on(
        [
            rated(0, "A", 4),
            rated(2, "A", 1, condition="catch", is_gold_right=True),
            rated(3, "A", 1, condition="catch", is_gold_right=False),
            rated(4, "A", 1, condition="gold", is_gold_right=True),
        ]
    )
    assert values(report, "overall")["every feature"] == 1.0
    assert list(values(report, "condition")) == ["feature", "catch item", "gold item"]
    assert values(report, "gold", "") == {"catch item": 0.5, "gold item": 1.0}


def test_a_study_without_answers_says_so_in_every_figure() -> None:
    figures = [figure for _, _, _, figure in figures_of(report_on([]))]
    assert figures
    assert {figure.value for figure in figures} == {None}
    assert all(figure.note for figure in figures)


def test_the_order_of_answers_does_not_move_the_numbers() -> None:
    rng = np.random.default_rng(0)
    rows = [rated(item, name, int(rng.integers(1, 5))) for item in range(9) for name in "ABC"]
    assert figures_of(report_on(rows)) == figures_of(report_on(rows[::-1]))


def test_an_answer_takes_few_bytes() -> None:
    rows = [rated(item, name, 3) for item in range(900) for name in "ABC"]
    answers = collected(rows)
    arrays = (answers.item, answers.feature, answers.other_feature, answers.annotator, answers.fact, answers.gold)
    assert sum(array.nbytes for array in (*arrays, answers.numbers)) <= 14 * len(rows)


def test_repeats_stand_beside_the_first_answer_of_the_same_person() -> None:
    report = report_on(
        [
            *(rated(1, "A", 4), rated(1, "B", 1), rated(2, "A", 2)),
            *(rated(7, "A", 3, repeat_of=1), rated(7, "B", 1, repeat_of=1), rated(8, "C", 1, repeat_of=2)),
        ]
    )
    assert values(report, "repeats", "") == {"rating of the patches": 0.5, "rating of the images": 1.0}
    [line] = [figure for name, figure in group(report, "repeats", "").items() if "patches" in name]
    assert line.n_answers == 2, "C never judged item 2"


def test_codes_at_the_end_of_their_type_do_not_overflow() -> None:
    report = report_on([rated(127, "A", 4), rated(1, "A", 4), rated(128, "A", 3, repeat_of=127)])
    assert values(report, "repeats", "") == {"rating of the patches": 0.0, "rating of the images": 1.0}


def test_the_rows_of_a_study_come_with_what_their_items_are() -> None:
    small = make_study()
    rows = list(rows_of_study(small.study))
    assert len(rows) == 18 * 3
    assert {row.condition for row in rows} == {"real", "random_directions", "catch"}
    assert {row.annotator for row in rows} == {person.annotator_code for person in small.annotators}
    assert {row.dictionary for row in rows} == {"sae first"}
    assert [row.item for row in rows] == sorted(row.item for row in rows)
    Item.objects.filter(pk=small.items[0].pk).update(is_core=True)
    assert {row.item for row in rows_of_study(small.study, only_core=True)} == {small.items[0].pk}


def test_results_stay_hidden_until_the_study_is_closed_and_unblinded() -> None:
    small = make_study(state=Study.State.OPEN)
    with pytest.raises(StillBlindError, match="blind"):
        report_of_study(small.study, include_simulated=False)
    with pytest.raises(UnblindingError, match="close the study before"):
        unblind(study=small.study, user=small.researcher)
    small.study.state = Study.State.CLOSED
    small.study.closed_at = timezone.now()
    small.study.save()
    with pytest.raises(StillBlindError):
        report_of_study(small.study, include_simulated=False)
    first = unblind(study=small.study, user=small.researcher)
    assert unblind(study=small.study, user=None) == first
    act = unblinding_of(small.study)
    assert act is not None
    assert (act.by, act.n_annotations) == (small.researcher.username, 54)
    assert report_of_study(small.study, include_simulated=False).tally.n_used == 54


def test_a_study_that_reopens_is_blind_again() -> None:
    small = make_study()
    unblind(study=small.study, user=small.researcher)
    small.study.state = Study.State.OPEN
    small.study.save()
    assert unblinding_of(small.study) is None


def test_a_repeat_is_left_out_of_the_figures() -> None:
    small = make_study()
    first = small.items[0]
    repeat = Item.objects.create(
        study=small.study, feature=first.feature, condition=Condition.REAL, repeat_of=first, stimulus_id="f" * 64
    )
    answer(repeat, small.annotators[0], np.random.default_rng(0)).save()
    assert Annotation.objects.count() == 55
    answers = collected(list(rows_of_study(small.study)))
    assert (answers.tally.n_repeats, answers.repeats["patch"].first.size) == (1, 1)
