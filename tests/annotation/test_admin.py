"""The admin: every page opens for those it is for, runs are started and steered there, studies stay blind."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import DjangoCaptureOnCommitCallbacks

from annotation.domain.runs import create_run
from annotation.models import ImageSet, Item, Role, Run, Study, User
from tests.analysis.studies import make_study
from tests.workers import counting_stage
from workers.artifacts import ArtifactStore
from workers.stages.configs import STAGES

pytestmark = pytest.mark.django_db
OURS = sorted(model._meta.model_name or "" for model in admin.site._registry if model._meta.app_label == "annotation")


@pytest.fixture(autouse=True)
def stage(monkeypatch: pytest.MonkeyPatch, artifact_root: Path) -> None:
    monkeypatch.setitem(STAGES, counting_stage.NAME, counting_stage.stage())


@pytest.fixture
def rhea(client: Client) -> User:
    user = User.objects.create_user("rhea", role=Role.RESEARCHER, is_staff=True)
    client.force_login(user)
    return user


@pytest.mark.parametrize("model", OURS)
def test_every_list_opens_for_administrators_and_for_no_annotator(client: Client, model: str) -> None:
    address = reverse(f"admin:annotation_{model}_changelist")
    client.force_login(User.objects.create_user("root", role=Role.ADMINISTRATOR, is_staff=True))
    assert client.get(address).status_code == 200
    client.force_login(User.objects.create_user("ada", role=Role.ANNOTATOR, is_staff=True))
    assert client.get(address).status_code == 403


def test_researchers_see_no_accounts(client: Client, rhea: User) -> None:
    assert client.get(reverse("admin:annotation_user_changelist")).status_code == 403
    assert client.get(reverse("admin:annotation_run_changelist")).status_code == 200


def act(client: Client, model: str, action: str, pk: int) -> str:
    address = reverse(f"admin:annotation_{model}_changelist")
    response = client.post(address, {"action": action, "_selected_action": [pk]}, follow=True)
    return response.content.decode()


def test_runs_are_cancelled_retried_and_cloned_by_actions(
    client: Client, rhea: User, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    run = create_run(stage="counting", config={"seed": 3}, user=None)

    assert "1 cancelled." in act(client, "run", "cancel", run.pk)
    assert "there is nothing to cancel" in act(client, "run", "cancel", run.pk)
    with django_capture_on_commit_callbacks() as callbacks:
        assert "1 queued again." in act(client, "run", "retry", run.pk)
        assert "1 cloned." in act(client, "run", "clone", run.pk)
    assert len(callbacks) == 2
    clone = Run.objects.get(cloned_from=run)
    assert (clone.config["seed"], clone.created_by) == (3, rhea)


def test_a_run_is_started_with_its_estimate(client: Client, rhea: User, artifact_root: Path) -> None:
    with ArtifactStore(artifact_root).write("image-set", config={}) as writer:
        writer.write_json("classes.json", [])
    ImageSet.objects.create(name="pets", digest=writer.digest, n_images=100)
    address = reverse("admin:annotation_run_add")
    assert "?stage=train-model" in client.get(address).content.decode()

    settings: dict[str, str | int | float] = {
        "stage": "train-model", "image_set": writer.digest, "name": "small", "architecture": "vit_tiny_patch16_224",
        "image_size": 32, "patch_size": 8, "depth": 2, "width": 32, "n_epochs": 7, "learning_rate": 0.001, "seed": 0,
    }  # fmt: skip
    shown = client.get(address, {name: str(value) for name, value in settings.items()}).content.decode()
    assert "for 700 images, at 700 images per second, a guess" in shown
    assert Run.objects.count() == 0
    client.post(f"{address}?stage=train-model", settings)
    run = Run.objects.get()
    assert (run.stage, run.created_by, run.config["n_epochs"]) == ("train-model", rhea, 7)


def test_a_study_is_drafted_and_an_early_launch_is_refused(client: Client, rhea: User) -> None:
    add = reverse("admin:annotation_study_add")
    values = {
        "name": "First", "description": "", "seed": 0, "sampler": "{}", "exclusions": "{}", "overlap": 1,
        "core_overlap": 3, "core_share": 0.3, "control_share": 0.1, "control_kinds": "[]", "catch_share": 0.05,
        "gold_share": 0.05, "session_length": 60, "consent_text": "",
    }  # fmt: skip
    client.post(add, values)
    errors = client.post(add, {**values, "overlap": "many"}).content.decode()
    assert "Enter a whole number." in errors

    study = Study.objects.get()
    assert (study.name, study.slug, study.state, study.created_by) == ("First", "first", "draft", rhea)
    act(client, "study", "launch", study.pk)
    study.refresh_from_db()
    assert study.state == Study.State.DRAFT


def test_a_launched_study_cannot_be_edited(client: Client, rhea: User) -> None:
    study = Study.objects.create(name="Open", slug="open", state=Study.State.OPEN, created_by=rhea)
    page = client.get(reverse("admin:annotation_study_change", args=[study.pk])).content.decode()
    assert 'name="_save"' not in page
    assert "1 paused." in act(client, "study", "pause", study.pk)


def test_a_researcher_steers_only_the_studies_they_may_change(client: Client, rhea: User) -> None:
    owner = User.objects.create_user("owner", role=Role.RESEARCHER)
    study = Study.objects.create(name="Theirs", slug="theirs", state=Study.State.OPEN, created_by=owner)
    draft = Study.objects.create(name="Draft", slug="draft", created_by=owner)
    assert "Only the owner of this study" in act(client, "study", "close", study.pk)
    study.refresh_from_db()
    assert study.state == Study.State.OPEN
    assert 'name="_save"' not in client.get(reverse("admin:annotation_study_change", args=[draft.pk])).content.decode()


@pytest.mark.parametrize(
    ("model", "lookup"),
    [
        ("item", "condition=real"), ("item", "stratum__contains=block"), ("item", "feature_id=1"),
        ("item", "feature__exact=1"), ("annotation", "is_gold_right=1"), ("annotation", "is_gold_right__isnull=0"),
        ("item", "variant=hard"), ("item", "other_feature_id=1"), ("item", "text__contains=a"),
        ("item", "truth__isnull=0"), ("slot", "lane=-1"), ("slot", "lane__lt=0"),
    ],
)  # fmt: skip
def test_no_address_filters_by_what_is_blind(client: Client, rhea: User, model: str, lookup: str) -> None:
    assert client.get(reverse(f"admin:annotation_{model}_changelist") + f"?{lookup}").status_code == 400


def test_the_list_of_items_tells_no_stratum(client: Client, rhea: User) -> None:
    make_study(state=Study.State.OPEN)
    Item.objects.update(stratum="block 4, band 2")
    item = Item.objects.all()[0]
    for address in (
        reverse("admin:annotation_item_changelist"),
        reverse("admin:annotation_item_change", args=[item.pk]),
    ):
        assert "block 4, band 2" not in client.get(address).content.decode()


def test_the_page_of_an_item_tells_nothing_of_pairs_contrasts_and_right_answers(client: Client, rhea: User) -> None:
    make_study(state=Study.State.OPEN)
    Item.objects.update(variant="hard negative", text="a red circle", truth={"choice": "left-one"}, stimulus_id="5eed")
    item = Item.objects.all()[0]
    page = client.get(reverse("admin:annotation_item_change", args=[item.pk])).content.decode()
    assert [one for one in ("hard negative", "a red circle", "left-one", "Other feature") if one in page] == []
    assert "5eed" in page
