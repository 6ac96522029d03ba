"""Choosing among pictures, marking patches, one key that answers and goes on, and keys of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from annotation.models import Annotation, Category, Item, Study, User
from tests.browser.player_page import answer, n_answers, open_player, shown, shown_item, sign_in
from tests.factories import OpenStudy, make_annotator
from tests.protocol_studies import ProtocolStudy, make_protocol_study
from tests.servers import poll

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page


@pytest.fixture
def opened(
    transactional_db: None, artifact_root: Path, laptop: Page, live_server: object
) -> Callable[..., ProtocolStudy]:
    """Opens the player on a new study of a protocol."""

    def open_it(protocol: str, **values: object) -> ProtocolStudy:
        made = make_protocol_study(protocol, **{"n_items": 4, **values})  # type: ignore[arg-type]
        open_player(laptop, make_annotator(made.study), made.study, str(live_server))
        return made

    return open_it


def wait_for_next(page: Page, before: str | None) -> None:
    page.wait_for_function("before => document.body.dataset.shown !== before", arg=before)


def test_a_click_on_a_picture_answers_and_goes_on(opened: Callable[..., ProtocolStudy], laptop: Page) -> None:
    made = opened("intruder")
    first, item = shown(laptop), shown_item(laptop, made.study)
    laptop.click('[data-cell="candidates/3"]')
    wait_for_next(laptop, first)
    poll(lambda: n_answers() == 1, "the answer stored")
    assert (Annotation.objects.get().item_id, Annotation.objects.get().payload) == (item, {"intruder": 3})


def test_a_double_click_enlarges_and_answers_nothing(opened: Callable[..., ProtocolStudy], laptop: Page) -> None:
    opened("intruder")
    first = shown(laptop)
    laptop.dblclick('[data-cell="candidates/1"]')
    laptop.wait_for_selector("#zoom[open]")
    assert laptop.inner_text("#zoom [data-caption]") == "Image 2 of 5, chosen"
    laptop.click("#zoom [data-action=zoom-on]")
    assert laptop.inner_text("#zoom [data-caption]") == "Image 3 of 5"
    laptop.keyboard.press("Escape")
    laptop.wait_for_selector("#zoom", state="hidden")
    laptop.keyboard.press("1")
    wait_for_next(laptop, first)
    poll(lambda: n_answers() == 1, "the answer stored")
    assert Annotation.objects.get().payload == {"intruder": 0}


def test_one_key_answers_and_backspace_goes_back_to_change_it(
    opened: Callable[..., ProtocolStudy], laptop: Page
) -> None:
    opened("pairwise")
    first = shown(laptop)
    laptop.keyboard.press("1")
    wait_for_next(laptop, first)
    second = shown(laptop)
    laptop.keyboard.press("Backspace")
    wait_for_next(laptop, second)
    assert laptop.locator("[data-question=easier] [aria-checked=true]").inner_text().startswith("the left")
    laptop.keyboard.press("0")
    wait_for_next(laptop, first)
    poll(lambda: n_answers() == 2, "the answer and its revision")
    assert Annotation.objects.get(is_current=True).payload == {"easier": "tie"}


def test_going_on_at_once_can_be_switched_off_and_stays_so(opened: Callable[..., ProtocolStudy], laptop: Page) -> None:
    opened("pairwise")
    laptop.keyboard.press("?")
    laptop.uncheck("#at-once")
    laptop.keyboard.press("Escape")
    laptop.reload()
    laptop.wait_for_selector("body[data-shown]")
    first = shown(laptop)
    laptop.keyboard.press("1")
    laptop.keyboard.press("2")
    assert shown(laptop) == first
    laptop.keyboard.press("Enter")
    wait_for_next(laptop, first)
    poll(lambda: n_answers() == 1, "the answer stored")
    assert Annotation.objects.get().payload == {"easier": "right"}


def test_an_answer_before_the_least_time_is_not_taken(opened: Callable[..., ProtocolStudy], laptop: Page) -> None:
    opened("pairwise", min_viewing_ms=1_500)
    first = shown(laptop)
    laptop.keyboard.press("1")
    assert laptop.inner_text("[data-toast]") == "Look a little longer first."
    assert laptop.locator("[aria-checked=true]").count() == 0

    def answered() -> bool:
        laptop.keyboard.press("2")
        return shown(laptop) != first

    poll(answered, "an answer taken after the least time")
    poll(lambda: n_answers() >= 1, "the answer stored")
    stored = Annotation.objects.earliest("id")
    assert stored.visible_ms is not None
    assert stored.visible_ms >= 1_400


def test_patches_are_marked_by_dragging_by_keys_and_taken_back(
    opened: Callable[..., ProtocolStudy], laptop: Page
) -> None:
    opened("patch-marking")
    box = laptop.locator('[data-cell="queries/1"] canvas').bounding_box()
    assert box is not None
    patch = box["width"] / 8
    laptop.mouse.move(box["x"] + 2.5 * patch, box["y"] + 1.5 * patch)
    laptop.mouse.down()
    laptop.mouse.move(box["x"] + 4.5 * patch, box["y"] + 1.5 * patch, steps=12)
    laptop.mouse.up()
    assert laptop.inner_text("[data-count]") == "3"
    laptop.mouse.click(box["x"] + 3.5 * patch, box["y"] + 1.5 * patch)
    assert laptop.inner_text("[data-count]") == "2"
    laptop.locator('[data-cell="queries/0"] canvas').focus()
    for key in ("ArrowUp", "ArrowLeft", "m"):
        laptop.keyboard.press(key)
    assert laptop.get_attribute('[data-cell="queries/0"] canvas', "aria-label") == (
        "Image 1 of 4, row 4, column 4, marked"
    )
    laptop.keyboard.press("Enter")
    poll(lambda: n_answers() == 1, "the answer stored")
    assert Annotation.objects.get().payload == {"marks": [[0, 27], [1, 10], [1, 12]]}


def test_arrows_walk_over_all_panels_as_they_stand(opened: Callable[..., ProtocolStudy], laptop: Page) -> None:
    opened("two-alternative", options={"variants": ["easy"]})
    walked = []
    for key in ("ArrowRight", *["ArrowRight"] * 6, "ArrowDown"):
        laptop.keyboard.press(key)
        walked.append(laptop.evaluate("document.activeElement.parentElement.dataset.cell"))
    assert walked[:4] == ["reference/0", "reference/1", "reference/2", "queries/0"]
    assert walked[4:7] == ["contrast/0", "contrast/1", "contrast/2"]
    assert walked[7] == "contrast/5"


def test_categories_under_the_chosen_one_are_offered_with_their_keys(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    shape = Category.objects.get(study=open_study.study, name="shape")
    Category.objects.create(study=open_study.study, name="round", key="n", parent=shape, position=9)
    open_player(laptop, make_annotator(open_study.study), open_study.study, str(live_server))
    laptop.keyboard.press("n")
    assert laptop.locator("[data-question=category] [aria-checked=true]").count() == 0
    assert laptop.locator("#answer [data-under=shape]").is_hidden()
    laptop.keyboard.press("h")
    laptop.keyboard.press("n")
    assert laptop.locator("[data-question=category] [aria-checked=true]").inner_text() == "n\nround"
    answer(laptop)
    poll(lambda: n_answers() == 1, "the answer stored")
    assert Annotation.objects.get().category == "round"


def test_a_key_of_ones_own_works_is_shown_and_can_be_reset(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    ada = make_annotator(open_study.study)
    open_player(laptop, ada, open_study.study, str(live_server))
    laptop.keyboard.press("?")
    laptop.click("#key-settings summary")
    laptop.click('#key-settings [data-name="patch_rating=4"]')
    laptop.keyboard.press("f")
    laptop.wait_for_function("document.querySelector('#key-settings [data-told]').textContent.includes('taken')")
    assert (
        laptop.inner_text("#key-settings [data-told]")
        == "“f” is taken by “flag for a second look”; choose another key."
    )
    laptop.click('#key-settings [data-name="patch_rating=4"]')
    laptop.keyboard.press("k")
    laptop.wait_for_function("document.querySelector('#key-settings [data-told]').textContent === 'Kept.'")
    laptop.keyboard.press("Escape")
    laptop.keyboard.press("k")
    assert laptop.locator("[data-question=patch_rating] [aria-checked=true]").inner_text() == "clearly\nk"
    laptop.reload()
    laptop.wait_for_selector("body[data-shown]")
    laptop.keyboard.press("4")
    assert laptop.locator("[data-question=patch_rating] [aria-checked=true]").count() == 0
    laptop.keyboard.press("?")
    laptop.click("#key-settings summary")
    laptop.click("#key-settings [data-reset]")
    laptop.wait_for_function("document.querySelector('#key-settings [data-told]').textContent === 'Kept.'")
    assert User.objects.get(pk=ada.pk).player_keys == {}
    laptop.keyboard.press("Escape")
    laptop.keyboard.press("4")
    assert laptop.locator("[data-question=patch_rating] [aria-checked=true]").inner_text() == "clearly\n4"


def test_after_half_an_hour_a_break_is_offered(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    sign_in(laptop.context, make_annotator(open_study.study), str(live_server))
    laptop.clock.install()
    laptop.goto(f"/work/{open_study.study.slug}/")
    laptop.clock.run_for(100)
    laptop.wait_for_selector("body[data-shown]")
    laptop.clock.fast_forward("31:00")
    for key in ("4", "r", "Enter"):
        laptop.keyboard.press(key)
    laptop.wait_for_selector("body[data-state=break]")
    assert laptop.inner_text(".state[data-for=break] h2") == "Time to rest your eyes"
    laptop.keyboard.press("Enter")
    laptop.clock.run_for(100)
    laptop.wait_for_selector("body[data-state=showing]")
    poll(lambda: n_answers() == 1, "the answer stored")


def test_truth_and_condition_never_reach_the_page(opened: Callable[..., ProtocolStudy], laptop: Page) -> None:
    texts: list[str] = []
    laptop.on("response", lambda response: texts.append(response.text()) if "claim" in response.url else None)
    made = opened("two-alternative", options={"variants": ["easy"]})
    laptop.wait_for_load_state("networkidle")
    assert Item.objects.filter(study=made.study, truth={}).count() == 0
    assert texts
    page = laptop.content()
    for word in ("truth", "condition", "image_index", "patch_index", '"variant"', "matched"):
        assert word not in "".join(texts), word
        assert f'"{word}"' not in page, word
    assert Study.objects.get(pk=made.study.pk).state == "open"
