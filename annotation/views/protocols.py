"""The page of protocols for researchers: how each asks, what it measures, how many answers it needs, and guidance."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _
from django.views.decorators.http import require_GET

from annotation.domain.protocols import PROTOCOLS, Kind, Protocol, Question
from annotation.models import Condition
from annotation.views.access import researcher_required

WIDTH, HEIGHT, GAP = 320, 190, 4
GUIDES = "docs/guides/protocols"


class Box(NamedTuple):
    """A rectangle of a sketch; `kind` is its class."""

    x: float
    y: float
    w: float
    h: float
    kind: str = "picture"


def board(x: float, y: float, w: float, rows: int, columns: int, kind: str = "picture") -> list[Box]:
    """Square cells in rows, `w` wide in all."""
    side = (w - GAP * (columns - 1)) / columns
    return [
        Box(x + column * (side + GAP), y + row * (side + GAP), side, side, kind)
        for row in range(rows)
        for column in range(columns)
    ]


def buttons(n: int, y: float = 164) -> list[Box]:
    wide = min(56, (WIDTH - 24 - GAP * (n - 1)) / n)
    return [Box(12 + index * (wide + GAP), y, wide, 14, "button") for index in range(n)]


SKETCHES: dict[str, list[Box]] = {
    "sheet": [*board(12, 12, 96, 4, 4, "patch"), *board(124, 12, 184, 3, 4), *buttons(5)],
    "two-alternative": [
        *board(12, 12, 96, 3, 3, "mapped"), *board(124, 12, 96, 3, 3), *board(236, 12, 72, 1, 1, "query"),
        *board(236, 90, 68, 1, 1, "query"), *buttons(3),
    ],
    "intruder": [*board(12, 50, 296, 1, 5, "boxed"), *buttons(5)],
    "verification": [Box(12, 12, 296, 16, "words"), *board(12, 36, 240, 2, 4, "query"), *buttons(1)],
    "pair": [*board(12, 40, 140, 2, 4, "mapped"), *board(168, 40, 140, 2, 4, "mapped"), *buttons(3)],
    "marking": [*board(12, 12, 96, 4, 2, "mapped")[:6], *board(124, 12, 144, 2, 2, "query"), *buttons(1)],
    "adjudication": [
        *board(12, 12, 140, 3, 4), *(Box(168, 12 + 46 * row, 140, 40, "words") for row in range(3)), *buttons(3),
    ],
}  # fmt: skip


class Asked(NamedTuple):
    """One question with its answers and their keys."""

    text: str
    answers: list[tuple[str, str]]
    words: str


KIND_WORDS = {
    Kind.CELLS: _("any of the images"),
    Kind.MARKS: _("any patches of the images"),
    Kind.CATEGORY: _("a category of the study, by its key"),
    Kind.TEXT: _("a few words"),
}


def asked(question: Question) -> Asked:
    named = [(str(choice.word), choice.hint) for choice in question.choices]
    answers = [("" if word == hint else word, hint) for word, hint in named]
    return Asked(str(question.text), answers, gettext(KIND_WORDS.get(question.kind, "")))


def sheet_of(protocol: Protocol) -> dict[str, Any]:
    options = protocol.settle_options({})
    labels = dict(Condition.choices)
    return {
        "protocol": protocol,
        "sketch": SKETCHES[protocol.layout],
        "questions": [asked(question) for question in protocol.questions(options)],
        "chance": protocol.chance(options),
        "controls": [gettext(labels[kind]) for kind in protocol.conditions],
        "guide": guide(protocol.name),
    }


@lru_cache(maxsize=32)
def guide(name: str) -> str:
    """The guidance in the documentation, without its title and the walk; empty where it was not installed."""
    file = Path(settings.BASE_DIR) / GUIDES / f"{name}.md"
    if not file.is_file():
        return ""
    text = file.read_text().partition("\n## ")[0]
    return text.partition("\n")[2].strip() if text.startswith("# ") else text


@require_GET
@researcher_required
def protocols(request: HttpRequest) -> HttpResponse:
    context = {"sheets": [sheet_of(one) for one in PROTOCOLS.values()], "width": WIDTH, "height": HEIGHT}
    return render(request, "annotation/studies/protocols.html", context)


urlpatterns = [path("protocols/", protocols, name="protocols")]
