"""What the tests of the player do again and again: come in, answer by keyboard, look what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore

from annotation.models import Annotation, Study, User

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

NAMES = {"Space": "Space", "⌫": "Backspace"}


def sign_in(context: BrowserContext, user: User, url: str) -> None:
    """A session as signing in makes it, without the detour over the form."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    expires = 4_000_000_000.0
    context.add_cookies([{"name": "sessionid", "value": str(session.session_key), "url": url, "expires": expires}])


def open_player(page: Page, user: User, study: Study, url: str) -> None:
    sign_in(page.context, user, url)
    page.goto(f"/work/{study.slug}/")
    page.wait_for_selector("body[data-shown]")


def shown(page: Page) -> str | None:
    return page.get_attribute("body", "data-shown")


def answer(page: Page, patches: str = "4", images: str = "e", label: str = "") -> None:
    """Rate, name and send the item in front by keyboard, and wait until the next one is in its place."""
    before = shown(page)
    page.keyboard.press(patches)
    page.keyboard.press(images)
    if label:
        page.keyboard.press("/")
        page.keyboard.type(label)
    page.keyboard.press("Enter")
    page.wait_for_function("before => document.body.dataset.shown !== before", arg=before)


def n_answers() -> int:
    return Annotation.objects.count()


def key_rows(page: Page) -> list[dict[str, Any]]:
    """The key table that the page brought."""
    rows: list[dict[str, Any]] = page.evaluate("JSON.parse(document.querySelector('#player-config').textContent).keys")
    return rows


def key_of(chord: str) -> str:
    """A chord as Playwright presses it."""
    return chord.replace("shift+", "Shift+").replace("code:", "").replace("key:", "")


def press_answer(page: Page, payload: dict[str, Any], questions: list[dict[str, Any]]) -> None:
    """Give an answer by the keys of the table alone; marks by walking over the patches."""
    keys = {(row["question"], row["value"]): row["chords"][0] for row in key_rows(page) if row["action"] == "answer"}
    for question in questions:
        value, name = payload.get(question["name"]), question["name"]
        match question["kind"]:
            case "text" if value:
                page.keyboard.press("/")
                page.keyboard.type(value)
            case "category" if not value:
                continue
            case "cells":
                for cell in value or []:
                    page.keyboard.press(key_of(keys[name, cell]))
            case "marks":
                press_marks(page, value or [])
            case "choice" | "cell" | "category":
                page.keyboard.press(key_of(keys[name, value]))


def press_marks(page: Page, marks: list[list[int]]) -> None:
    """Focus each picture as Tab and the arrows do, walk to the patch, press m."""
    for cell, patch in marks:
        page.locator(f'[data-cell="queries/{cell}"] canvas').focus()
        at = page.evaluate(WALKED_TO, cell)
        rows, columns = patch // at["columns"] - at["row"], patch % at["columns"] - at["column"]
        for n, more, less in ((rows, "ArrowDown", "ArrowUp"), (columns, "ArrowRight", "ArrowLeft")):
            for _ in range(abs(n)):
                page.keyboard.press(more if n > 0 else less)
        page.keyboard.press("m")


WALKED_TO = """cell => {
  const label = document.querySelector(`[data-cell="queries/${cell}"] canvas`).ariaLabel;
  const [rows, columns] = [8, 8];
  const place = label.match(/row (\\d+), column (\\d+)/);
  return {columns, row: place ? place[1] - 1 : rows / 2, column: place ? place[2] - 1 : columns / 2};
}"""
