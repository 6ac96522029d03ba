"""The player in a real browser: by keyboard alone, through a lost connection and a closed browser."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from annotation.models import Annotation, ImageReport, Participation, PracticeAnswer, Remark, Slot, Study, Term
from tests.browser.player_page import answer, n_answers, open_player, shown, shown_item, sign_in
from tests.factories import OpenStudy, make_annotator
from tests.servers import poll

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

PLAYER = Path(__file__).resolve().parents[2] / "annotation/static/annotation/player"
BUDGET = 40_000
PICTURES_OF_TEN = """() => performance.getEntriesByType("resource")
    .filter(({name}) => name.includes("/stimuli/") && !name.includes(".zoom.")).length >= 10"""


def test_ten_answers_by_keyboard_survive_a_cut_network_and_a_closed_browser(
    open_study: OpenStudy, persistent_browser: Callable[[], BrowserContext], live_server: object
) -> None:
    ada = make_annotator(open_study.study)
    context = persistent_browser()
    page = context.new_page()
    open_player(page, ada, open_study.study, str(live_server))
    for _ in range(6):
        answer(page, label="disc")
    poll(lambda: n_answers() == 6, "six answers stored")
    page.wait_for_function(PICTURES_OF_TEN)
    context.set_offline(True)
    for _ in range(3):
        answer(page)
    page.keyboard.press("1")
    page.keyboard.press("q")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('[data-saved]').dataset.unsaved === '4'")
    assert "Kept on this computer: 4" in page.inner_text("[data-saved]")
    assert n_answers() == 6
    context.close()

    context = persistent_browser()
    page = context.new_page()
    page.goto(f"/work/{open_study.study.slug}/")
    poll(lambda: n_answers() == 10, "ten answers stored")
    page.wait_for_function("document.querySelector('[data-saved]').dataset.unsaved === '0'")
    page.wait_for_selector("body[data-shown]")
    assert page.inner_text("[data-progress]") == "10 of 12"
    assert Annotation.objects.values("item").distinct().count() == 10
    assert list(Annotation.objects.values_list("is_late_extra", flat=True).distinct()) == [False]
    assert Participation.objects.get(user=ada).n_done == 10
    assert Slot.objects.filter(state="done").count() == 10


def test_an_answer_says_what_was_given_and_how_it_was_looked_at(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    Term.objects.create(study=open_study.study, text="curved edge", n_uses=3)
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    laptop.keyboard.press("Space")
    laptop.keyboard.press("Space")
    laptop.hover('[data-cell="images/2"]')
    laptop.keyboard.press("z")
    assert laptop.evaluate("document.querySelector('#zoom').open") is True
    laptop.keyboard.press("z")
    laptop.keyboard.press("Shift+Digit2")
    laptop.keyboard.press("0")
    laptop.keyboard.press("l")
    laptop.keyboard.press("/")
    laptop.keyboard.type("curv")
    laptop.wait_for_selector("#terms [role=option]")
    laptop.keyboard.press("Tab")
    laptop.keyboard.press("Enter")
    poll(lambda: n_answers() == 1, "the answer stored")
    stored = Annotation.objects.get()
    assert stored.payload == {"patch_rating": None, "image_rating": 2, "category": "colour", "label": "curved edge"}
    assert (stored.timing["overlay_toggles"], stored.timing["zooms"]) == (2, 1)
    assert stored.timing["changes"] == 3
    assert stored.timing["first_key_at"] >= stored.timing["shown_at"]
    assert stored.visible_ms is not None
    assert 0 < stored.visible_ms < 60_000
    answer(laptop)
    poll(lambda: n_answers() == 2, "the second answer stored")
    assert 0 <= Annotation.objects.latest("id").timing["next_shown_ms"] < 5_000


def test_letters_do_nothing_while_somebody_types(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    laptop.keyboard.press("/")
    laptop.keyboard.type("soft quilt 34?")
    assert laptop.input_value("[name=label]") == "soft quilt 34?"
    assert laptop.locator("[role=radio][aria-checked=true]").count() == 0
    laptop.keyboard.press("Escape")
    laptop.keyboard.press("3")
    assert laptop.locator("[data-question=patch_rating] [aria-checked=true]").inner_text().startswith("mostly")


def test_an_answer_without_both_ratings_is_not_sent(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    first = shown(laptop)
    laptop.keyboard.press("4")
    laptop.keyboard.press("Enter")
    assert laptop.inner_text("[data-toast]") == "Still open: Do the images?"
    assert (shown(laptop), n_answers()) == (first, 0)


def test_backspace_goes_back_and_a_changed_answer_is_a_revision(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    first, item = shown(laptop), shown_item(laptop, open_study.study)
    answer(laptop, "1", "q")
    answer(laptop, "2", "w")
    third = shown(laptop)
    laptop.keyboard.press("3")
    for _ in range(2):
        before = shown(laptop)
        laptop.keyboard.press("Backspace")
        laptop.wait_for_function("before => document.body.dataset.shown !== before", arg=before)
    assert shown(laptop) == first
    assert laptop.locator("[data-question=patch_rating] [aria-checked=true]").inner_text().startswith("no")
    answer(laptop, "4", "r")
    laptop.keyboard.press("Enter")
    laptop.wait_for_function("third => document.body.dataset.shown === third", arg=third)
    assert laptop.locator("[data-question=patch_rating] [aria-checked=true]").inner_text().startswith("mostly")
    poll(lambda: n_answers() == 3, "two answers and a revision")
    revision = Annotation.objects.get(revision_of__isnull=False)
    assert (revision.item_id, revision.patch_rating, revision.image_rating) == (item, 4, 4)
    assert Annotation.objects.filter(is_current=True).count() == 2


def test_an_answer_can_be_changed_after_the_page_was_closed(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    first = shown(laptop)
    answer(laptop, "1", "q")
    poll(lambda: n_answers() == 1, "the answer stored")
    laptop.reload()
    laptop.wait_for_selector("body[data-shown]")
    laptop.keyboard.press("Backspace")
    laptop.wait_for_function("first => document.body.dataset.shown === first", arg=first)
    answer(laptop, "3", "e")
    poll(lambda: n_answers() == 2, "the revision stored")
    assert Annotation.objects.get(is_current=True).patch_rating == 3


def test_skip_flag_comment_and_report(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    ada = make_annotator(open_study.study)
    open_player(laptop, ada, open_study.study, str(live_server))
    first = shown(laptop)
    laptop.keyboard.press("f")
    laptop.keyboard.press("c")
    laptop.keyboard.type("two shapes")
    laptop.keyboard.press("Enter")
    laptop.hover('[data-cell="images/3"]')
    laptop.keyboard.press("i")
    laptop.keyboard.press("3")
    laptop.wait_for_function("!document.querySelector('#note').open")
    laptop.keyboard.press("s")
    laptop.locator("#note [type=submit]").click()  # without a reason: it is asked for
    assert laptop.evaluate("document.activeElement === document.querySelector('#note-text:invalid')")
    laptop.locator("[data-reasons] button").first.focus()
    laptop.keyboard.press("2")
    laptop.wait_for_function("first => document.body.dataset.shown !== first", arg=first)
    poll(lambda: Remark.objects.count() == 3, "three remarks stored")
    assert list(Remark.objects.order_by("id").values_list("kind", "text")) == [
        ("flag", ""), ("comment", "two shapes"), ("skip", "Disturbing or private"),
    ]  # fmt: skip
    assert ImageReport.objects.get().reason == "Broken"
    assert ImageReport.objects.get().image.index == 3
    assert Participation.objects.get(user=ada).n_skipped == 1


def test_practice_gives_feedback_and_then_the_work_begins(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    newcomer = make_annotator(open_study.study, "newcomer", is_ready=False)
    sign_in(laptop.context, newcomer, str(live_server))
    laptop.goto(f"/work/{open_study.study.slug}/")
    laptop.check("[name=agree]")
    laptop.click("text=Go on")
    assert laptop.inner_text(".prose h2") == "What to do"
    laptop.click("text=I have read it")
    laptop.wait_for_selector("body[data-shown]")
    laptop.keyboard.press("1")
    laptop.keyboard.press("q")
    laptop.keyboard.press("l")
    laptop.keyboard.press("Enter")
    laptop.wait_for_selector("body[data-state=feedback]")
    assert laptop.inner_text("#feedback h2") == "We see it differently"
    assert laptop.locator("#feedback li").all_inner_texts() == [
        "✗Do the patches share something you could name? no — expected mostly or clearly",
        "✓What kind of thing is it? colour — right",
    ]  # fmt: skip
    assert laptop.inner_text("[data-reason]") == "All of them are discs of one color."
    laptop.reload()
    laptop.wait_for_selector("body[data-state=showing]")
    assert laptop.inner_text("[data-progress]") == "1 of 2"
    for key in ("4", "q", "l", "Enter"):
        laptop.keyboard.press(key)
    laptop.wait_for_selector("body[data-state=feedback]")
    assert laptop.inner_text("#feedback h2") == "That is what we see too"
    laptop.keyboard.press("Enter")
    laptop.wait_for_selector("body[data-state=finished]")
    laptop.click("text=Begin")
    laptop.wait_for_selector("body[data-mode=work][data-shown]")
    assert list(PracticeAnswer.objects.order_by("id").values_list("is_right", flat=True)) == [False, True]
    assert n_answers() == 0


def test_a_session_ends_with_a_rest_and_the_study_with_thanks(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    for _ in range(11):
        answer(laptop)
    for key in ("4", "r", "Enter"):
        laptop.keyboard.press(key)
    laptop.wait_for_selector("body[data-state=rest]")
    assert laptop.inner_text("[data-progress]") == "12 of 12"
    before = shown(laptop)
    laptop.keyboard.press("Enter")
    laptop.wait_for_function("before => document.body.dataset.shown !== before", arg=before)
    answer(laptop)
    for key in ("4", "r", "Enter"):
        laptop.keyboard.press(key)
    laptop.wait_for_selector("body[data-state=empty]")
    poll(lambda: n_answers() == 14, "all answers stored")


def test_a_pause_is_told_and_the_work_goes_on_after_it(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    Study.objects.update(state=Study.State.PAUSED)
    sign_in(laptop.context, make_annotator(open_study.study), str(live_server))
    laptop.goto(f"/work/{open_study.study.slug}/")
    laptop.wait_for_selector("body[data-state=paused]")
    Study.objects.update(state=Study.State.OPEN)
    laptop.evaluate("document.querySelector('.state[data-for=waiting] [data-action=again]').click()")
    laptop.wait_for_selector("body[data-state=showing]")


def test_without_a_connection_it_waits_and_goes_on_when_it_is_back(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    laptop.wait_for_load_state("networkidle")
    laptop.context.set_offline(True)
    n_given = 0
    while laptop.get_attribute("body", "data-state") == "showing":
        before = shown(laptop)
        for key in ("4", "r", "Enter"):
            laptop.keyboard.press(key)
        laptop.wait_for_function(
            "b => document.body.dataset.shown !== b || document.body.dataset.state === 'waiting'", arg=before
        )
        n_given += 1
    assert n_given == 5
    assert laptop.is_visible(".state[data-for=waiting]")
    laptop.context.set_offline(False)
    laptop.wait_for_selector("body[data-state=showing]")
    poll(lambda: n_answers() == n_given, "every answer stored")


def test_signed_out_keeps_the_answer_and_says_so(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    ada = make_annotator(open_study.study)
    open_player(laptop, ada, open_study.study, str(live_server))
    laptop.wait_for_load_state("networkidle")
    laptop.context.clear_cookies(name="sessionid")
    answer(laptop)
    laptop.wait_for_selector("[data-signin]:visible")
    assert "Signed out. Kept on this computer: 1" in laptop.inner_text("[data-saved]")
    sign_in(laptop.context, ada, str(live_server))
    poll(lambda: n_answers() == 1, "the answer stored after signing in again")


def test_nothing_scrolls_on_a_small_laptop(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    sizes = laptop.evaluate(
        """() => [document.documentElement, document.querySelector('#answer')]
            .map(e => [e.scrollHeight - e.clientHeight, e.scrollWidth - e.clientWidth])"""
    )
    assert sizes == [[0, 0], [0, 0]]
    boxes = laptop.locator(".cell, #answer button").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect()).map(r => [r.right <= innerWidth, r.bottom <= innerHeight - 40])"
    )
    assert len(boxes) > 40
    assert all(right and bottom for right, bottom in boxes)


def test_targets_are_large_enough_to_hit(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    sides = laptop.locator("button:visible, a:visible").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect()).map(r => Math.min(r.width, r.height))"
    )
    assert min(sides) >= 24


def test_help_lists_every_key_of_the_one_table(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    config = laptop.evaluate("JSON.parse(document.querySelector('#player-config').textContent)")
    laptop.keyboard.press("?")
    laptop.wait_for_selector("#help[open]")
    hints = laptop.locator("#help dt kbd").all_inner_texts()
    assert sorted(hints) == sorted(row["hint"] for row in config["keys"] if row["help"])
    laptop.keyboard.press("Escape")
    laptop.wait_for_selector("#help", state="hidden")


def test_every_button_shows_the_key_of_the_table(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    wrong = laptop.evaluate(
        """() => {
          const {keys} = JSON.parse(document.querySelector('#player-config').textContent);
          return [...document.querySelectorAll('#answer [data-action]')].filter(button => {
            const {action, value} = button.dataset;
            const question = button.closest('[data-question]')?.dataset.question ?? "";
            const row = keys.find(k => k.action === action && k.question === question
              && (value === undefined || JSON.stringify(k.value) === value));
            return row?.hint !== button.querySelector('kbd').textContent;
          }).map(button => button.outerHTML);
        }"""
    )
    assert wrong == []


def test_the_script_keeps_to_its_budget() -> None:
    files = [*PLAYER.glob("*.js"), PLAYER.parent / "heatmap.js"]
    assert len(files) > 10
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) <= BUDGET
