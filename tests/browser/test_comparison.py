"""The comparison of dictionaries in a real Chromium: WCAG 2.2 AA by axe, light and dark, and by the keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from annotation.models import Dictionary, Role
from tests.browser.conftest import LAPTOP
from tests.browser.player_page import sign_in
from tests.browser.test_accessibility import SCHEMES, violations
from tests.factories import make_dictionary, make_person
from tests.quality_factory import cross_layer_facts, make_alignment, make_evaluated

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


class Compared(NamedTuple):
    page: Page
    good: Dictionary
    poor: Dictionary
    across: Dictionary
    bare: Dictionary


@pytest.fixture(params=SCHEMES)
def compared(
    request: pytest.FixtureRequest,
    transactional_db: None,
    artifact_root: Path,
    chromium: Browser,
    live_server: object,
) -> Iterator[Compared]:
    good, poor = make_evaluated("good", 0.9), make_evaluated("poor", 0.5)
    across = make_evaluated("across", kind="cross_layer_transcoder", cross_layer=cross_layer_facts())
    make_alignment(good, poor)
    context = chromium.new_context(base_url=str(live_server), viewport=LAPTOP, color_scheme=request.param)
    context.set_default_timeout(15_000)
    sign_in(context, make_person("ruth", Role.RESEARCHER), str(live_server))
    yield Compared(context.new_page(), good, poor, across, make_dictionary("bare"))
    context.close()


def test_every_state_of_the_page_is_accessible(compared: Compared) -> None:
    page = compared.page
    chosen = "&".join(f"d={one.pk}" for one in compared[1:])
    wanted = {
        "/dictionaries/": "main form button",
        "/dictionaries/compare/": "details[open] input[type=checkbox]",
        f"/dictionaries/compare/?d={compared.bare.pk}": "main .empty",
        f"/dictionaries/compare/?{chosen}": "figure.heat-map",
        f"/dictionaries/{compared.across.pk}/": "figure.compare-plot",
    }
    for address, selector in wanted.items():
        page.goto(address)
        assert page.locator(selector).first.is_visible(), address
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        assert violations(page) == [], address


def test_dictionaries_are_chosen_and_sorted_by_the_keyboard(compared: Compared) -> None:
    page = compared.page
    page.goto("/dictionaries/")
    for name in ("good", "poor"):
        page.get_by_label(f"Compare {name}").focus()
        page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_url("**/dictionaries/compare/?d=*")
    names = page.locator(".figures tbody th")
    assert names.all_text_contents()[0].strip() == "good"
    page.get_by_role("link", name="Explained variance").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**sort=-explained")
    assert page.locator("th[aria-sort=descending]").text_content() == "Explained variance"
    page.get_by_role("link", name="Explained variance").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**sort=explained")
    assert names.all_text_contents()[0].strip() == "poor"
    region = page.get_by_role("region", name="Figures by hookpoint")
    region.focus()
    before = region.evaluate("one => one.scrollLeft")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("([one, before]) => one.scrollLeft > before", arg=[region.element_handle(), before])


def test_the_files_are_taken_away_by_a_click(compared: Compared) -> None:
    page = compared.page
    page.goto(f"/dictionaries/compare/?d={compared.good.pk}&d={compared.poor.pk}")
    for kind in ("CSV", "JSON"):
        with page.expect_download() as download:
            page.get_by_role("link", name=kind, exact=True).click()
        assert download.value.suggested_filename == f"dictionaries.{kind.lower()}"
