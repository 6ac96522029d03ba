"""Every layout on a small laptop and on a tablet: nothing scrolls, nothing is cut off, everything can be hit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.player_page import open_player
from tests.factories import make_annotator
from tests.protocol_studies import BUILDERS, make_protocol_study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WINDOWS = {"laptop": (1366, 625, 1, False), "laptop, dense": (1366, 625, 2, False), "tablet": (1024, 768, 2, True),
           "tablet, upright": (820, 1180, 2, True)}  # fmt: skip
SCROLLS = """() => [document.documentElement, document.querySelector('#answer'), document.querySelector('#board')]
    .map(e => [e.scrollHeight - e.clientHeight, e.scrollWidth - e.clientWidth])"""
CUT_OFF = """() => [...document.querySelectorAll('.cell canvas, #answer button, #answer input')]
    .filter(e => e.checkVisibility()).map(e => [e.outerHTML.slice(0, 60), e.getBoundingClientRect()])
    .filter(([, r]) => r.left < 0 || r.top < 0 || r.right > innerWidth || r.bottom > innerHeight - 40)
    .map(([text]) => text)"""
SMALL = """() => [...document.querySelectorAll('button, a, summary, input')].filter(e => e.checkVisibility())
    .filter(e => { const r = e.getBoundingClientRect(); return Math.min(r.width, r.height) < 24; })
    .map(e => e.outerHTML.slice(0, 60))"""
SPILT = """() => [...document.querySelectorAll('#answer button, .player-foot button')].filter(e => e.checkVisibility())
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"""
PAINTED = """() => [...document.querySelectorAll('.cell canvas')].map(c => new Set(
    c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size > 8)"""
SMALLEST_CELL = "Math.min(...[...document.querySelectorAll('.cell canvas')].map(c => c.clientWidth))"
CELL_WIDTHS = "[...document.querySelectorAll('.cell canvas')].map(c => c.clientWidth)"
ACTIONS = {"overlay", "answer", "submit", "back", "skip", "flag", "comment", "help", "clear"}


@pytest.mark.parametrize("protocol", sorted(BUILDERS))
def test_nothing_scrolls_and_everything_can_be_hit(
    protocol: str, transactional_db: None, artifact_root: Path, chromium: Browser, live_server: object
) -> None:
    fits_every_window(protocol, chromium, str(live_server), "en-US")


@pytest.mark.parametrize("protocol", ["nature-origin", "rate-describe-categorise"])
def test_the_longer_words_of_german_fit_as_well(
    protocol: str, transactional_db: None, artifact_root: Path, chromium: Browser, live_server: object
) -> None:
    fits_every_window(protocol, chromium, str(live_server), "de-DE")


def fits_every_window(protocol: str, chromium: Browser, url: str, locale: str) -> None:
    made = make_protocol_study(protocol, n_items=8, options=OPTIONS.get(protocol))
    ada = make_annotator(made.study)
    for name, (width, height, ratio, is_touch) in WINDOWS.items():
        context = chromium.new_context(
            base_url=url, viewport={"width": width, "height": height}, device_scale_factor=ratio, has_touch=is_touch,
            locale=locale,
        )  # fmt: skip
        context.set_default_timeout(15_000)
        page = context.new_page()
        open_player(page, ada, made.study, url)
        assert page.get_attribute("html", "lang") == locale[:2]
        assert page.evaluate(SCROLLS) == [[0, 0], [0, 0], [0, 0]], name
        assert page.evaluate(CUT_OFF) == [], name
        assert page.evaluate(SMALL) == [], name
        assert page.evaluate(SPILT) == [], name
        assert set(page.evaluate(PAINTED)) == {True}, name
        assert page.evaluate(SMALLEST_CELL) >= 80, name
        if protocol in {"pairwise", "alignment"}:
            assert len(set(page.evaluate(CELL_WIDTHS))) == 1, name  # else one side is easier to see than the other
        context.close()


OPTIONS = {"two-alternative": {"variants": ["easy"]}}


@pytest.mark.parametrize("protocol", sorted(BUILDERS))
def test_all_that_keys_do_the_mouse_can_do(
    protocol: str, transactional_db: None, artifact_root: Path, laptop: Page, live_server: object
) -> None:
    """Each answer of the table has a button, and so has each act; enlarging and moving are by clicking a picture."""
    made = make_protocol_study(protocol, n_items=1)
    open_player(laptop, make_annotator(made.study), made.study, str(live_server))
    missing = laptop.evaluate(
        """() => {
          const {keys} = JSON.parse(document.querySelector('#player-config').textContent);
          const has = row => [...document.querySelectorAll(`[data-action="${row.action}"]`)].some(button =>
            button.dataset.value === undefined || button.dataset.value === JSON.stringify(row.value));
          const others = ["leave", "zoom", "label", "mark"];
          return keys.filter(row => !others.includes(row.action) && !row.action.startsWith("focus") && !has(row));
        }"""
    )
    assert missing == []
