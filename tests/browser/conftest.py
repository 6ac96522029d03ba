"""A study in a real Chromium: rows and pictures of tests/factories.py behind the live server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers import find_test_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize

    from tests.factories import OpenStudy

LAPTOP: ViewportSize = {"width": 1366, "height": 625}


@pytest.fixture
def open_study(transactional_db: None, artifact_root: Path) -> OpenStudy:
    from tests.factories import make_open_study  # models need the settings that tests/conftest.py prepares

    return make_open_study(n_items=14, n_practice=2, session_length=12)


@pytest.fixture
def laptop(chromium: Browser, live_server: object) -> Iterator[Page]:
    """A page of the size of a small laptop's browser window."""
    context = chromium.new_context(base_url=str(live_server), viewport=LAPTOP)
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


@pytest.fixture
def persistent_browser(
    chromium: Browser, tmp_path: Path, live_server: object
) -> Iterator[Callable[[], BrowserContext]]:
    """`open()` starts a browser on the same profile each time, as a person who closes it and comes back has."""
    contexts: list[BrowserContext] = []

    def open_browser() -> BrowserContext:
        context = chromium.browser_type.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=find_test_chromium(),
            args=["--no-sandbox"],
            base_url=str(live_server),
            viewport=LAPTOP,
        )
        context.set_default_timeout(15_000)
        contexts.append(context)
        return context

    yield open_browser
    for context in contexts:
        context.close()
