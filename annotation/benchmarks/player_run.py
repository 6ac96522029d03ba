"""The annotation page measured by itself: somebody works by keyboard in Chromium, 100 ms from the server.

Row three of the design's budgets. The player times every transition (Enter until the next item is painted, the answer
durable before) and every key (until its effect is painted), and stores both with the answer that follows; here they are
read from the rows. Between two keys passes what a quick person needs, so that the next items arrive meanwhile: an item
is looked at for about a second, never longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management import call_command

from annotation.benchmarks.figures import Row, Target, at_most, none_of, percentiles
from annotation.benchmarks.player_study import make_player_study
from annotation.benchmarks.queue_http import session_of, web_server
from annotation.demo.browser import open_browser
from annotation.models import Annotation, Study, User

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WINDOW = {"width": 1366, "height": 625}
DELAY_MS = 100
KEY_MS = 250  # between two keys of one answer
PATIENCE_MS = 30_000
NEXT_SHOWN_MS, KEY_TO_PAINT_MS = 100, 50  # the floors of design.md §12


@dataclass
class PlayerRun:
    """So many people, one after the other, give so many answers each."""

    n_people: int
    n_answers: int
    say: Callable[[str], object]
    figures: dict[str, Row] = field(default_factory=dict)
    n_sent: int = 0
    problems: list[str] = field(default_factory=list)

    def measure(self) -> None:
        study = make_player_study(n_items=self.n_answers + 10, n_people=self.n_people)
        call_command("collectstatic", interactive=False, verbosity=0)
        people = list(User.objects.filter(participations__study=study).order_by("id"))
        sessions = [session_of(user) for user in people]
        with web_server(1, 4) as url:
            self.work_in_browser(url, study.slug, sessions)
        self.read_timing(study)

    def work_in_browser(self, url: str, slug: str, sessions: list[str]) -> None:
        # The browser's event loop lives in this thread, and the rows are read after it has ended.
        with open_browser() as browser:
            for session in sessions:
                self.work_as(browser, url, slug, session)

    def work_as(self, browser: Browser, url: str, slug: str, session: str) -> None:
        context = browser.new_context(viewport={"width": WINDOW["width"], "height": WINDOW["height"]})
        context.set_default_timeout(PATIENCE_MS)
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": url}])
        page = context.new_page()
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        far_away(page)
        page.goto(f"{url}/work/{slug}/")
        page.wait_for_selector("body[data-shown]")
        for _ in range(self.n_answers):
            answer_by_keyboard(page)
            self.n_sent += 1
        page.wait_for_function("() => document.body.dataset.unsaved === '0' || !document.body.dataset.unsaved")
        page.wait_for_load_state("networkidle")
        context.close()

    def read_timing(self, study: Study) -> None:
        timing = list(Annotation.objects.filter(study=study).order_by("id").values_list("timing", flat=True))
        self.figures = {
            "submit to next shown": percentiles(numbers(timing, "next_shown_ms"), "ms"),
            "key to paint": percentiles(numbers(timing, "key_to_paint_ms"), "ms"),
            "answers": {"sent": self.n_sent, "stored": len(timing), "page errors": len(self.problems)},
        }
        for name, row in self.figures.items():
            self.say(f"{name[:1].upper()}{name[1:]}: " + ", ".join(f"{key} {value:g}" for key, value in row.items()))

    def targets(self) -> list[Target]:
        answers = self.figures["answers"]
        shown, painted = self.figures["submit to next shown"]["p95 ms"], self.figures["key to paint"]["p95 ms"]
        return [
            at_most(f"submit to next item shown, p95, server {DELAY_MS} ms away", shown, NEXT_SHOWN_MS, "ms"),
            at_most("key to paint, p95", painted, KEY_TO_PAINT_MS, "ms"),
            none_of("answers lost, page errors", answers["sent"] - answers["stored"] + answers["page errors"]),
        ]


def far_away(page: Page) -> None:
    """Every request of the page takes this much longer."""
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    network.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": DELAY_MS, "downloadThroughput": -1, "uploadThroughput": -1},
    )


def answer_by_keyboard(page: Page) -> None:
    """Both ratings and Enter, then wait for the next item."""
    before = page.get_attribute("body", "data-shown")
    for key in ("4", "e", "Enter"):
        page.wait_for_timeout(KEY_MS)
        page.keyboard.press(key)
    page.wait_for_function("before => document.body.dataset.shown !== before", arg=before)


def numbers(timing: list[dict[str, Any]], name: str) -> list[float]:
    return [float(one[name]) for one in timing if isinstance(one.get(name), int | float)]
