"""Every protocol in Chromium: a bot of known ability fills a small study by keyboard alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from annotation.domain.protocols import options_of, protocol_of, questions_of, validate
from annotation.domain.simulated_judgements import Skill, judge_payload
from annotation.models import Annotation, Item
from tests.browser.player_page import open_player, press_answer, shown, shown_item
from tests.factories import CATEGORIES, make_annotator
from tests.protocol_studies import BUILDERS, ProtocolStudy, make_protocol_study
from tests.servers import poll

if TYPE_CHECKING:
    from playwright.sync_api import Page

N_ITEMS = 5
SKILL = Skill(accuracy=0.8, separation=1.5, lapse_rate=0.0)
NAMES = [name for name, _ in CATEGORIES]


def fill(page: Page, made: ProtocolStudy, skill: Skill) -> dict[int, dict[str, Any]]:
    """Answer every item as somebody of that skill would; what was decided, by item."""
    config = page.evaluate("JSON.parse(document.querySelector('#player-config').textContent)")
    protocol, options = protocol_of(made.study), options_of(made.study)
    rng, decided = random.Random(7), {}
    for n_left in range(len(made.items), 0, -1):
        before, item = shown(page), Item.objects.get(pk=shown_item(page, made.study))
        payload = judge_payload(protocol, options, item, skill, rng, categories=NAMES)
        decided[item.pk] = validate(questions_of(made.study), payload, categories=NAMES)
        press_answer(page, payload, config["questions"])
        if not config["submits_at_once"]:
            page.keyboard.press("Enter")
        over = "document.body.dataset.state !== 'showing'" if n_left == 1 else "document.body.dataset.shown !== before"
        page.wait_for_function(f"before => {over}", arg=before)
    return decided


@pytest.mark.parametrize("protocol", sorted(BUILDERS))
def test_a_bot_fills_a_study_by_keyboard(
    protocol: str, transactional_db: None, artifact_root: Path, laptop: Page, live_server: object
) -> None:
    troubles: list[str] = []
    laptop.on("pageerror", lambda error: troubles.append(str(error)))
    made = make_protocol_study(protocol, n_items=N_ITEMS)
    open_player(laptop, make_annotator(made.study), made.study, str(live_server))
    decided = fill(laptop, made, SKILL)
    poll(lambda: Annotation.objects.count() == N_ITEMS, "every answer stored")
    assert dict(Annotation.objects.values_list("item_id", "payload")) == decided
    assert troubles == []
    for answer in Annotation.objects.select_related("item"):
        asked = protocol_of(made.study)
        scored = asked.score(answer.payload, answer.item.truth, options_of(made.study))
        assert scored is None or 0 <= scored <= 1
    timed = [answer.timing for answer in Annotation.objects.all()]
    assert all(0 < timing["key_to_paint_ms"] < 2_000 for timing in timed if timing["key_to_paint_ms"] is not None)
    assert sum(timing["next_shown_ms"] is not None for timing in timed) == N_ITEMS


def test_a_bot_that_always_knows_is_always_right(
    transactional_db: None, artifact_root: Path, laptop: Page, live_server: object
) -> None:
    made = make_protocol_study("intruder", n_items=N_ITEMS)
    open_player(laptop, make_annotator(made.study), made.study, str(live_server))
    fill(laptop, made, Skill(accuracy=1.0, lapse_rate=0.0))
    poll(lambda: Annotation.objects.count() == N_ITEMS, "every answer stored")
    stored = dict(Annotation.objects.values_list("item_id", "payload"))
    assert stored == {item.pk: {"intruder": item.truth["intruder"]} for item in made.items}
