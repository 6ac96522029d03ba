"""Somebody without a password in a real browser: a lost session, a second browser, answers on their way meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annotation.models import Annotation, Participation, Study, User
from tests.browser.conftest import LAPTOP
from tests.browser.player_page import answer, n_answers, open_player
from tests.browser.test_accessibility import violations
from tests.factories import OpenStudy, make_annotator
from tests.servers import poll

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def without_password(study: Study) -> User:
    ada = make_annotator(study)
    ada.set_unusable_password()
    ada.save(update_fields=["password"])
    return ada


def kept_link(page: Page) -> str:
    """The link as the player's help shows it."""
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    link = page.input_value("#help #own-link")
    page.keyboard.press("Escape")
    return link


def come_back(page: Page, link: str) -> None:
    page.goto(link)
    page.click("main form button[type=submit]")
    page.wait_for_selector("body[data-shown]")


def test_a_second_browser_goes_on_and_the_first_still_delivers(
    open_study: OpenStudy, laptop: Page, chromium: Browser, live_server: object
) -> None:
    ada = without_password(open_study.study)
    open_player(laptop, ada, open_study.study, str(live_server))
    laptop.wait_for_load_state("networkidle")
    link = kept_link(laptop)
    laptop.context.set_offline(True)
    answer(laptop)
    assert n_answers() == 0
    elsewhere = chromium.new_context(base_url=str(live_server), viewport=LAPTOP)
    elsewhere.set_default_timeout(15_000)
    other = elsewhere.new_page()
    come_back(other, link)
    answer(other)
    poll(lambda: n_answers() == 1, "the answer of the second browser stored")
    laptop.context.set_offline(False)
    poll(lambda: n_answers() == 2, "the answer kept in the first browser stored")
    elsewhere.close()
    assert set(Annotation.objects.values_list("annotator", flat=True)) == {ada.pk}
    assert Participation.objects.filter(study=open_study.study, role="annotator").count() == 1


def test_a_lost_session_is_had_back_from_the_player_itself(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    open_player(laptop, without_password(open_study.study), open_study.study, str(live_server))
    laptop.wait_for_load_state("networkidle")
    laptop.context.clear_cookies()
    answer(laptop)
    with laptop.context.expect_page() as opened:
        laptop.click("[data-signin]")
    back = opened.value
    assert "Welcome back" in back.inner_text("h1")
    assert violations(back) == []
    back.click("main form button[type=submit]")
    poll(lambda: n_answers() == 1, "the answer stored after coming back")


def test_the_link_is_copied(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    laptop.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=str(live_server))
    open_player(laptop, without_password(open_study.study), open_study.study, str(live_server))
    laptop.goto(f"/work/{open_study.study.slug}/mine/")
    assert violations(laptop) == []
    laptop.click("[data-copy-text]")
    laptop.wait_for_selector("[data-copy-text]:has-text('Copied')")
    assert laptop.evaluate("navigator.clipboard.readText()") == laptop.input_value("#own-link")
