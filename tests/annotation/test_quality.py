"""What is measured of an annotator's work, by hand, and the signals drawn from it."""

from __future__ import annotations

from collections import Counter

import pytest

from annotation.domain.quality import AnswerRow, measure, study_quality
from annotation.domain.quality_measures import Measures, Share, entropy, pair_agreement, wilson
from annotation.models import Condition, Item, Study
from tests.annotation.judging import INTERPRETABLE, NOTHING, judge_all
from tests.annotation.small_study import make_study


def row(number: int, annotator: int, item: int, **fields: object) -> AnswerRow:
    values: dict[str, object] = {
        "id": number, "annotator_id": annotator, "item_id": item, "visible_ms": 4000, "patch_rating": 4,
        "image_rating": 4, "category": "", "choice": "", "is_gold_right": None, "is_too_quick": False,
        "is_late_extra": False, "excluded_reason": "", "condition": Condition.REAL, "is_core": True,
        "repeat_of_id": None,
    }  # fmt: skip
    return AnswerRow(**(values | fields))  # type: ignore[arg-type]


def names(one: Measures) -> set[str]:
    return {signal.name for signal in one.signals}


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # scipy.stats.binomtest(8, 10).proportion_ci
    assert wilson(0, 5) == pytest.approx((0.0, 0.4345), abs=1e-4)
    assert Share(0, 0).share is None
    assert Share(0, 0).interval is None


def test_entropy_and_agreement_of_pairs() -> None:
    assert entropy(Counter({"a": 2, "b": 2})) == 1.0
    assert entropy(Counter({"a": 7})) == 0
    assert pair_agreement([Counter({"yes": 2, "no": 1}), Counter({"yes": 3})]) == pytest.approx(4 / 6)
    assert pair_agreement([Counter({"yes": 1})]) is None


def test_agreement_is_with_the_majority_of_the_others_and_ties_say_nothing() -> None:
    no = {"patch_rating": 1, "image_rating": 1}
    rows = [row(1, 1, 10), row(2, 2, 10), row(3, 3, 10, **no), row(4, 1, 11), row(5, 2, 11), row(6, 1, 12)]
    measures, agreement, n = measure(rows, has_verdicts=True)
    # item 10: for 1 and 2 the others are tied (yes, no); for 3 they both say yes. Item 11 has one other only.
    assert {who: one.agreement for who, one in measures.items()} == {1: (0, 0), 2: (0, 0), 3: (0, 1)}
    assert agreement == pytest.approx(2 / 4)
    assert n == 6
    assert measure(rows, has_verdicts=False)[1] is None


def test_what_is_left_out_or_late_is_counted_but_compared_with_nobody() -> None:
    rows = [row(1, 1, 10, excluded_reason="asleep"), row(2, 2, 10), row(3, 3, 10, is_late_extra=True), row(4, 4, 10)]
    measures, agreement, _ = measure(rows, has_verdicts=True)
    assert (measures[1].n_excluded, measures[3].n_late, agreement) == (1, 1, 1.0)
    assert all(one.n_compared == 0 for one in measures.values())


def test_own_items_again_are_compared_with_the_first_answer() -> None:
    again = {"repeat_of_id": 10, "is_core": False}
    rows = [
        row(1, 1, 10),
        row(2, 1, 20, **again),
        row(3, 2, 10),
        row(4, 2, 20, patch_rating=1, image_rating=1, **again),
    ]
    measures, _, _ = measure(rows, has_verdicts=True)
    assert (measures[1].repeats, measures[2].repeats) == ((1, 1), (0, 1))


def test_signals_need_enough_to_go_by() -> None:
    assert names(Measures(visible_ms=[100] * 4, n=4)) == set()
    assert names(Measures(visible_ms=[100] * 5, n=5)) == {"rubber stamp"}
    assert names(Measures(visible_ms=[400, 400, 600, 600, 600])) == set()
    assert names(Measures(answers=Counter({"4/4": 19, "1/1": 1}))) == {"straight-lining"}
    assert names(Measures(answers=Counter({"4/4": 17, "1/1": 3}))) == set()
    assert names(Measures(checks=[True, False, False, True, False] * 2)) == {"checks"}
    assert names(Measures(checks=[True] * 3 + [False] * 2)) == set()  # 3 of 5 may be chance
    assert names(Measures(n_compared=20, n_agreeing=4)) == {"disagreement"}
    assert names(Measures(n_repeats=5, n_repeats_same=2)) == {"repeats"}
    assert names(Measures(n=40, n_too_quick=6)) == {"too quick"}
    assert names(Measures(n=100, n_too_quick=6)) == set()


def test_drift_compares_the_first_third_with_the_last() -> None:
    assert names(Measures(checks=[True] * 12 + [False] * 4 + [True] * 2)) == {"drift of checks"}
    assert names(Measures(checks=[True] * 12 + [False] * 2 + [True] * 4)) == set()  # may be chance
    steady = [5000] * 30
    assert names(Measures(visible_ms=steady)) == set()
    tired = Measures(visible_ms=[5000] * 10 + [3000] * 10 + [2000] * 10)
    assert [signal.sentence for signal in tired.signals] == [
        "The median time fell from 5.0 s in the first third to 2.0 s."
    ]
    assert tired.second_thirds == (5.0, 2.0)
    assert tired.fifth_seconds == 2.0


@pytest.mark.django_db
def test_the_table_of_a_study_is_by_annotator_and_follows_new_answers() -> None:
    small = make_study(n_items=12, overlap=3, n_people=3)
    Item.objects.update(is_core=True)
    Item.objects.filter(pk=small.items[0].pk).update(condition=Condition.GOLD, accepted={"patch_rating": [4]})
    Item.objects.filter(pk=small.items[1].pk).update(condition=Condition.CATCH, accepted={"patch_rating": [1]})
    ada, bob, eve = small.people
    judge_all(small, ada)
    judge_all(small, bob)
    before = study_quality(small.study)
    assert (before.n_answers, before.agreement, before.is_cut) == (24, 1.0, False)
    judge_all(small, eve, lambda item: NOTHING if item.pk % 2 else INTERPRETABLE)
    table = study_quality(Study.objects.get(pk=small.study.pk))
    rows = {one.participation.user: one.measures for one in table.annotators}
    assert (rows[ada].gold_share, rows[ada].catch_share) == ((1, 1), (0, 1))
    assert rows[eve].agreement.of == 10
    assert rows[eve].agreement.right == sum(item.pk % 2 == 0 for item in small.items[2:])
    assert 0.5 < (table.agreement or 0) < 0.8
