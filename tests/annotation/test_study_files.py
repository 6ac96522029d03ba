"""Study files that are wrong are answered with a sentence, and nothing is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from annotation.domain.study_file_checks import StudyFileError
from annotation.domain.study_files import create_study_from
from annotation.models import Study, User

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
