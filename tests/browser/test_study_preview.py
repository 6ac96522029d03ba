"""A draft previewed as an annotator: the player over pictures that are not frozen yet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from annotation.models import Annotation, PracticeAnswer
from tests.annotation.launchable_study import make_launchable
from tests.browser.player_page import sign_in

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_draft_is_previewed_with_feedback_and_nothing_is_stored(
    transactional_db: None, artifact_root: Path, tmp_path: Path, laptop: Page, live_server: object
) -> None:
    here = make_launchable(tmp_path)
    sign_in(laptop.context, here.researcher, str(live_server))
    laptop.goto(f"/studies/{here.study.slug}/preview/")
    laptop.wait_for_selector("body[data-shown]")
    painted = laptop.locator(".cell canvas").evaluate_all(
        "all => all.map(c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size > 8)"
    )
    assert (len(painted), set(painted)) == (32, {True})
    for key in ("1", "q", "Enter"):
        laptop.keyboard.press(key)
    laptop.wait_for_selector("body[data-state=feedback]")
    assert (
        laptop.inner_text("#feedback li")
        == "✗Do the patches share something you could name? no — expected mostly or clearly"
    )
    assert laptop.inner_text("[data-progress]") == "1 of 12"
    assert (Annotation.objects.count(), PracticeAnswer.objects.count()) == (0, 0)
