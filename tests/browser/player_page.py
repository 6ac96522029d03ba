"""What the tests of the player do again and again: come in, answer by keyboard, look what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore

from annotation.demo.keyboard import key_of, key_rows, press_answer
from annotation.domain.row_numbers import numbers_of
from annotation.models import Annotation, Study, User

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

__all__ = ["answer", "key_of", "key_rows", "n_answers", "open_player", "press_answer", "shown", "sign_in"]
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


def shown_item(page: Page, study: Study) -> int:
    """The id of the item in front, which the page itself does not know."""
    return numbers_of(study).items.row_id(int(shown(page) or 0))


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
