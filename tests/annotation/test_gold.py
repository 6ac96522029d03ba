"""Gold and catch items are scored silently."""

from __future__ import annotations

import pytest

from annotation.domain.answers import submit_answer
from annotation.models import Item, Participation
from tests.annotation.small_study import SmallStudy, make_answer, make_study

pytestmark = pytest.mark.django_db


def answer_gold(small: SmallStudy, accepted: dict[str, list[object]], **payload: object) -> bool | None:
    item = small.items[0]
    Item.objects.filter(pk=item.pk).update(accepted=accepted)
    full = {"patch_rating": 4, "image_rating": 1, "category": "shape", "label": ""} | payload
    result = submit_answer(annotator=small.people[0], study=small.study, answer=make_answer(item, payload=full))
    return result.annotation.is_gold_right


def gold_counts(small: SmallStudy) -> tuple[int, int]:
    participation = Participation.objects.get(user=small.people[0])
    return participation.n_gold, participation.n_gold_right


def test_all_questions_with_accepted_answers_must_be_right() -> None:
    small = make_study()
    assert answer_gold(small, {"patch_rating": [3, 4], "image_rating": [1, None]}) is True
    assert gold_counts(small) == (1, 1)
    assert answer_gold(small, {"patch_rating": [3, 4], "image_rating": [1, None]}, image_rating=2) is False
    assert gold_counts(small) == (1, 0)


def test_cannot_tell_is_right_where_it_is_accepted() -> None:
    small = make_study()
    assert answer_gold(small, {"image_rating": [1, 2, None]}, image_rating=None) is True


def test_an_ordinary_item_is_not_scored() -> None:
    small = make_study()
    assert answer_gold(small, {}) is None
    assert gold_counts(small) == (0, 0)
