"""A session's end and leaving before it, one's own figures, and what researchers answered."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from annotation.domain.crowd_sessions import begin_session
from annotation.models import Annotation, Participation, Recruitment, Remark, Reply, User
from tests.browser.player_page import answer, n_answers, open_player
from tests.factories import OpenStudy, make_annotator
from tests.servers import poll

if TYPE_CHECKING:
    from playwright.sync_api import Page


def with_session(opened: OpenStudy, length: int) -> User:
    """Somebody in a session of so many items, in a study with codes."""
    study = opened.study
    study.session_length = length
    study.save(update_fields=["session_length"])
    Recruitment.objects.create(study=study, completion_code="DONE-7", early_leave_code="EARLY-3")
    ada = make_annotator(study)
    begin_session(participation=Participation.objects.get(user=ada))
    return ada


def test_a_session_ends_with_its_code(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    open_player(laptop, with_session(open_study, 2), open_study.study, str(live_server))
    assert laptop.inner_text("[data-progress]") == "0 of 2"
    answer(laptop)
    for key in ("4", "r", "Enter"):
        laptop.keyboard.press(key)
    laptop.wait_for_selector(".state[data-for=rest] [data-code]:has-text('DONE-7')")
    assert laptop.locator(".state[data-for=rest] [data-action=submit]").is_hidden()
    poll(lambda: n_answers() == 2, "both answers stored")


def test_leaving_early_is_asked_back_and_gives_its_own_code(
    open_study: OpenStudy, laptop: Page, live_server: object
) -> None:
    open_player(laptop, with_session(open_study, 10), open_study.study, str(live_server))
    answer(laptop)
    poll(lambda: n_answers() == 1, "the answer stored")
    laptop.click("[data-action=quit]")
    laptop.click("#leave >> text=Go on working")
    assert laptop.get_attribute("body", "data-state") == "showing"
    laptop.click("[data-action=quit]")
    laptop.click("#leave [data-confirm]")
    laptop.wait_for_selector("body[data-state=left]")
    assert laptop.inner_text(".state[data-for=left] [data-code]") == "EARLY-3"
    assert n_answers() == 1


def test_one_sees_ones_own_figures_and_nobody_elses(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    ada = make_annotator(open_study.study)
    open_player(laptop, ada, open_study.study, str(live_server))
    answer(laptop)
    poll(lambda: n_answers() == 1, "the answer stored")
    laptop.keyboard.press("?")
    laptop.wait_for_selector("#own:visible")
    assert laptop.inner_text("#own p") == "Answered so far: 1."
    first = Annotation.objects.get()
    for place, item in enumerate(open_study.items[-5:]):
        first.pk, first.uuid, first.item, first.slot, first.is_gold_right = None, uuid.uuid4(), item, None, place > 0
        first.save(force_insert=True)
    Participation.objects.filter(user=ada).update(n_done=10, n_gold=5, n_gold_right=4)
    laptop.keyboard.press("?")
    laptop.keyboard.press("?")
    laptop.wait_for_selector("#own:has-text('80 percent')")
    assert laptop.inner_text("#own p") == "Answered so far: 10. Of 5 with a known answer you had 80 percent right."


def test_an_answer_to_a_remark_is_told_once(open_study: OpenStudy, laptop: Page, live_server: object) -> None:
    ada = make_annotator(open_study.study)
    remark = Remark.objects.create(
        uuid=uuid.uuid4(), item=open_study.items[0], author=ada, kind="comment", text="Is it the edge?"
    )
    Reply.objects.create(remark=remark, author=open_study.researcher, text="Yes, the edge.")
    open_player(laptop, ada, open_study.study, str(live_server))
    laptop.wait_for_selector("#notices[open]")
    assert laptop.inner_text("#notices dl") == "Is it the edge?\nYes, the edge."
    laptop.keyboard.press("Escape")
    laptop.wait_for_load_state("networkidle")
    laptop.reload()
    laptop.wait_for_selector("body[data-shown]")
    laptop.wait_for_load_state("networkidle")
    assert laptop.locator("#notices[open]").count() == 0
