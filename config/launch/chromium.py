"""Finding a Chromium for the browser tests and the screenshots."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")


def find_chromium() -> Path | None:
    """VITRINE_CHROMIUM, else one on PATH, else one that `playwright install chromium` left in the home folder."""
    chosen = os.environ.get("VITRINE_CHROMIUM", "")
    if chosen:
        return Path(chosen)
    for name in NAMES:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    cache = Path.home() / ".cache" / "ms-playwright"
    return next(
        (path for path in sorted(cache.glob("chromium*/*/*")) if path.name in {"chrome", "headless_shell"}), None
    )
