"""What goes wrong while somebody answers: one clear sentence or nothing at all, and no answer lost or counted twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from annotation.models import Annotation, Category, Participation, Slot, Study
from tests.browser.player_page import answer, n_answers, open_player, shown, shown_item
from tests.factories import OpenStudy, make_annotator
from tests.protocol_studies import make_protocol_study
from tests.servers import poll

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

SAVED = "document.querySelector('[data-saved]').dataset.unsaved === '0'"


def kept(page: Page, n: int) -> None:
    """Wait until the page says that n answers are kept on this computer."""
    page.wait_for_function("n => document.querySelector('[data-saved]').dataset.unsaved === n", arg=str(n))


def test_enter_twice_at_once_sends_one_answer(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    ada = make_annotator(open_study.study)
    open_player(laptop, ada, open_study.study, str(live_server))
    first = shown(laptop)
    laptop.keyboard.press("4")
    laptop.keyboard.press("e")
    laptop.evaluate(
        """() => { for (const _ of [1, 2, 3]) document.body.dispatchEvent(
            new KeyboardEvent('keydown', {key: 'Enter', code: 'Enter', bubbles: true, cancelable: true})); }"""
    )
    laptop.wait_for_function("before => document.body.dataset.shown !== before", arg=first)
    laptop.wait_for_function(SAVED)
    assert (n_answers(), laptop.inner_text("[data-progress]")) == (1, "1 of 12")
    assert Participation.objects.get(user=ada).n_done == 1


def test_one_key_pressed_twice_at_once_answers_one_item(
    transactional_db: None, artifact_root: Path, laptop: Page, live_server: object
) -> None:
    made = make_protocol_study("pairwise", n_items=4)
    open_player(laptop, make_annotator(made.study), made.study, str(live_server))
    first = shown(laptop)
    laptop.evaluate(
        """() => { for (const _ of [1, 2]) document.body.dispatchEvent(
            new KeyboardEvent('keydown', {key: '1', code: 'Digit1', bubbles: true, cancelable: true})); }"""
    )
    laptop.wait_for_function("before => document.body.dataset.shown !== before", arg=first)
    laptop.wait_for_function(SAVED)
    assert (n_answers(), laptop.locator("[aria-checked=true]").count()) == (1, 0)


def test_two_tabs_on_one_study_lose_nothing_and_count_nothing_twice(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    ada = make_annotator(open_study.study)
    open_player(laptop, ada, open_study.study, str(live_server))
    other = laptop.context.new_page()
    open_player(other, ada, open_study.study, str(live_server))
    for _ in range(3):
        answer(laptop)
        answer(other, "1", "q")
    for page in (laptop, other):
        page.wait_for_function(SAVED)
    assert n_answers() == 6
    n_items = Annotation.objects.values("item").distinct().count()
    assert Annotation.objects.filter(is_late_extra=False, revision_of=None).count() == n_items
    assert Slot.objects.filter(state="done").count() == n_items
    assert Participation.objects.get(user=ada).n_done == n_items


def test_an_answer_whose_lease_ran_out_offline_is_kept_as_an_extra(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    laptop.wait_for_load_state("networkidle")
    first = shown_item(laptop, open_study.study)
    laptop.context.set_offline(True)
    answer(laptop)
    bob = make_annotator(open_study.study, "bob")
    long_ago = timezone.now() - timedelta(hours=1)
    given_on = Slot.objects.filter(item_id=first).update(annotator=bob, lease_until=long_ago)
    assert given_on == 1
    laptop.context.set_offline(False)
    laptop.wait_for_function(
        "document.querySelector('[data-toast]').textContent.startsWith('This one had been given on')"
    )
    stored = Annotation.objects.get()
    assert (stored.item_id, stored.is_late_extra) == (first, True)
    assert Slot.objects.get(item_id=first, state="leased").annotator == bob


def test_an_answer_given_after_a_pause_began_is_stored_and_the_pause_told(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    laptop.wait_for_load_state("networkidle")
    Study.objects.update(state=Study.State.PAUSED)
    n_given = 0
    while laptop.get_attribute("body", "data-state") == "showing" and n_given < 14:
        before = shown(laptop)
        for key in ("4", "r", "Enter"):
            laptop.keyboard.press(key)
        n_given += 1
        laptop.wait_for_function(
            "b => document.body.dataset.shown !== b || document.body.dataset.state !== 'showing'", arg=before
        )
    assert laptop.get_attribute("body", "data-state") == "paused"
    assert laptop.inner_text(".state[data-for=paused] h2") == "The study is paused"
    poll(lambda: n_answers() == n_given, "every answer stored")
    assert n_given >= 1


def test_an_answer_that_is_refused_is_kept_shown_and_can_be_sent_again(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    category = Category.objects.get(study=open_study.study, name="shape")
    category.delete()
    before = shown(laptop)
    for key in ("4", "e", "h", "Enter"):
        laptop.keyboard.press(key)
    laptop.wait_for_function("before => document.body.dataset.shown !== before", arg=before)
    laptop.wait_for_selector("[data-retry]:visible")
    assert laptop.inner_text("[data-saved]") == (
        "Not taken, but kept on this computer: 1. This study has no category 'shape'."
    )
    answer(laptop)
    poll(lambda: n_answers() == 1, "the next answer stored all the same")
    laptop.reload()
    laptop.wait_for_selector("[data-retry]:visible")
    Category.objects.create(study=open_study.study, name="shape", key="h")
    laptop.click("[data-retry]")
    poll(lambda: n_answers() == 2, "the refused answer stored")
    assert Annotation.objects.latest("id").category == "shape"
    laptop.wait_for_function(SAVED)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_an_hour_wrong_changes_nothing(
    open_study: OpenStudy, laptop: Page, live_server: object, hours: int
) -> None:
    laptop.clock.install(time=datetime.now(UTC) + timedelta(hours=hours))
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    answer(laptop)
    answer(laptop)
    poll(lambda: n_answers() == 2, "both answers stored")
    stored = Annotation.objects.earliest("id")
    assert abs((stored.submitted_at - stored.received_at).total_seconds() - 3600 * hours) < 120
    assert abs((timezone.now() - stored.received_at).total_seconds()) < 120
    assert stored.visible_ms is not None
    assert stored.visible_ms < 60_000
    assert (stored.is_late_extra, Slot.objects.filter(state="done").count()) == (False, 2)


TROUBLES = (
    (500, "text/html", "<h1>Sorry</h1>"),
    (503, "application/json", '{"error": "The database is away."}'),
    (507, "application/json", '{"error": "The disk is full."}'),
)


def test_a_server_that_is_down_or_full_costs_no_answer(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    """500 with a page, 503 while the database is away, 507 while the disk is full: kept, told once, sent again."""
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    laptop.wait_for_load_state("networkidle")
    troubles = iter(TROUBLES)
    seen: list[int] = []

    def trouble(route: Route) -> None:
        status, kind, body = next(troubles, (0, "", ""))
        if not status:
            return route.continue_()
        seen.append(status)
        return route.fulfill(status=status, content_type=kind, body=body)

    laptop.route("**/answers", trouble)
    answer(laptop)
    laptop.wait_for_selector("[data-retry]:visible")
    assert laptop.inner_text("[data-saved]") == "No connection. Kept on this computer: 1"
    answer(laptop)
    kept(laptop, 2)
    laptop.wait_for_selector("[data-saved]:has-text('The disk is full.')")
    assert laptop.inner_text("[data-saved]") == "Not saved yet, but kept on this computer: 2. The disk is full."
    laptop.click("[data-retry]")
    laptop.wait_for_function(SAVED)
    assert (n_answers(), seen) == (2, [500, 503, 507])
    assert Annotation.objects.filter(is_late_extra=False).values("item").distinct().count() == 2


def test_a_dead_server_of_thirty_seconds_is_outlasted_without_a_touch(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    laptop.clock.install()
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    laptop.wait_for_load_state("networkidle")
    laptop.route("**/answers", lambda route: route.abort())
    answer(laptop)
    kept(laptop, 1)
    laptop.clock.run_for(30_000)
    kept(laptop, 1)
    assert n_answers() == 0
    laptop.unroute("**/answers")
    laptop.clock.run_for(45_000)
    poll(lambda: n_answers() == 1, "the answer stored by itself")
