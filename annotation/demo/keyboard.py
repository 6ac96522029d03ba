"""Answering in the player by keyboard, as a bot does it: by the key table that the page brought, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

Payload = Mapping[str, Any]
SQUARE = (8, 8)


def config_of(page: Page) -> dict[str, Any]:
    config: dict[str, Any] = page.evaluate("JSON.parse(document.querySelector('#player-config').textContent)")
    return config


def key_rows(page: Page) -> list[dict[str, Any]]:
    """The key table that the page brought."""
    rows: list[dict[str, Any]] = config_of(page)["keys"]
    return rows


def key_of(chord: str) -> str:
    """A chord as Playwright presses it."""
    return chord.replace("shift+", "Shift+").replace("code:", "").replace("key:", "")


def press_answer(
    page: Page, payload: Payload, questions: Iterable[dict[str, Any]], grid: tuple[int, int] = SQUARE
) -> None:
    """Give an answer by the keys of the table alone; marks by walking over the patches of the grid."""
    keys = {(row["question"], row["value"]): row["chords"][0] for row in key_rows(page) if row["action"] == "answer"}
    for question in questions:
        value, name = payload.get(question["name"]), question["name"]
        match question["kind"]:
            case "text" if value:
                write_text(page, question, value)
            case "category" if not value:
                continue
            case "cells":
                for cell in value or []:
                    page.keyboard.press(key_of(keys[name, cell]))
            case "marks":
                press_marks(page, value or [], grid)
            case "choice" | "cell" | "category":
                page.keyboard.press(key_of(keys[name, value]))


def write_text(page: Page, question: dict[str, Any], words: str) -> None:
    """Into the first text by its key, into another by stepping to it; back to the board with Escape."""
    if question["hint"]:
        page.keyboard.press(question["hint"])
    else:
        page.locator(f"[data-question={question['name']}] textarea").focus()
    page.keyboard.type(words)


def press_marks(page: Page, marks: Iterable[list[int]], grid: tuple[int, int]) -> None:
    """Focus each picture as Tab and the arrows do, walk to the patch, press m."""
    for cell, patch in marks:
        page.locator(f'[data-cell="queries/{cell}"] canvas').focus()
        at = page.evaluate(WALKED_TO, [cell, *grid])
        rows, columns = patch // grid[1] - at["row"], patch % grid[1] - at["column"]
        for n, more, less in ((rows, "ArrowDown", "ArrowUp"), (columns, "ArrowRight", "ArrowLeft")):
            for _ in range(abs(n)):
                page.keyboard.press(more if n > 0 else less)
        page.keyboard.press("m")


WALKED_TO = """([cell, rows, columns]) => {
  const label = document.querySelector(`[data-cell="queries/${cell}"] canvas`).ariaLabel;
  const place = label.match(/row (\\d+), column (\\d+)/);
  return {row: place ? place[1] - 1 : Math.floor(rows / 2), column: place ? place[2] - 1 : Math.floor(columns / 2)};
}"""
