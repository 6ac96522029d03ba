"""The stylesheet's colors can be read: contrast of at least 4.5 to 1, light and dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STYLESHEET = Path(__file__).parents[2] / "annotation" / "static" / "annotation" / "vitrine.css"
WORDS = ("text", "muted", "accent", "real", "control", "simulated", "warning", "error", "success")
GROUNDS = ("paper", "panel")
NOTICES = (("text", "accent-soft"), ("text", "warning-soft"), ("text", "error-soft"), ("accent-ink", "accent"))


def tokens(scheme: str) -> dict[str, str]:
    """The colors of one scheme; dark overrides light."""
    light, dark = re.findall(r":root \{(.*?)\}", STYLESHEET.read_text(), re.DOTALL)
    text = light if scheme == "light" else light + dark
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", text))


def luminance(color: str) -> float:
    """Relative luminance by WCAG 2.2."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_known_for_black_and_white() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_color_of_words_stands_out_from_its_ground(scheme: str) -> None:
    colors = tokens(scheme)
    pairs = [(word, ground) for word in WORDS for ground in GROUNDS] + list(NOTICES)
    faint = {pair: contrast(colors[pair[0]], colors[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in faint.items() if ratio < 4.5} == {}


def test_only_the_tokens_name_colors() -> None:
    """Below the tokens a color is a variable, so that light and dark cannot drift apart."""
    rules = STYLESHEET.read_text().split("/* elements */")[1]
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", rules) == []
