"""Walk through every protocol on a running demo, in a real browser, and keep pictures of it for the guides.

Each study of docs/guides/protocols is made once, joined by its link as somebody new, practised and answered by
keyboard by a bot that reads the truth from the database; so it runs on the machine of the demo. Playwright is a
development requirement: it is loaded when the command runs, never with the site.
"""

from __future__ import annotations

import io
import random
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from annotation.demo.accounts import DEMO_PASSWORD
from annotation.demo.browser import NoBrowserError, open_browser
from annotation.demo.keyboard import config_of, press_answer
from annotation.demo.protocol_studies import names, opened_study, prepare, simulated_study
from annotation.demo.runs import DemoError
from annotation.demo.studies import SIMULATED
from annotation.domain.explanations import ExplanationError
from annotation.domain.protocols import options_of, protocol_of
from annotation.domain.row_numbers import numbers_of
from annotation.domain.simulated_judgements import Skill, judge_payload
from annotation.domain.studies import StudyError
from annotation.domain.study_file_checks import StudyFileError
from annotation.models import Condition, Item, ReferenceItem, Study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LAPTOP = (1366, 768)
DESK = (1100, 900)
PATIENCE_MS = 60_000
MOST_STEPS = 60
N_ANSWERS = 3
MOST_COLORS = 192
REPORT_HEIGHT = 1150
ADJUDICATION = "adjudication"
PRACTISED = "intruder"  # whose feedback of practice is kept as a picture
KNOWING = Skill(accuracy=1.0, separation=3.0, lapse_rate=0.0)


@dataclass(frozen=True)
class Tour:
    """Where the demo runs and where the pictures go."""

    browser: Browser
    address: str
    folder: Path

    def page(self, size: tuple[int, int]) -> Page:
        page = self.browser.new_context(viewport={"width": size[0], "height": size[1]}).new_page()
        page.set_default_timeout(PATIENCE_MS)
        return page

    def signed_in(self, username: str, size: tuple[int, int]) -> Page:
        page = self.page(size)
        page.goto(f"{self.address}{reverse('login')}")
        page.fill("[name=username]", username)
        page.fill("[name=password]", DEMO_PASSWORD)
        page.click("main [type=submit]")
        page.wait_for_load_state()
        return page

    def keep(self, page: Page, name: str, height: int = 0) -> Path:
        """The window, or the page from its top down to `height`, with few colors so that the file stays small."""
        page.mouse.move(1, 1)
        page.wait_for_load_state("networkidle")
        if height:
            page.set_viewport_size({"width": DESK[0], "height": height})
        picture = page.screenshot(animations="disabled")
        path = self.folder / f"{name}.png"
        path.write_bytes(with_few_colors(picture))
        return path


def with_few_colors(png: bytes) -> bytes:
    from PIL import Image

    kept = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        few = picture.convert("RGB").quantize(MOST_COLORS, dither=Image.Dither.NONE)
        few.save(kept, "PNG", optimize=True)
    return kept.getvalue()


class Command(BaseCommand):
    help = (
        "Make the study of each protocol on a running demo, join it, practise and answer by keyboard in a browser, "
        "and keep the pictures of docs/guides/protocols."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("url", help="address of the running demo, such as http://127.0.0.1:8000")
        parser.add_argument("--only", choices=[*names(), ADJUDICATION], help="one protocol")
        parser.add_argument("--folder", default=str(Path(settings.BASE_DIR) / "docs" / "screenshots" / "protocols"))

    def handle(self, *args: Any, **options: Any) -> None:
        if not Study.objects.filter(name=SIMULATED).exists():
            raise CommandError("This data has no demo; start ./run demo, and set VITRINE_DATA_ROOT to its folder.")
        wanted = [options["only"]] if options["only"] else [*names(), ADJUDICATION]
        made = [(name, studies_of(name, self.stdout.write)) for name in wanted]  # before the browser's event loop
        folder = Path(options["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with open_browser() as browser:
                tour = Tour(browser, options["url"].rstrip("/"), folder)
                for name, studies in made:
                    for path in walk(tour, name, studies):
                        self.stdout.write(f"{path}")
        except NoBrowserError as error:
            raise CommandError(str(error)) from error


@dataclass(frozen=True)
class Pair:
    """A study for people and its copy filled by programs, with the truth of every item."""

    opened: Study
    simulated: Study
    items: dict[int, Item]
    practice: dict[int, Item]
    categories: tuple[str, ...] = ()


def studies_of(name: str, say: Any) -> Pair:
    """Raises CommandError with the sentence of what could not be made."""
    if name == ADJUDICATION:
        study = Study.objects.get(name=SIMULATED)
        return Pair(study, study, {}, {})
    try:
        say(f"{name}: its study")
        prepare(name, say)
        opened, simulated = opened_study(name, say), simulated_study(name, say)
    except (DemoError, ExplanationError, StudyError, StudyFileError) as error:
        raise CommandError(f"{name}: {error}") from error
    items = {item.pk: item for item in opened.items.all()}
    references = ReferenceItem.objects.filter(study=opened, kind=ReferenceItem.Kind.PRACTICE)
    categories = tuple(opened.categories.values_list("name", flat=True))
    return Pair(opened, simulated, items, {one.pk: as_item(one) for one in references}, categories)


def as_item(reference: ReferenceItem) -> Item:
    """A practice item as the bot judges it; not stored."""
    return Item(
        study_id=reference.study_id, feature_id=reference.feature_id, condition=Condition.REAL,
        variant=reference.variant, truth=reference.truth, accepted=reference.accepted,
        stimulus_id=reference.stimulus_id,
    )  # fmt: skip


def walk(tour: Tour, name: str, studies: Pair) -> list[Path]:
    if name == ADJUDICATION:
        return [adjudicate(tour, studies.opened), report(tour, studies.simulated, name)]
    return [*take_part(tour, studies), report(tour, studies.simulated, name)]


def take_part(tour: Tour, studies: Pair) -> list[Path]:
    """Join as somebody new, practise, stop half-way through the first item, and answer some."""
    study, page, pictures = studies.opened, tour.page(LAPTOP), []
    page.goto(f"{tour.address}{reverse('join', args=[study.join_token])}")
    page.click("main [type=submit]")
    for _ in range(MOST_STEPS):
        page.wait_for_load_state()
        if "/consent/" in page.url:
            page.check("[name=agree]")
            page.click("main [type=submit]")
        elif "/guideline/" in page.url:
            page.click("main [type=submit]")
        elif page.get_attribute("body", "data-mode") == "practice":
            pictures += practise(tour, page, studies)
        else:
            break
    page.wait_for_selector("body[data-state=showing][data-shown]")
    for number in range(N_ANSWERS):
        shown, payload = item_shown(page, studies)
        if number == 0:
            press_half(page, payload)
            pictures.append(tour.keep(page, study.protocol))
            page.reload()
            page.wait_for_selector("body[data-state=showing][data-shown]")
            shown, payload = item_shown(page, studies)
        send(page, payload)
        page.wait_for_function("before => document.body.dataset.shown !== before", arg=shown)
    page.wait_for_function("() => !/[0-9]/.test(document.querySelector('[data-saved]').textContent)")
    page.context.close()
    return pictures


def item_shown(page: Page, studies: Pair) -> tuple[str, dict[str, Any]]:
    """The number that the page knows the item in hand by, and what somebody answers who knows the truth."""
    shown = page.get_attribute("body", "data-shown") or "0"
    return shown, payload_of(studies, studies.items[numbers_of(studies.opened).items.row_id(int(shown))])


def payload_of(studies: Pair, item: Item) -> dict[str, Any]:
    """What somebody answers who knows the truth."""
    study, rng = studies.opened, random.Random(item.pk)
    payload = judge_payload(protocol_of(study), options_of(study), item, KNOWING, rng, categories=studies.categories)
    return payload | ({"label": "seen on the walk"} if payload.get("label") else {})


def practise(tour: Tour, page: Page, studies: Pair) -> list[Path]:
    """One practice item; the first time, the feedback of one protocol is kept."""
    page.wait_for_selector("body[data-state=showing][data-shown], body[data-state=finished]")
    if page.get_attribute("body", "data-state") == "finished":
        page.click(".state[data-for=finished] .button--primary")
        page.wait_for_selector("body[data-mode=work]")
        return []
    shown = int(page.get_attribute("body", "data-shown") or 0)
    send(page, payload_of(studies, studies.practice[numbers_of(studies.opened).practice.row_id(shown)]))
    page.wait_for_selector("body[data-state=feedback]")
    is_first = shown == config_of(page)["items"][0]["item"]
    pictures = [tour.keep(page, "practice")] if is_first and studies.opened.protocol == PRACTISED else []
    page.keyboard.press("Enter")
    page.wait_for_selector("body:not([data-state=feedback])")
    return pictures


def send(page: Page, payload: dict[str, Any]) -> None:
    config = config_of(page)
    press_answer(page, payload, config["questions"])
    if not config["submits_at_once"]:
        page.keyboard.press("Enter")


def press_half(page: Page, payload: dict[str, Any]) -> None:
    """Part of an answer, so that the picture shows both what is given and what is left; nothing is sent."""
    config = config_of(page)
    questions = config["questions"]
    if config["submits_at_once"]:
        return
    if len(questions) == 1:
        half = {name: value[: (len(value) + 1) // 2] if isinstance(value, list) else value
                for name, value in payload.items()}  # fmt: skip
        press_answer(page, half, questions)
        return
    press_answer(page, payload, questions[: (len(questions) + 1) // 2])


def adjudicate(tour: Tour, study: Study) -> Path:
    """As the demo's reviewer: the first disagreement half settled, then some settled as the last answer has it."""
    page = tour.signed_in("rosa", LAPTOP)
    page.goto(f"{tour.address}{reverse('adjudicate', args=[study.slug])}")
    path = None
    for _ in range(N_ANSWERS):
        page.wait_for_selector("body[data-state=showing][data-shown]")
        shown = page.get_attribute("body", "data-shown")
        config = config_of(page)
        entry = next(one for one in config["items"] if str(one["item"]) == shown)
        payload = entry["earlier"][-1]["payload"]
        asked = [question for question in config["questions"] if question["kind"] != "text"]
        press_answer(page, payload, asked)
        path = path or tour.keep(page, ADJUDICATION)
        rationale = next(question for question in config["questions"] if question["name"] == "rationale")
        press_answer(page, {"rationale": "The strongest images agree; the answer that says so stands."}, [rationale])
        page.keyboard.press("Enter")
        page.wait_for_function("before => document.body.dataset.shown !== before", arg=shown)
    page.wait_for_load_state("networkidle")
    page.context.close()
    if path is None:
        raise CommandError("There is no disagreement to settle in the demo's closed study.")
    return path


def report(tour: Tour, study: Study, name: str) -> Path:
    """The head of the report and its first figures; of adjudication the section of its own."""
    page = tour.signed_in("rhea", DESK)
    page.goto(f"{tour.address}{reverse('report', args=[study.slug])}")
    page.wait_for_load_state("networkidle")
    section = page.locator("section#settled")
    if name == ADJUDICATION and section.count():
        section.scroll_into_view_if_needed()
        path = tour.folder / f"{name}-report.png"
        path.write_bytes(with_few_colors(section.screenshot(animations="disabled")))
    else:
        height = page.evaluate("document.documentElement.scrollHeight")
        path = tour.keep(page, f"{name}-report", min(REPORT_HEIGHT, int(height)))
    page.context.close()
    return path
