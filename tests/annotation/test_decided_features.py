"""What people decided leaves as an artefact: real features only, answers in force only, once the study is unblinded."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from annotation.domain.decided_features import most_frequent, write_feature_set
from annotation.domain.studies import StudyError, close_study
from annotation.domain.unblinding import unblind
from annotation.models import Annotation, Item, Study, User
from tests.annotation.small_study import NOON, SmallStudy, make_study

pytestmark = pytest.mark.django_db


@pytest.fixture
def small(artifact_root: Path) -> SmallStudy:
    small = make_study(n_items=3, n_people=3)
    Study.objects.update(protocol="spurious", locked_hash="a" * 64)
    Item.objects.update(text="dog")
    Item.objects.filter(pk=small.items[2].pk).update(condition="shuffled")
    small.study.refresh_from_db()
    return small


def say(item: Item, person: User, spurious: str | None, label: str, **fields: Any) -> Annotation:
    payload = {"spurious": spurious, "label": label}
    values: dict[str, Any] = {
        "uuid": uuid.uuid4(), "study": item.study, "item": item, "annotator": person, "payload": payload,
        "submitted_at": NOON, "protocol_version": "1.0", "guideline_version": 1, "stimulus_id": item.stimulus_id,
        "app_version": "x",
    }  # fmt: skip
    return Annotation.objects.create(**(values | fields))


def unblinded(study: Study) -> Study:
    close_study(study=study, user=None)
    unblind(study=study, user=None)
    study.refresh_from_db()
    return study


def test_the_majority_decides_and_only_answers_in_force_count(small: SmallStudy) -> None:
    first, second, control = small.items
    for person, spurious, label in zip(small.people, ("yes", "yes", "no"), ("snow", "ice", "snow"), strict=True):
        say(first, person, spurious, label)
        say(control, person, "yes", "control")
    say(second, small.people[0], "yes", "grass")
    say(second, small.people[1], "no", "")
    say(second, small.people[2], None, "")
    Annotation.objects.filter(item=second, annotator=small.people[0]).update(excluded_reason="gold")
    artifact = write_feature_set(study=unblinded(small.study))
    rows = [json.loads(line) for line in artifact.path("features.jsonl").read_text().splitlines()]
    assert [row["latent"] for row in rows] == [first.feature.latent, second.feature.latent]
    assert rows[0] == {
        "dictionary": first.feature.dictionary.digest, "hookpoint": "blocks.0", "latent": 0, "pole": 1, "n_answers": 3,
        "label": "snow", "class": "dog", "n_spurious": 2, "n_part": 1, "n_cannot_tell": 0, "is_spurious": True,
    }  # fmt: skip
    assert (rows[1]["n_spurious"], rows[1]["n_cannot_tell"], rows[1]["is_spurious"]) == (0, 1, False)
    assert artifact.json("manifest.json")["config"] == {
        "purpose": "spurious", "study": small.study.slug, "settings_hash": "a" * 64, "n_answers": 5,
        "is_simulated": False,
    }  # fmt: skip


def test_ratings_become_labels(small: SmallStudy) -> None:
    Study.objects.update(protocol="rate-describe-categorise")
    small.study.refresh_from_db()
    for person, rating in zip(small.people, (4, 3, None), strict=True):
        payload = {"patch_rating": rating, "image_rating": 1, "category": "shape", "label": ""}
        say(small.items[0], person, "", "", payload=payload)
    artifact = write_feature_set(study=unblinded(small.study))
    [row] = [json.loads(line) for line in artifact.path("features.jsonl").read_text().splitlines()]
    assert (row["is_patch_interpretable"], row["is_image_interpretable"], row["category"]) == (True, False, "shape")
    assert most_frequent(["b", "a", "", "", ""]) == "a"


def test_a_blind_study_and_other_protocols_are_refused(small: SmallStudy) -> None:
    with pytest.raises(StudyError, match="is blind"):
        write_feature_set(study=small.study)
    Study.objects.update(protocol="intruder")
    with pytest.raises(CommandError, match="decides nothing"):
        call_command("export_features", small.study.slug)
    with pytest.raises(CommandError, match="no study 'else'"):
        call_command("export_features", "else")
