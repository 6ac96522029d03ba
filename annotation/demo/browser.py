"""A real Chromium for the commands that look at a running site."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from config.launch.chromium import find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser


class NoBrowserError(Exception):
    """There is no browser to look with; the message says what to install."""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Chromium, headless; raises NoBrowserError where it or playwright is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise NoBrowserError("This needs playwright: .venv/bin/pip install -r requirements-dev.txt") from error
    chromium = find_chromium()
    if chromium is None:
        raise NoBrowserError("This needs Chromium; on Debian: apt-get install chromium.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        yield browser
        browser.close()
