"""WCAG 2.2 AA as axe checks it, on every page an annotator meets, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone

from annotation.models import Participation, Study
from tests.browser.conftest import LAPTOP
from tests.browser.player_page import open_player, sign_in
from tests.factories import OpenStudy, make_annotator
from tests.protocol_studies import BUILDERS, make_protocol_study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
SCHEMES = ("light", "dark")


@pytest.fixture(params=SCHEMES)
def page(request: pytest.FixtureRequest, chromium: Browser, live_server: object) -> Iterator[Page]:
    context = chromium.new_context(base_url=str(live_server), viewport=LAPTOP, color_scheme=request.param)
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """Rule and elements of each violation."""
    found: list[dict[str, Any]] = Axe().run(page, options=RULES).response["violations"]
    return [(rule["id"], [node["html"][:160] for node in rule["nodes"]]) for rule in found]


def check(page: Page, address: str, wanted: str) -> None:
    page.goto(address)
    assert page.locator(wanted).first.is_visible(), f"{address} is not the page that was meant: {page.url}"
    assert violations(page) == [], address


def test_the_way_in(open_study: OpenStudy, page: Page) -> None:
    study = open_study.study
    check(page, "/login/", "input[name=password]")
    check(page, f"/join/{study.join_token}/", "form[method=post] button")
    page.click("main form button[type=submit]")
    assert violations(page) == [], "consent"
    page.check("[name=agree]")
    page.click("main form button[type=submit]")
    page.wait_for_url("**/guideline/")
    assert violations(page) == [], "guideline"
    page.click("main form button[type=submit]")
    page.wait_for_selector("body[data-shown]")
    assert violations(page) == [], "practice"
    check(page, "/studies/", "main")


@pytest.mark.parametrize("protocol", sorted(BUILDERS))
def test_the_board_of_every_protocol(
    protocol: str, transactional_db: None, artifact_root: Path, page: Page, live_server: object
) -> None:
    made = make_protocol_study(protocol, n_items=2)
    open_player(page, make_annotator(made.study), made.study, str(live_server))
    assert violations(page) == []


def test_the_dialogs(open_study: OpenStudy, page: Page, live_server: object) -> None:
    open_player(page, make_annotator(open_study.study), open_study.study, str(live_server))
    for key, dialog in (("?", "help"), ("s", "note"), ("z", "zoom")):
        page.keyboard.press("ArrowRight")
        page.keyboard.press(key)
        page.wait_for_selector(f"#{dialog}[open]")
        assert violations(page) == [], dialog
        page.keyboard.press("Escape")


def test_a_violation_is_found(page: Page) -> None:
    page.set_content("<html lang='en'><title>x</title><main><img src='x'><p style='color:#ccc'>pale</p></main></html>")
    assert {rule for rule, _ in violations(page)} == {"image-alt", "color-contrast"}


def test_the_ends(open_study: OpenStudy, page: Page, live_server: object) -> None:
    ada = make_annotator(open_study.study)
    sign_in(page.context, ada, str(live_server))
    work = f"/work/{open_study.study.slug}/"
    check(page, f"{work}mine/", "main h1")
    for state in (Study.State.PAUSED, Study.State.CLOSED):
        Study.objects.update(state=state)
        page.goto(work)
        page.wait_for_selector(f"body[data-state={state}]")
        assert violations(page) == [], state
    Study.objects.update(state=Study.State.OPEN)
    Participation.objects.filter(user=ada).update(screened_out_at=timezone.now())
    check(page, work, "main h1")
    check(page, "/nowhere/", "h1")
