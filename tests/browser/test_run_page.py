"""The pages of runs in a real Chromium: the estimate follows the form, the live page follows the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.test import Client

from annotation.domain import chunks
from annotation.domain.runs import create_run
from annotation.models import ImageSet, Role, Run, User, VisionModel
from tests.workers import counting_stage
from workers.artifacts import ArtifactStore
from workers.stages.configs import STAGES

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def stage(monkeypatch: pytest.MonkeyPatch, artifact_root: Path) -> None:
    monkeypatch.setitem(STAGES, counting_stage.NAME, counting_stage.stage())


@pytest.fixture
def signed_in(browser_context: BrowserContext, page: Page) -> Page:
    client = Client()
    client.force_login(User.objects.create_user("rita", role=Role.RESEARCHER))
    page.goto("/")
    browser_context.add_cookies(
        [{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": page.url.rstrip("/")}]
    )
    return page


def test_the_live_page_follows_the_run_without_a_reload(signed_in: Page) -> None:
    run = create_run(stage="counting", config={}, user=None)
    signed_in.goto(f"/runs/{run.pk}/")
    signed_in.get_by_text("not planned yet").wait_for()
    signed_in.evaluate("window.isTheSamePage = true")

    plan = chunks.claim_chunk(queue="cpu", owner="host:1")
    assert plan is not None
    entries = [chunks.PlannedChunk(0, {}, 10, False)] * 4
    chunks.complete_plan(chunk=plan, planned=entries, report=chunks.Report(0, {}, [], "", 0))
    work = chunks.claim_chunk(queue="cpu", owner="host:1")
    assert work is not None
    metrics = {("loss/blocks.0", step): 1 / (step + 1) for step in range(5)}
    chunks.complete_work(chunk=work, publish=lambda: None, report=chunks.Report(10, metrics, ["first done"], "CPU", 9))

    signed_in.get_by_text("10 of 40 steps").wait_for()
    signed_in.get_by_text("1 of 4 chunks done").wait_for()
    assert signed_in.locator(".cell--done").count() == 1
    assert signed_in.locator("polyline.line").count() == 1
    assert signed_in.locator(".log").inner_text().endswith("first done")
    assert signed_in.evaluate("window.isTheSamePage") is True

    signed_in.get_by_role("button", name="Cancel").click()
    signed_in.get_by_role("button", name="Retry").wait_for()
    run.refresh_from_db()
    assert run.state == Run.State.CANCELLED


def test_the_form_follows_the_chosen_model_and_shows_what_the_run_costs(signed_in: Page, artifact_root: Path) -> None:
    store = ArtifactStore(artifact_root)
    digests = []
    for kind in ("image-set", "vision-model"):
        with store.write(kind, config={}) as writer:
            writer.write_json("about.json", kind)
        digests.append(writer.digest)
    ImageSet.objects.create(name="pets", digest=digests[0], n_images=100)
    VisionModel.objects.create(
        name="small", digest=digests[1], architecture="vit", source="untrained", n_blocks=3, d_model=32,
        n_prefix_tokens=1, grid_height=4, grid_width=4,
    )  # fmt: skip
    signed_in.goto("/runs/new/?stage=train-dictionary")
    signed_in.get_by_text("appear here once every setting is filled in").wait_for()

    signed_in.get_by_label("Image set").select_option(label="pets (100 images)")
    signed_in.get_by_label("Vision model").select_option(label="small (vit)")
    signed_in.get_by_label("blocks.2", exact=True).wait_for()
    signed_in.get_by_text("More settings").click()
    signed_in.get_by_label("blocks.1", exact=True).uncheck()
    signed_in.get_by_label("Kind").select_option("jumprelu_sae")
    signed_in.get_by_label("Sparsity weight").fill("0.5")  # what was unfolded stays so
    signed_in.get_by_label("Kind").select_option("transcoder")
    signed_in.get_by_label("Activation").wait_for()
    assert signed_in.get_by_label("Sparsity weight").count() == 0
    assert signed_in.get_by_label("blocks.1.mlp.in", exact=True).is_checked() is False
    signed_in.get_by_label("Kind").select_option("jumprelu_sae")
    signed_in.get_by_label("Sparsity weight").wait_for()
    assert signed_in.get_by_label("Sparsity weight").input_value() == "0.5"
    assert signed_in.get_by_label("L0 aimed at").count() + signed_in.get_by_label("L0 at the start").count() == 1
    signed_in.get_by_label("Kind").select_option("topk_sae")
    signed_in.get_by_label("k", exact=True).wait_for()
    signed_in.get_by_label("Tokens").fill("2000000")
    signed_in.get_by_text("About 10 s for 2,000,000 tokens").wait_for()

    signed_in.get_by_role("button", name="Start the run").click()
    signed_in.wait_for_url("**/runs/*/")
    run = Run.objects.get()
    assert run.config["n_tokens"] == 2_000_000
    assert run.config["hookpoints"] == ["blocks.0", "blocks.2"]
