"""Study files that are wrong are answered with a sentence, and nothing is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from annotation.domain.study_file_checks import StudyFileError
from annotation.domain.study_files import create_study_from
from annotation.models import Dictionary, Study, User
from tests.annotation.launchable_study import make_launchable

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"sampler": [1]}, "The part 'sampler' must be a list of 'name: value'."),
        ({"settings": None}, "The part 'settings' must be a list of 'name: value'."),
        ({"guideline": 5}, "The part 'guideline' must be text."),
        ({"categories": {"x": None}}, "Each of the categories needs a key"),
        ({"practice": {"n": 3}}, "The part 'practice' must be 'draw: NUMBER' or a list"),
        ({"gold": ["x"]}, "The part 'gold' must be 'draw: NUMBER' or a list"),
        ({"settings": {"overlap": "three"}}, "The setting .overlap. is .three.; it must be a whole number."),
        ({"settings": {"overlap": 0}}, "The setting .overlap. is 0; it must be from 1 to 50."),
        ({"settings": {"session_length": -3}}, "The setting .session_length. is -3; it must be from 5 to 500."),
        ({"settings": {"seed": 10**24}}, "The setting .seed. is 1000000000000000000000000; it must be from 0"),
        ({"settings": {"stopping": {"halfwidth": 0.1}}}, "A stopping rule has half_width and min_judgements, not"),
        ({"settings": {"preregistration": {"hyp": "a"}}}, "A pre-registration has no line 'hyp'"),
        ({"settings": {"overlaps": 3}}, "The part 'settings' has an unknown entry 'overlaps'"),
        ({"settings": {"queue_order": "random"}}, "it can be breadth, uncertainty, finish"),
        ({"settings": {"control_kinds": ["nonsense"]}}, "'nonsense' is no kind of control"),
        ({"settings": {"gold_schedule": [[10, 0.9]]}}, "The gold schedule must be a list"),
        ({"sampler": {"n_feature": 3}}, "The part 'sampler' has an unknown entry 'n_feature'"),
        ({"sampler": {"n_features": "many"}}, "The sampler's 'n_features' is 'many'; it must be a whole number."),
        ({"sampler": {"blocks": 3}}, "The sampler's 'blocks' must be a list of whole numbers."),
        ({"exclusions": {"min_image": 3}}, "The part 'exclusions' has an unknown entry 'min_image'"),
        ({"exclusions": {"prefix_rule": "drop"}}, "The rule for prefix tokens can be"),
        ({"protocol": "guessing"}, "There is no protocol 'guessing' to launch"),
        ({"protocol": "adjudication"}, "There is no protocol 'adjudication' to launch"),
        ({"protocol": "intruder", "options": {"n_image": 5}}, "has no option 'n_image'"),
        ({"protocol": "intruder", "options": {"n_images": 7}}, "The option 'n_images' is 7; it can be 4, 5, 6."),
        ({"explanations": "nobody's"}, "There is no set of explanations 'nobody's'"),
        ({"embeddings": "latest"}, "There is no artefact of kind image-embeddings yet"),
        ({"alignment": "abc"}, "There is no artefact 'abc' of kind alignment."),
        ({"practice": [{"feature": 1, "answer": 2}]}, "An entry of 'practice' has an unknown entry 'answer'"),
        ({"settings": {"catch_share": -1}}, "must lie between 0 and 1; controls, catch and gold"),
        (
            {"settings": {"control_share": 0.6, "catch_share": 0.6}},
            "must lie between 0 and 1; controls, catch and gold",
        ),
    ],
)
def test_a_wrong_part_is_named(part: dict[str, Any], sentence: str) -> None:
    user = User.objects.create(username="rhea")
    with pytest.raises(StudyFileError, match=sentence):
        create_study_from(values={"name": "a", **part}, folder=Path(), user=user)
    assert not Study.objects.exists()


def test_a_name_that_two_dictionaries_have_is_not_guessed(artifact_root: Path, tmp_path: Path) -> None:
    launchable = make_launchable(tmp_path)
    Dictionary.objects.filter(pk=launchable.control.pk).update(name=launchable.dictionary.name)
    values = {"name": "a", "dictionaries": [launchable.dictionary.name]}
    with pytest.raises(StudyFileError, match="name one by its digest"):
        create_study_from(values=values, folder=tmp_path, user=launchable.researcher)
    by_digest = values | {"dictionaries": [launchable.dictionary.digest[:12]]}
    study = create_study_from(values=by_digest, folder=tmp_path, user=launchable.researcher)
    assert study.sampler["dictionaries"] == [launchable.dictionary.pk]


def test_a_file_says_all_that_the_form_says(artifact_root: Path, tmp_path: Path) -> None:
    launchable = make_launchable(tmp_path)
    values = {
        "name": "Guess the origin", "protocol": "nature-origin", "dictionaries": [launchable.dictionary.digest],
        "sampler": {"n_features": 20, "blocks": [0]}, "practice": {"draw": 10},
        "settings": {"queue_order": "finish", "max_per_person": 50, "gold_schedule": [[0, 0.2]], "pass_mark": 0.8,
                     "min_viewing_ms": 500, "stopping": {"half_width": 0.05, "min_judgements": 100}},
    }  # fmt: skip
    study = create_study_from(values=values, folder=tmp_path, user=launchable.researcher)
    assert (study.protocol, study.control_share, study.queue_order) == ("nature-origin", 0.5, "finish")
    assert (study.max_per_person, study.min_viewing_ms, study.pass_mark) == (50, 500, 0.8)
    assert study.reference_items.count() == 10
    pair = values | {"name": "Pairs", "protocol": "pairwise"}
    drawn = create_study_from(values=pair, folder=tmp_path, user=launchable.researcher).reference_items.all()
    assert all(one.other_feature_id not in {None, one.feature_id} for one in drawn)
