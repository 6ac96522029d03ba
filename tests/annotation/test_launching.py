"""From a draft to an open study: nothing missing, nothing told, nothing lost."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path

import pytest

from annotation.domain.launch_problems import launch_problems
from annotation.domain.launching import launch_study, settle_failed_launch
from annotation.domain.opening import open_study
from annotation.domain.stimuli import StimulusError, panel_cells, stimulus_file, stimulus_for_player, stimulus_record
from annotation.domain.storage import artifact_store
from annotation.domain.studies import StudyError, close_study, pause_study, resume_study
from annotation.models import Condition, Feature, Item, ReferenceItem, Run, Slot, Study, User
from tests.annotation.launchable_study import Launchable, finish_run, make_launchable

pytestmark = pytest.mark.django_db


@pytest.fixture
def launchable(artifact_root: Path, tmp_path: Path) -> Launchable:
    return make_launchable(tmp_path)


def launch(launchable: Launchable) -> Study:
    finish_run(launch_study(study=launchable.study, user=launchable.researcher))
    launchable.study.refresh_from_db()
    return launchable.study


def test_a_launch_freezes_and_opens(launchable: Launchable) -> None:
    run = launch_study(study=launchable.study, user=launchable.researcher)
    assert (launchable.study.state, run.stage) == (Study.State.LAUNCHING, "freeze-stimuli")
    finish_run(run)
    launchable.study.refresh_from_db()
    study = launchable.study
    assert (study.state, study.n_items, study.n_slots) == (
        Study.State.OPEN, study.items.count(), Slot.objects.filter(study=study).count(),
    )  # fmt: skip
    conditions = Counter(study.items.values_list("condition", flat=True))
    assert conditions == {
        Condition.REAL: 16, Condition.RANDOM_DIRECTIONS: 1, Condition.SHUFFLED: 1, Condition.GOLD: 1,
        Condition.CATCH: 1,
    }  # fmt: skip
    assert [event.kind for event in study.events.order_by("id")] == ["created", "guideline", "launched", "opened"]
    assert len(study.locked_hash) == 64


def test_an_opened_study_has_its_core_its_practice_its_gold_and_matched_controls(launchable: Launchable) -> None:
    study = launch(launchable)
    check_core(study)
    check_practice_items(study)
    check_known_answers(study)
    check_controls(study, launchable)


def check_core(study: Study) -> None:
    n_slots = Counter(Slot.objects.values_list("item_id", flat=True))
    for item in study.items.all():
        assert n_slots[item.pk] == (3 if item.is_core else 1)
    assert study.items.filter(condition=Condition.REAL, is_core=True).count() == 5
    assert all(study.items.filter(condition__in=["gold", "catch"]).values_list("is_core", flat=True))


def check_practice_items(study: Study) -> None:
    practice = study.reference_items.filter(kind=ReferenceItem.Kind.PRACTICE)
    assert all(len(reference.stimulus_id) == 64 for reference in practice)
    assert not Item.objects.filter(reference__in=practice).exists()


def check_known_answers(study: Study) -> None:
    gold = study.items.get(condition=Condition.GOLD)
    assert (gold.accepted, gold.reference is None) == ({"patch_rating": [3, 4]}, False)
    assert study.items.get(condition=Condition.CATCH).accepted["patch_rating"] in ([3, 4], [1, 2, None])


def check_controls(study: Study, launchable: Launchable) -> None:
    item = study.items.select_related("feature", "matched_feature").get(condition=Condition.RANDOM_DIRECTIONS)
    assert item.feature.dictionary_id == launchable.control.pk
    assert item.matched_feature is not None
    assert item.matched_feature.dictionary_id == launchable.dictionary.pk
    assert item.feature.hookpoint == item.matched_feature.hookpoint


def test_nothing_that_is_served_tells_the_condition(launchable: Launchable) -> None:
    study = launch(launchable)
    check_what_is_served(study)
    check_patch_counts(study)
    plan = artifact_store().open(Run.objects.get().config["plan"])
    keys = {key for line in plan.path("items.jsonl").read_text().splitlines() for key in json.loads(line)}
    assert keys == {
        "number", "builder", "feature", "matched", "other", "options", "variant", "text", "truth", "seed", "patches",
        "images",
    }  # fmt: skip


def check_what_is_served(study: Study) -> None:
    shapes: Counter[str] = Counter()
    for item in study.items.all():
        shown = stimulus_for_player(study=study, stimulus_id=item.stimulus_id)
        assert set(shown) == {"id", "sprite", "zoom", "grid", "panels", "text"}
        cells = [cell for panel in shown["panels"] for cell in panel["cells"]]
        shapes[json.dumps([sorted(cell) for cell in cells])] += 1
        assert not {"image_index", "patch_index"} & {key for cell in cells for key in cell}
    assert len(shapes) == 1
    order = list(study.items.order_by("id").values_list("condition", flat=True))
    assert order != sorted(order)


def check_patch_counts(study: Study) -> None:
    """The maps of controls keep no more patches than those of the matched feature."""
    by_feature = {item.feature_id: item for item in study.items.filter(condition=Condition.REAL)}
    for item in study.items.filter(condition__in=["random_directions", "shuffled"]):
        matched = by_feature[item.matched_feature_id or 0]
        maps, limits = (
            [
                sum(value > 0 for value in base64.b64decode(cell["map"]))
                for cell in panel_cells(stimulus_record(study.stimuli_digest, one.stimulus_id), "images")
            ]
            for one in (item, matched)
        )
        assert all(n <= limit for n, limit in zip(maps, limits, strict=False))


def test_the_same_draft_makes_the_same_stimuli(launchable: Launchable) -> None:
    study = launch(launchable)
    first = list(study.items.order_by("id").values_list("stimulus_id", "feature_id", "condition", "is_core"))
    Slot.objects.all().delete()
    Item.objects.all().delete()
    Study.objects.update(state=Study.State.DRAFT)
    study.refresh_from_db()
    run = launch_study(study=study, user=launchable.researcher)
    assert run.state == Run.State.DONE  # found, not computed
    study.refresh_from_db()
    assert study.state == Study.State.OPEN
    assert first == list(study.items.order_by("id").values_list("stimulus_id", "feature_id", "condition", "is_core"))


def test_a_launch_names_everything_that_is_missing(launchable: Launchable) -> None:
    study = launchable.study
    study.guidelines.all().delete()
    study.reference_items.filter(kind=ReferenceItem.Kind.PRACTICE, position__lt=3).delete()
    study.categories.all().delete()
    study.consent_text = " "
    study.control_kinds = ["untrained_dictionary"]
    assert launch_problems(study) == [
        "Write the guideline that annotators read first.",
        "Add practice items: there are 7, and 10 are needed.",
        "Write the consent text.",
        "Add at least one category.",
        "The dictionaries have no controls of kind untrained_dictionary; make them, or untick the kind.",
    ]
    with pytest.raises(StudyError, match="Write the guideline"):
        launch_study(study=study, user=launchable.researcher)
    assert not Run.objects.exists()


def test_an_empty_sample_is_refused(launchable: Launchable) -> None:
    Feature.objects.update(n_images_active=0)
    with pytest.raises(StudyError, match="every feature is excluded"):
        launch_study(study=launchable.study, user=launchable.researcher)


def test_a_failed_run_makes_the_study_a_draft_again(launchable: Launchable) -> None:
    run = launch_study(study=launchable.study, user=launchable.researcher)
    assert settle_failed_launch(study=launchable.study) is None
    Run.objects.filter(pk=run.pk).update(state=Run.State.FAILED, error="An image is gone.")
    assert settle_failed_launch(study=launchable.study) == "An image is gone."
    assert launchable.study.state == Study.State.DRAFT
    event = launchable.study.events.first()
    assert event is not None
    assert (event.kind, event.detail["reason"]) == ("launch-failed", "An image is gone.")
    assert open_study(run=run) is None


def test_a_study_is_launched_once(launchable: Launchable) -> None:
    launch_study(study=launchable.study, user=launchable.researcher)
    with pytest.raises(StudyError, match="only a draft"):
        launch_study(study=launchable.study, user=launchable.researcher)


def test_pictures_are_for_the_people_of_the_study(launchable: Launchable) -> None:
    study = launch(launchable)
    item = study.items.all()[0]
    stranger = User.objects.create(username="stranger")
    for name in (f"{item.stimulus_id}.webp", f"{item.stimulus_id}.zoom.webp"):
        assert stimulus_file(user=launchable.researcher, digest=study.stimuli_digest, name=name).is_file()
        with pytest.raises(StimulusError, match="in no study"):
            stimulus_file(user=stranger, digest=study.stimuli_digest, name=name)
    for name in ("../manifest.json", f"{item.stimulus_id}.json", "0.webp"):
        with pytest.raises(StimulusError, match="no picture"):
            stimulus_file(user=launchable.researcher, digest=study.stimuli_digest, name=name)


def test_a_study_is_paused_resumed_and_closed(launchable: Launchable) -> None:
    study = launchable.study
    study.state = Study.State.OPEN
    study.save()
    pause_study(study=study, user=launchable.researcher)
    with pytest.raises(StudyError, match="it cannot be paused now"):
        pause_study(study=study, user=launchable.researcher)
    resume_study(study=study, user=launchable.researcher)
    close_study(study=study, user=launchable.researcher)
    study.refresh_from_db()
    assert (study.state, study.closed_at is None) == (Study.State.CLOSED, False)
