"""The report: which answers count, numbers worked out by hand, and blindness until it is lifted."""

from __future__ import annotations

import numpy as np
import pytest
from django.utils import timezone

from analysis.domain.answers import AnswerRow, collect, rows_of_study
from analysis.domain.report import Report, StillBlindError, figures_of, make_report, report_of_study
from annotation.domain.unblinding import UnblindingError, unblind, unblinding_of
from annotation.models import Annotation, Condition, Item, Study
from tests.analysis.studies import answer, make_study


def row(item: int, annotator: str, patch: int | None, image: int | None = 1, **fields: object) -> AnswerRow:
    values: dict[str, object] = {
        "item": item, "annotator": annotator, "patch_rating": patch, "image_rating": image, "is_current": True,
        "is_late_extra": False, "is_simulated": False, "excluded_reason": "", "repeat_of": None, "condition": "real",
        "block": item % 2, "dictionary": "sae",
    }  # fmt: skip
    return AnswerRow(**(values | fields))  # type: ignore[arg-type]


def report_on(rows: list[AnswerRow]) -> Report:
    return make_report(collect(rows, include_simulated=False), False)


def test_every_row_is_used_or_left_out_for_one_reason() -> None:
    answers = collect(
        [
            row(1, "A", 4),
            row(1, "B", 4, is_current=False),
            row(1, "C", 4, is_late_extra=True),
            row(1, "D", 4, excluded_reason="too fast"),
            row(2, "D", 4, excluded_reason="too fast"),
            row(2, "E", 4, is_simulated=True),
            row(3, "A", 4, repeat_of=1),
        ],
        include_simulated=False,
    )
    tally = answers.tally
    assert (tally.n_rows, tally.n_used, tally.n_revised, tally.n_late_extra) == (7, 1, 1, 1)
    assert (tally.n_repeats, tally.n_simulated_left_out, tally.excluded) == (1, 1, {"too fast": 2})
    assert tally.n_rows == 1 + 1 + 1 + tally.n_excluded + tally.n_simulated_left_out + tally.n_repeats


def test_simulated_answers_are_counted_where_they_are_let_in() -> None:
    answers = collect([row(1, "A", 4), row(1, "S", 1, is_simulated=True)], include_simulated=True)
    assert (answers.tally.n_used, answers.tally.n_used_simulated) == (2, 1)


def test_shares_by_block_and_condition_by_hand() -> None:
    report = report_on(
        [row(item, name, 4 if item != 2 else 1) for item in range(4) for name in "AB"]
        + [row(item, name, None if item == 4 else 3, condition="random_directions") for item in (4, 5) for name in "AB"]
    )
    patch, image = report.levels
    assert [(part.name, part.share.features.value) for part in patch.by_block] == [("block 0", 0.5), ("block 1", 1.0)]
    assert [(part.name, part.share.features.value) for part in patch.by_condition] == [
        ("feature", 0.75),
        ("random directions", 0.5),
    ]
    assert patch.overall.share.features.value == 0.75
    assert image.overall.share.features.value == 0.0
    # "cannot tell" on item 4 has no place on the scale: six real 4s and two 1s against two 3s
    assert patch.auc.value == pytest.approx(6 / 8)
    assert patch.n_cannot_tell == 2


def test_each_control_kind_is_compared_apart() -> None:
    report = report_on(
        [row(item, "A", 3) for item in range(3)]
        + [row(10, "A", 1, condition="random_directions"), row(11, "A", 4, condition="shuffled")]
    )
    values = [(name, figure.value) for name, figure in report.levels[0].auc_by_control]
    assert values == [("random directions", 1.0), ("patches shuffled between features", 0.0)]


def test_catch_and_gold_items_are_no_features() -> None:
    report = report_on([row(0, "A", 4), row(2, "A", 1, condition="catch"), row(4, "A", 1, condition="gold")])
    assert report.levels[0].overall.share.features.value == 1.0
    assert [part.name for part in report.levels[0].by_condition] == ["feature", "catch item", "gold item"]


def test_a_study_without_answers_says_so_in_every_figure() -> None:
    figures = [figure for _, _, _, figure in figures_of(report_on([]))]
    assert figures
    assert {figure.value for figure in figures} == {None}
    assert all(figure.note for figure in figures)


def test_the_order_of_answers_does_not_move_the_numbers() -> None:
    rng = np.random.default_rng(0)
    rows = [row(item, name, int(rng.integers(1, 5))) for item in range(9) for name in "ABC"]
    assert report_on(rows).levels == report_on(rows[::-1]).levels


@pytest.mark.django_db
def test_the_rows_of_a_study_come_with_what_their_items_are() -> None:
    small = make_study()
    rows = list(rows_of_study(small.study))
    assert len(rows) == 18 * 3
    assert {row.condition for row in rows} == {"real", "random_directions", "catch"}
    assert {row.annotator for row in rows} == {person.annotator_code for person in small.annotators}
    assert {row.dictionary for row in rows} == {"sae first"}


@pytest.mark.django_db
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


@pytest.mark.django_db
def test_a_study_that_reopens_is_blind_again() -> None:
    small = make_study()
    unblind(study=small.study, user=small.researcher)
    small.study.state = Study.State.OPEN
    small.study.save()
    assert unblinding_of(small.study) is None


@pytest.mark.django_db
def test_a_repeat_is_left_out_of_the_figures() -> None:
    small = make_study()
    first = small.items[0]
    repeat = Item.objects.create(
        study=small.study, feature=first.feature, condition=Condition.REAL, repeat_of=first, stimulus_id="f" * 64
    )
    answer(repeat, small.annotators[0], np.random.default_rng(0)).save()
    assert Annotation.objects.count() == 55
    assert collect(rows_of_study(small.study), include_simulated=True).tally.n_repeats == 1
