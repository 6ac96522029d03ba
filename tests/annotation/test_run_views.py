"""The pages of runs: who gets in, what they show, what their buttons do."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.fixtures import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks

from annotation.domain import chunks
from annotation.domain.runs import create_run
from annotation.models import Chunk, ImageSet, Role, Run, RunMetric, User, VisionModel, Worker
from tests.workers import counting_stage
from workers.artifacts import ArtifactStore
from workers.stages.configs import STAGES

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def stage(monkeypatch: pytest.MonkeyPatch, artifact_root: Path) -> None:
    monkeypatch.setitem(STAGES, counting_stage.NAME, counting_stage.stage())


@pytest.fixture
def rhea(client: Client) -> User:
    user = User.objects.create_user("rhea", role=Role.RESEARCHER)
    client.force_login(user)
    return user


@pytest.fixture
def image_set(artifact_root: Path, rhea: User) -> ImageSet:
    return ImageSet.objects.create(name="pets", digest=artifact(artifact_root, "image-set"), n_images=100)


@pytest.fixture
def vision_model(artifact_root: Path) -> VisionModel:
    return VisionModel.objects.create(
        name="small",
        digest=artifact(artifact_root, "vision-model"),
        architecture="vit_tiny_patch16_224",
        source="untrained",
        n_blocks=2,
        d_model=32,
        n_prefix_tokens=1,
        grid_height=4,
        grid_width=4,
    )


def artifact(root: Path, kind: str) -> str:
    with ArtifactStore(root).write(kind, config={"name": kind}) as writer:
        writer.write_json("about.json", kind)
    return writer.digest


def new_run(user: User | None, **config: object) -> Run:
    return create_run(stage="counting", config=config, user=user)


def text_of(client: Client, address: str, **query: str) -> str:
    response = client.get(address, query)
    assert response.status_code == 200
    return response.content.decode()


PAGES: list[Callable[[Run], str]] = [
    lambda run: reverse("runs"),
    lambda run: reverse("run-new"),
    lambda run: reverse("run", args=[run.pk]),
    lambda run: reverse("run-metrics", args=[run.pk]),
    lambda run: reverse("run-log", args=[run.pk]),
]


@pytest.mark.parametrize("page", PAGES)
def test_only_researchers_see_runs(client: Client, page: Callable[[Run], str]) -> None:
    address = page(new_run(None))
    assert client.get(address).status_code == 302
    for role, status in (
        (Role.ANNOTATOR, 403),
        (Role.REVIEWER, 403),
        (Role.RESEARCHER, 200),
        (Role.ADMINISTRATOR, 200),
    ):
        client.force_login(User.objects.create_user(role, role=role))
        assert client.get(address).status_code == status, role
    assert client.put(address).status_code == 405


@pytest.mark.parametrize("name", ["run-cancel", "run-retry"])
def test_only_researchers_act_on_runs(client: Client, name: str) -> None:
    run = new_run(None)
    address = reverse(name, args=[run.pk])
    assert client.post(address).status_code == 302
    client.force_login(User.objects.create_user("ada", role=Role.ANNOTATOR))
    assert client.post(address).status_code == 403
    client.force_login(User.objects.create_user("rhea", role=Role.RESEARCHER))
    assert client.get(address).status_code == 405
    assert client.post(reverse(name, args=[run.pk + 1])).status_code == 404
    run.refresh_from_db()
    assert run.state == Run.State.QUEUED


def test_a_run_that_is_not_there_is_404(client: Client, rhea: User) -> None:
    assert client.get(reverse("run", args=[1])).status_code == 404
    assert client.get(reverse("run-new"), {"stage": "fly"}).status_code == 404
    assert client.get(reverse("run-new"), {"stage": "freeze-stimuli"}).status_code == 404
    assert client.get(reverse("run-new"), {"clone": "5"}).status_code == 404


def test_an_empty_list_says_what_to_do(client: Client, rhea: User) -> None:
    assert "Start the first run" in text_of(client, reverse("runs"))


def test_the_list_filters_by_state_and_stage_from_the_address(client: Client, rhea: User) -> None:
    first, second = new_run(rhea, seed=1), new_run(rhea, seed=2)
    Run.objects.filter(pk=first.pk).update(state=Run.State.FAILED, title="the failed one")
    Run.objects.filter(pk=second.pk).update(title="the queued one")

    text = text_of(client, reverse("runs"), state="failed")
    assert "the failed one" in text
    assert "the queued one" not in text
    assert "No run is done at the stage counting" in text_of(client, reverse("runs"), state="done", stage="counting")


def test_the_list_is_paged_by_keyset(client: Client, rhea: User) -> None:
    Run.objects.bulk_create(Run(stage="counting", title=f"number {n:02}", queue="cpu") for n in range(35))

    newest = text_of(client, reverse("runs"))
    assert "number 34" in newest
    assert "number 04" not in newest
    last_shown = Run.objects.get(title="number 05").pk
    older = text_of(client, reverse("runs"), after=f"{last_shown}~{last_shown}")
    assert "number 04" in older
    assert "number 05" not in older
    assert "names a page that does not exist" in text_of(client, reverse("runs"), after="elephant")


def test_the_list_costs_the_same_number_of_queries_for_one_and_three_runs(
    client: Client, rhea: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for n_runs in (1, 3):
        while Run.objects.count() < n_runs:
            new_run(rhea, seed=Run.objects.count())
        # session, user, runs, counts; open remarks and reports in the header
        with django_assert_num_queries(6):
            client.get(reverse("runs"))


def test_the_page_shows_progress_chunks_measures_log_and_config(client: Client, rhea: User) -> None:
    run = planned(rhea)
    chunk = chunks.claim_chunk(queue="cpu", owner="host:1")
    assert chunk is not None
    report = chunks.Report(
        5, {("loss/blocks.0", 0): 2.0, ("loss/blocks.0", 1): 1.0}, ["a line"], "CPU, 1 thread", 2**30
    )
    chunks.report_chunk(chunk=chunk, report=report)

    text = text_of(client, reverse("run", args=[run.pk]))
    assert "5 of 20 steps" in text
    assert 'class="cell cell--running" title="chunk 0: running"' in text
    assert 'class="cell cell--waiting" title="chunk 1: waiting"' in text
    assert "0 of 2 chunks done; at work: host:1" in text
    assert "blocks.0: 1" in text
    assert "<polyline" in text
    assert "a line" in text
    assert "CPU, 1 thread" in text
    assert "at most 1.1 GB of memory" in text
    assert 'hx-trigger="every 2s"' in text


def planned(user: User) -> Run:
    run = new_run(user)
    chunk = chunks.claim_chunk(queue="cpu", owner="host:1")
    assert chunk is not None
    entries = [chunks.PlannedChunk(0, {}, 10, False)] * 2
    chunks.complete_plan(chunk=chunk, planned=entries, report=chunks.Report(0, {}, [], "", 0))
    return run


def test_a_finished_run_no_longer_polls_and_names_its_artefacts(client: Client, rhea: User) -> None:
    run = new_run(rhea)
    Run.objects.filter(pk=run.pk).update(state=Run.State.DONE, artifacts=["abcdef0123456789"])

    text = text_of(client, reverse("run", args=[run.pk]))
    assert "hx-trigger" not in text
    assert "abcdef012345" in text
    assert "Cancel" not in text


def test_a_failed_run_shows_the_sentence_the_traceback_and_retry(client: Client, rhea: User) -> None:
    run = new_run(rhea)
    Run.objects.filter(pk=run.pk).update(state=Run.State.FAILED, error="The disk is full.", traceback="File disk.py")

    text = text_of(client, reverse("run", args=[run.pk]))
    assert "The disk is full." in text
    assert "File disk.py" in text
    assert reverse("run-retry", args=[run.pk]) in text


def test_the_page_says_when_no_worker_serves_the_queue(client: Client, rhea: User) -> None:
    run = new_run(rhea)
    address = reverse("run", args=[run.pk])
    assert "./run worker cpu" in text_of(client, address)
    Worker.objects.create(name="host:1", queue="cpu", seen_at=timezone.now() - timedelta(seconds=5))
    assert "./run worker cpu" not in text_of(client, address)


def test_a_worker_with_a_chunk_in_hand_counts_as_seen(client: Client, rhea: User) -> None:
    run = planned(rhea)
    address = reverse("run", args=[run.pk])
    assert "./run worker cpu" in text_of(client, address)
    assert chunks.claim_chunk(queue="cpu", owner="host:1") is not None
    assert "./run worker cpu" not in text_of(client, address)


def test_the_measures_of_several_dictionaries_stand_side_by_side(
    client: Client, rhea: User, image_set: ImageSet, vision_model: VisionModel
) -> None:
    config = training(image_set, vision_model) | {"variants": ["k=4", "kind=batch_topk_sae name=batch"]}
    del config["title"]
    run = create_run(stage="train-dictionary", config=config, user=rhea)
    RunMetric.objects.bulk_create(
        RunMetric(run=run, name=f"loss/{number}/blocks.{block}", step=step, value=1 / (1 + step + number))
        for number in range(3) for block in range(2) for step in range(300)
    )  # fmt: skip
    text = text_of(client, reverse("run", args=[run.pk]))
    assert text.count("<polyline") == 6
    assert [text.count(f'title="{name}">{name}</figcaption>') for name in ("sae", "k=4", "batch")] == [1, 1, 1]
    assert text.count('<th scope="row" class="legend">') == 2
    assert "0.00333" in text  # 1 / 300
    assert "0.00331" in text  # 1 / 302


def test_metrics_and_log_can_be_downloaded(client: Client, rhea: User) -> None:
    run = new_run(rhea)
    RunMetric.objects.create(run=run, name="loss/blocks.0", step=3, value=0.5)
    run.log_lines.create(text="hello")

    metrics = b"".join(client.get(reverse("run-metrics", args=[run.pk])).streaming_content)  # type: ignore[attr-defined]
    assert metrics == b"name,step,value\r\nloss/blocks.0,3,0.5\r\n"
    log = b"".join(client.get(reverse("run-log", args=[run.pk])).streaming_content)  # type: ignore[attr-defined]
    assert log.endswith(b"hello\n")


def test_the_choice_of_stages_leaves_out_what_a_study_starts(client: Client, rhea: User) -> None:
    text = text_of(client, reverse("run-new"))
    assert "?stage=train-dictionary" in text
    assert "?stage=freeze-stimuli" not in text


def test_the_form_offers_the_hookpoints_of_the_chosen_model_and_the_estimate(
    client: Client, image_set: ImageSet, vision_model: VisionModel
) -> None:
    address = reverse("run-new")
    empty = text_of(client, address, stage="train-dictionary")
    assert "Choose a vision model first." in empty
    assert "appear here once every setting is filled in" in empty

    query = {"stage": "train-dictionary", "image_set": image_set.digest, "vision_model": vision_model.digest}
    filled = text_of(client, address, **query)
    assert 'value="blocks.1" id="setting-hookpoints_0_1" checked' in filled.replace('class="" ', "")
    assert "blocks.2" not in filled
    assert "About 38 s for 8,000,000 tokens, at 212,493 tokens per second, a guess" in filled


def training(image_set: ImageSet, vision_model: VisionModel, **changes: Any) -> dict[str, Any]:
    return {
        "image_set": image_set.digest,
        "vision_model": vision_model.digest,
        "hookpoints": ["blocks.0", "blocks.1"],
        "name": "sae",
        "n_latents": 64,
        "k": 8,
        "n_tokens": 1000,
        "batch_tokens": 128,
        "learning_rate": 0.001,
        "seed": 0,
        "title": "first try",
        **changes,
    }


def test_the_form_starts_a_run_and_wakes_the_workers(
    client: Client,
    rhea: User,
    image_set: ImageSet,
    vision_model: VisionModel,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    address = reverse("run-new") + "?stage=train-dictionary"
    with django_capture_on_commit_callbacks() as callbacks:
        response = client.post(address, training(image_set, vision_model))

    run = Run.objects.get()
    assert response.headers["Location"] == reverse("run", args=[run.pk])
    assert (run.title, run.created_by, run.parents) == ("first try", rhea, [image_set.digest, vision_model.digest])
    assert run.config["hookpoints"] == ["blocks.0", "blocks.1"]
    assert len(callbacks) == 1


def test_a_wrong_value_comes_back_as_a_sentence(client: Client, image_set: ImageSet, vision_model: VisionModel) -> None:
    address = reverse("run-new") + "?stage=train-dictionary"
    response = client.post(address, training(image_set, vision_model, k=100))

    sentence = "k is 100; it must lie between 1 and n_latents (64)."
    form = response.context["form"]
    assert form.non_field_errors() == [f"{form['k'].label}: {sentence}"]
    assert {name: list(said) for name, said in form.errors.items() if name != "__all__"} == {"k": [sentence]}
    assert sentence in response.content.decode().partition('id="part-k"')[2].partition('id="part-')[0]
    assert Run.objects.count() == 0


@pytest.mark.parametrize(
    ("variant", "sentence"), [("k=8 width=3", "is no setting of its own"), ("k=x", "must be a whole number")]
)
def test_what_is_wrong_with_a_further_dictionary_stands_beside_it(
    client: Client, image_set: ImageSet, vision_model: VisionModel, variant: str, sentence: str
) -> None:
    sent = training(image_set, vision_model, variants=variant)
    form = client.post(reverse("run-new") + "?stage=train-dictionary", sent).context["form"]

    assert list(form.errors) == ["variants", "__all__"]
    assert sentence in form.errors["variants"][0]


def test_a_missing_artefact_comes_back_as_a_sentence(
    client: Client, image_set: ImageSet, vision_model: VisionModel
) -> None:
    VisionModel.objects.update(digest="f" * 64)
    vision_model.refresh_from_db()
    response = client.post(reverse("run-new") + "?stage=train-dictionary", training(image_set, vision_model))

    assert "There is no artefact ffffffffffff" in response.content.decode()
    assert Run.objects.count() == 0


def test_a_broker_that_is_down_leaves_the_run_queued(
    client: Client,
    image_set: ImageSet,
    vision_model: VisionModel,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    from config import wakeup

    monkeypatch.setattr("django.conf.settings.BROKER_URL", "redis+socket:///nowhere/valkey.sock")
    wakeup.sender.cache_clear()
    with django_capture_on_commit_callbacks(execute=True):
        response = client.post(reverse("run-new") + "?stage=train-dictionary", training(image_set, vision_model))
    wakeup.sender.cache_clear()

    run = Run.objects.get()
    assert response.status_code == 302
    assert run.state == Run.State.QUEUED


def test_cancel_and_retry_lead_back_to_the_page(client: Client, rhea: User) -> None:
    run = new_run(rhea)
    page = client.post(reverse("run-cancel", args=[run.pk]), follow=True)
    assert "Retry" in page.content.decode()
    again = client.post(reverse("run-cancel", args=[run.pk]), follow=True)
    assert "is already cancelled; there is nothing to cancel." in again.content.decode()
    client.post(reverse("run-retry", args=[run.pk]))
    run.refresh_from_db()
    assert run.state == Run.State.QUEUED
    assert Chunk.objects.get(run=run).state == Chunk.State.WAITING


def test_a_clone_begins_with_the_config_of_its_origin(
    client: Client, rhea: User, image_set: ImageSet, vision_model: VisionModel
) -> None:
    config = {name: value for name, value in training(image_set, vision_model, k=5).items() if name != "title"}
    origin = create_run(stage="train-dictionary", config=config, user=rhea)

    text = text_of(client, reverse("run-new"), clone=str(origin.pk))
    assert 'name="k" value="5"' in text
    client.post(f"{reverse('run-new')}?clone={origin.pk}", training(image_set, vision_model, k=6))
    clone = Run.objects.order_by("-pk")[0]
    assert (clone.cloned_from, clone.config["k"]) == (origin, 6)


def test_a_training_of_several_dictionaries_is_started_from_the_form(
    client: Client, rhea: User, image_set: ImageSet, vision_model: VisionModel
) -> None:
    asked = training(image_set, vision_model, kind="batch_topk_sae", k_each="4, 8", has_aux="on", clip_norm="1.5")
    client.post(reverse("run-new") + "?stage=train-dictionary", asked | {"variants": "k=2\r\n\r\nn_latents=32 \r\n"})
    run = Run.objects.get()
    assert (run.config["kind"], run.config["k_each"], run.config["has_aux"]) == ("batch_topk_sae", [4, 8], True)
    assert (run.config["variants"], run.config["clip_norm"]) == (["k=2", "n_latents=32"], 1.5)
    assert (run.config["resample_dead"], run.config["precision"]) == (False, "float32")

    text = text_of(client, reverse("run-new"), clone=str(run.pk))
    assert '<details class="run-seldom" open>' in text
    assert 'name="k_each" value="4, 8"' in text
    assert "k=2\nn_latents=32</textarea>" in text
    assert "About " in text  # the clone's estimate


def test_a_training_without_a_name_is_called_by_its_kind(
    client: Client, rhea: User, image_set: ImageSet, vision_model: VisionModel
) -> None:
    address = reverse("run-new") + "?stage=train-dictionary"
    page = client.get(address).content.decode()
    assert '<details class="run-seldom">' in page  # nothing that is folded away is unusual
    assert '<details class="run-seldom" open>' in client.get(address + "&k_each=3").content.decode()
    usual = {"sparsity_weight": "0.0", "clip_norm": "0.0", "has_aux": "on", "precision": "float32"}
    wrong = training(image_set, vision_model, k=900) | usual | {"n_latents_each": "", "k_each": "", "activation": ""}
    page = client.post(address, wrong).content.decode()
    assert "k is 900" in page
    assert '<details class="run-seldom">' in page
    client.post(address, training(image_set, vision_model, name="", kind="relu_sae"))
    assert Run.objects.get().config["name"] == "relu-sae"


def test_presets_and_transcoders_tick_their_own_hookpoints(
    client: Client, rhea: User, image_set: ImageSet, vision_model: VisionModel
) -> None:
    def ticked(**query: str) -> list[str]:
        text = text_of(client, reverse("run-new"), stage="train-dictionary", vision_model=vision_model.digest, **query)
        return re.findall(r'name="hookpoints" value="([^"]+)"[^>]* checked', text)

    assert ticked() == ["blocks.0", "blocks.1"]
    assert ticked(kind="cross_layer_transcoder") == ["blocks.0.mlp.in", "blocks.1.mlp.in"]
    assert ticked(preset="rrm-vit-b16") == ["blocks.0", "blocks.1"]  # of its eleven those that the model has


def test_the_time_of_a_training_is_scaled_by_the_work_of_earlier_ones(
    client: Client, rhea: User, image_set: ImageSet, vision_model: VisionModel
) -> None:
    config = training(image_set, vision_model)
    del config["title"]
    first = create_run(stage="train-dictionary", config=config, user=rhea)
    assert "a guess for two CPU cores" in first.estimate["time"]["sentence"]
    Run.objects.filter(pk=first.pk).update(state=Run.State.DONE, n_units=1000, busy_seconds=10.0)
    same = create_run(stage="train-dictionary", config=config | {"n_tokens": 5000}, user=rhea)
    assert same.estimate["time"]["sentence"] == (
        "About 50 s for 5,000 tokens, at 100 tokens per second, measured in the last run of this stage here."
    )
    # per token 12 · 2 · 32² products of the model and 3 · 2 · 64 · 32 of the coders; those of the further one besides
    changes = {"n_tokens": 5000, "variants": ["n_latents=640"]}
    wider = create_run(stage="train-dictionary", config=config | changes, user=rhea)
    model, coders = 12 * 2 * 32**2, 3 * 2 * 64 * 32
    assert wider.estimate["time"]["value"] == pytest.approx(50 * (model + 11 * coders) / (model + coders))
    assert wider.estimate["disk"]["value"] == pytest.approx(11 * same.estimate["disk"]["value"])
