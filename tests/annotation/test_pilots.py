"""A pilot is the draft in small; its answers are its own."""

from __future__ import annotations

import pytest

from annotation.domain.pilots import copy_study, make_pilot
from annotation.domain.studies import StudyError
from annotation.models import Category, ReferenceItem, Study
from tests.annotation.small_study import SmallStudy, make_study
from tests.annotation.test_versions import answer_one

pytestmark = pytest.mark.django_db


@pytest.fixture
def small() -> SmallStudy:
    small = make_study(n_items=6)
    ReferenceItem.objects.create(
        study=small.study, kind="practice", feature=small.items[0].feature, accepted={"patch_rating": [4]}, reason="Why"
    )
    return small


def test_a_copy_has_everything_but_the_answers(small: SmallStudy) -> None:
    answer_one(small)
    copy = copy_study(source=small.study, user=None, name="Again", overlap=2)
    assert (copy.state, copy.overlap, copy.version, copy.locked_hash) == ("draft", 2, "1.0", "")
    names = ("name", "key", "position")
    assert list(copy.categories.values_list(*names)) == list(small.study.categories.values_list(*names))
    assert copy.guidelines.get().text == "Look, then say."
    assert copy.reference_items.get().accepted == {"patch_rating": [4]}
    assert not copy.annotations.exists()
    assert not copy.items.exists()
    assert copy.join_token != small.study.join_token


def test_a_copy_keeps_the_tree_of_categories(small: SmallStudy) -> None:
    parent, child = small.study.categories.all()[:2]
    Category.objects.filter(pk=child.pk).update(parent=parent)
    copy = copy_study(source=small.study, user=None, name="Again")
    assert copy.categories.get(name=child.name).parent == copy.categories.get(name=parent.name)


def test_a_pilot_asks_six_people_of_features_of_its_own(small: SmallStudy) -> None:
    Study.objects.update(state=Study.State.DRAFT, sampler={"n_features": 600, "dictionaries": [1]})
    small.study.refresh_from_db()
    first = make_pilot(study=small.study, user=None)
    with pytest.raises(StudyError, match="not open yet"):
        make_pilot(study=small.study, user=None)
    Study.objects.filter(pk=first.pk).update(state=Study.State.CLOSED)
    second = make_pilot(study=small.study, user=None)
    assert (first.name, second.name) == ("Pilot of Study first", "Pilot 2 of Study first")
    assert first.pilot_of == small.study
    assert (first.overlap, first.core_overlap, first.core_share) == (6, 6, 1.0)
    assert first.sampler["n_features"] == 60
    assert len({small.study.seed, first.seed, second.seed}) == 3
    with pytest.raises(StudyError, match="a pilot itself"):
        make_pilot(study=first, user=None)


def test_a_launched_study_has_no_pilot(small: SmallStudy) -> None:
    with pytest.raises(StudyError, match="before the launch"):
        make_pilot(study=small.study, user=None)
    assert Study.objects.count() == 1
