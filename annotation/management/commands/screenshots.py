"""Make the pictures of the documentation from a running site, by opening its pages in a real browser.

Playwright is a development requirement: it is loaded when the command runs, never with the site.
"""

from __future__ import annotations

import re
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from annotation.demo.accounts import DEMO_PASSWORD
from annotation.demo.browser import NoBrowserError, open_browser
from annotation.demo.studies import OPEN
from annotation.models import Study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LAPTOP = {"width": 1366, "height": 625}
DESK = {"width": 1366, "height": 900}
PATIENCE_MS = 20_000
MOST_STEPS = 60
STUDY = r"/studies/(?!new/)[\w-]+/"


@dataclass(frozen=True)
class Visit:
    """Whom to sign in as, and which pages to open; an empty address is found by following links."""

    address: str
    folder: Path
    password: str
    annotator: str
    researcher: str
    study: str
    feature: str
    run: str
    report: str


class Command(BaseCommand):
    help = "Make docs/screenshots from a running site: player, feature page, run page and analysis page."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("url", help="address of the running site, such as http://127.0.0.1:8000")
        parser.add_argument("--folder", default=str(Path(settings.BASE_DIR) / "docs" / "screenshots"))
        parser.add_argument("--annotator", default="ada", help="somebody who is in the study")
        parser.add_argument("--researcher", default="rhea")
        parser.add_argument("--password", default=DEMO_PASSWORD)
        parser.add_argument("--study", default="", help="slug of the study to show; the demo's, or the first")
        parser.add_argument(
            "--report", default="", help="slug of the study whose report is shown; the first with figures"
        )
        parser.add_argument("--feature", default="", help="number of the feature to show; the first one found")
        parser.add_argument("--run", default="", help="number of the run to show; the newest training run found")

    def handle(self, *args: Any, **options: Any) -> None:
        options["study"] = options["study"] or slug_in_the_demo()
        names = ("password", "annotator", "researcher", "study", "feature", "run", "report")
        visit = Visit(options["url"].rstrip("/"), Path(options["folder"]), **{name: options[name] for name in names})
        visit.folder.mkdir(parents=True, exist_ok=True)
        try:
            with open_browser() as browser:
                for name in (*as_annotator(browser, visit), *as_researcher(browser, visit)):
                    self.stdout.write(f"{visit.folder / name}")
        except NoBrowserError as error:
            raise CommandError(str(error)) from error


def slug_in_the_demo() -> str:
    """Of the open study that rates and describes; empty where this data is no demo."""
    return Study.objects.filter(name=OPEN).values_list("slug", flat=True).first() or ""


def signed_in(browser: Browser, visit: Visit, username: str, size: dict[str, int]) -> Page:
    page = browser.new_context(viewport={"width": size["width"], "height": size["height"]}).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{visit.address}/login/")
    page.fill("[name=username]", username)
    page.fill("[name=password]", visit.password)
    page.click("main [type=submit]")
    page.wait_for_load_state()
    if "/login/" in page.url:
        raise CommandError(f"{username} cannot sign in at {visit.address}; give --annotator, --researcher, --password.")
    return page


def as_annotator(browser: Browser, visit: Visit) -> list[str]:
    """The player with an answer half given, its help, and nothing sent."""
    page = signed_in(browser, visit, visit.annotator, LAPTOP)
    page.goto(f"{visit.address}/work/{visit.study}/" if visit.study else f"{visit.address}/studies/")
    if not visit.study:
        page.click("main .card .button--primary")
    reach_the_player(page)
    for key in ("4", "e"):
        page.keyboard.press(key)
    page.locator("[data-question=category] button").first.click()
    page.mouse.move(700, 610)
    page.screenshot(path=visit.folder / "player.png")
    page.keyboard.press("?")
    page.screenshot(path=visit.folder / "player-help.png")
    page.context.close()
    return ["player.png", "player-help.png"]


def reach_the_player(page: Page) -> None:
    """Through consent, guideline and practice, as far as they are still ahead."""
    for _ in range(MOST_STEPS):
        page.wait_for_load_state()
        if "/consent/" in page.url:
            page.check("[name=agree]")
            page.click("main [type=submit]")
        elif "/guideline/" in page.url:
            page.click("main [type=submit]")
        elif page.get_attribute("body", "data-mode") == "practice":
            practise(page)
        else:
            page.wait_for_selector("body[data-state=showing][data-shown]")
            return
    raise CommandError(f"The player was not reached: the browser stands at {page.url}.")


def practise(page: Page) -> None:
    page.wait_for_selector("body[data-state=showing], body[data-state=finished]")
    if page.get_attribute("body", "data-state") == "finished":
        page.click(".state[data-for=finished] .button--primary")
        return
    for key in ("3", "e", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("body[data-state=feedback]")
    page.keyboard.press("Enter")


def as_researcher(browser: Browser, visit: Visit) -> list[str]:
    page = signed_in(browser, visit, visit.researcher, DESK)
    features = feature_address(page, visit)
    addresses = {
        "feature.png": features,
        "run.png": run_address(page, visit),
        "study.png": f"/studies/{visit.study}/" if visit.study else first_link(page, visit, "/studies/", STUDY),
        "analysis.png": report_address(page, visit),
    }
    for name, address in addresses.items():
        page.goto(visit.address + address)
        page.evaluate("document.querySelectorAll('img[loading=lazy]').forEach(img => { img.loading = 'eager' })")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=visit.folder / name, full_page=name != "run.png")
    page.context.close()
    return list(addresses)


def feature_address(page: Page, visit: Visit) -> str:
    if visit.feature:
        return f"/features/{visit.feature}/"
    page.goto(f"{visit.address}/dictionaries/")
    real = page.locator("main tr:not(:has(.badge--control)) a[href^='/dictionaries/']")
    if not real.count():
        raise CommandError(f"There is no dictionary yet at {visit.address}.")
    dictionary = real.first.get_attribute("href")
    return first_link(page, visit, f"{dictionary}features/?sort=-maximum", r"/features/\d+/")


def run_address(page: Page, visit: Visit) -> str:
    if visit.run:
        return f"/runs/{visit.run}/"
    page.goto(f"{visit.address}/runs/")
    rows = page.locator("tr:has-text('train-dictionary') a[href^='/runs/']")
    if rows.count():
        return str(rows.first.get_attribute("href"))
    return first_link(page, visit, "/runs/", r"/runs/\d+/")


def report_address(page: Page, visit: Visit) -> str:
    """The first report with figures: that of a study which was closed and unblinded."""
    if visit.report:
        return f"/analysis/{visit.report}/"
    addresses = links(page, visit, "/analysis/", r"/analysis/[\w-]+/")
    for address in addresses:
        page.goto(visit.address + address)
        if page.locator("main svg").count():
            return address
    return first_link(page, visit, "/analysis/", r"/analysis/[\w-]+/")


def first_link(page: Page, visit: Visit, listed_at: str, pattern: str) -> str:
    found = links(page, visit, listed_at, pattern)
    if not found:
        raise CommandError(f"There is nothing to show yet at {visit.address}{listed_at}.")
    return found[0]


def links(page: Page, visit: Visit, listed_at: str, pattern: str) -> list[str]:
    """The links of the page's main part whose path has this form, in their order."""
    page.goto(visit.address + listed_at)
    hrefs = [link.get_attribute("href") or "" for link in page.locator("main a[href]").all()]
    found = [re.match(rf"{pattern}(?=$|\?)", href) for href in hrefs]
    return list(dict.fromkeys(match[0] for match in found if match))
