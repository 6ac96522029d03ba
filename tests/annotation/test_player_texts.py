"""The player's script has no words of its own: each it says is in the table that the page brings."""

from __future__ import annotations

import re
from pathlib import Path

from annotation.views.player_texts import player_texts

PLAYER = Path(__file__).resolve().parents[2] / "annotation/static/annotation/player"
MADE = {f"{kind}_{part}" for kind in ("skip", "comment", "report") for part in ("title", "lead", "send")}
MADE |= {"offline_kept", "server_kept", "signedout_kept"}


def script() -> str:
    return "\n".join(path.read_text() for path in sorted(PLAYER.glob("*.js")))


def test_every_text_the_script_asks_for_is_there_and_none_is_left_over() -> None:
    texts = set(player_texts())
    asked = set(re.findall(r'\bt\("(\w+)"', script()))
    assert asked - texts == set()
    named = set(re.findall(r'"(\w+)"', script()))
    assert texts - named - MADE == set()
    assert MADE - texts == set()


def test_the_script_gives_each_text_the_values_it_wants() -> None:
    texts = player_texts()
    calls = re.findall(r'\bt\("(\w+)"(?:, \{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\})?\)', script())
    assert len(calls) > 30
    for name, values in calls:
        given = set(re.findall(r"(?:^|,)\s*(\w+)", values))
        assert set(re.findall(r"%\((\w+)\)s", texts[name])) == given, name
