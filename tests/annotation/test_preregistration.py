"""What is registered before a study, and where practice left it."""

from __future__ import annotations

import pytest

from annotation.domain.preregistration import departures, lines_of, preregister
from annotation.domain.studies import StudyError
from annotation.domain.versions import change_live_study
from annotation.models import Annotation, Participation, Study
from tests.annotation.small_study import SmallStudy, make_study
from tests.annotation.test_versions import answer_one

pytestmark = pytest.mark.django_db
WORDS = {"hypotheses": "Real above control.", "n_judgements": 12, "stopping": "All judged."}


@pytest.fixture
def draft() -> SmallStudy:
    small = make_study(n_items=12)
    Study.objects.update(state=Study.State.DRAFT)
    small.study.refresh_from_db()
    return small


def launched(small: SmallStudy, **values: object) -> Study:
    preregister(study=small.study, user=None, values=WORDS | values)
    Study.objects.update(state=Study.State.OPEN)
    small.study.refresh_from_db()
    return small.study


def test_it_is_kept_in_the_order_of_the_form(draft: SmallStudy) -> None:
    preregister(study=draft.study, user=None, values={"min_gold_share": 1} | WORDS | {"analysis": ""})
    assert [line.label for line in lines_of(Study.objects.get())][:3] == [
        "Hypotheses", "Judgements", "Exclude below this share of gold right",
    ]  # fmt: skip
    assert Study.objects.get().preregistration["min_gold_share"] == 1.0
    assert "analysis" not in Study.objects.get().preregistration


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hypotheses": "x"}, "needs judgements, stopping rule"),
        (WORDS | {"n_judgements": 1.5}, "a whole number from 1"),
        (WORDS | {"min_gold_share": 80}, "a share from 0 to 1"),
        (WORDS | {"wishes": "x"}, "no line 'wishes'"),
        (WORDS | {"hypotheses": "x" * 6000}, "at most 5000"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_kept(draft: SmallStudy, values: dict[str, object], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        preregister(study=draft.study, user=None, values=values)
    assert Study.objects.get().preregistration == {}


def test_a_launched_study_cannot_register(draft: SmallStudy) -> None:
    launched(draft)
    with pytest.raises(StudyError, match="locked"):
        preregister(study=draft.study, user=None, values=WORDS)


def test_practice_as_registered_departs_in_nothing(draft: SmallStudy) -> None:
    study = launched(draft)
    answer_one(draft)
    assert departures(study) == []
    assert departures(make_study(slug="other").study) == []


def test_each_departure_is_a_sentence(draft: SmallStudy) -> None:
    study = launched(draft, n_annotators=3, min_gold_share=0.8, other_exclusions="A child answered.")
    reasons = ["gold below 80 %", "too quick for me", "a child answered.", "withdrawn"]
    for reason in reasons:
        Annotation.objects.filter(pk=answer_one(draft).pk).update(excluded_reason=reason)
    change_live_study(study=study, user=None, values={"session_length": 30}, reason="Shorter")
    Study.objects.update(state=Study.State.CLOSED, n_slots_done=4)
    study.refresh_from_db()
    assert Participation.objects.filter(n_done__gt=0).count() == 1
    assert departures(study) == [
        "4 judgements were collected; 12 were registered.",
        "1 people judged; at least 3 were registered.",
        "1 answers are excluded because 'too quick for me', which was not registered.",
        "Version 1.1 (minor) changed items in a session after 4 answers: Shorter",
    ]
