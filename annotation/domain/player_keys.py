"""The player's keys: one table that drives the handler, the hints on the buttons, the help and the form's refusals.

What every protocol has (move, look, tell) stands here; the keys of its questions come with its choices
(annotation.domain.protocols.choices says what a chord is), those of the categories with the study.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypedDict

from django.utils.translation import gettext_noop as _

from annotation.domain.keyboards import KEYBOARDS, printed
from annotation.domain.protocols import PROTOCOLS, Kind, Protocol, Question


class Binding(NamedTuple):
    """One thing the player does and the keys that do it; `question` is set where it answers one.

    A category `under` another can be chosen, and has its key, only while that one or one beside it is chosen.
    """

    action: str
    chords: tuple[str, ...]
    hint: str
    help: str
    group: str
    value: int | str | None = None
    question: str = ""
    under: str = ""

    @property
    def name(self) -> str:
        """What it does, the same in every study: a person's own keys are kept by it."""
        return f"{self.question}={self.value}" if self.action == "answer" else self.action

    @property
    def can_be_changed(self) -> bool:
        return bool(self.help) and self.action not in UNCHANGEABLE


class BindingRow(TypedDict):
    """A binding as the page receives it."""

    action: str
    chords: list[str]
    hint: str
    help: str
    group: str
    value: int | str | None
    question: str
    name: str
    under: str


UNCHANGEABLE = frozenset({"leave", "focus-left", "focus-right", "focus-up", "focus-down"})
SHARED_BINDINGS: tuple[Binding, ...] = (
    Binding("submit", ("key:Enter",), "Enter", _("send and go on"), _("Move")),
    Binding("back", ("key:Backspace",), "⌫", _("back to an earlier answer (the last 20)"), _("Move")),
    Binding("skip", ("key:s",), "s", _("skip, with a reason"), _("Move")),
    Binding("leave", ("key:Escape",), "Esc", _("leave the text or close what is open"), _("Move")),
    Binding("overlay", ("key:Space",), "Space", _("heat on and off; hold to peek"), _("Look")),
    Binding("zoom", ("key:z", "key:d"), "z", _("enlarge the picture under the pointer or in focus (or d)"), _("Look")),
    Binding("focus-left", ("key:ArrowLeft",), _("arrows"), _("move between the cells"), _("Look")),
    Binding("focus-right", ("key:ArrowRight",), "→", "", _("Look")),
    Binding("focus-up", ("key:ArrowUp",), "↑", "", _("Look")),
    Binding("focus-down", ("key:ArrowDown",), "↓", "", _("Look")),
    Binding("flag", ("key:f",), "f", _("flag for a second look"), _("Tell us")),
    Binding("comment", ("key:c",), "c", _("write a comment"), _("Tell us")),
    Binding("report", ("key:i",), "i", _("report the image under the pointer or in focus"), _("Tell us")),
    Binding("help", ("key:?",), "?", _("this page"), _("Tell us")),
)
TEXT_BINDING = ("label", ("key:/",), "/", _("write; Tab takes the suggestion"))
MARK_BINDING = ("mark", ("key:m",), "m", _("mark the patch in focus, or take the mark away"))


def question_bindings(questions: Sequence[Question]) -> list[Binding]:
    """The keys of a protocol's questions: of each choice, and of the first text and the marks."""
    bindings: list[Binding] = []
    for question in questions:
        for choice in question.choices:
            words = choice.help or choice.word
            bindings.append(
                Binding("answer", choice.chords, choice.hint, words, question.text, choice.value, question.name)
            )
    for kind, (action, chords, hint, words) in ((Kind.TEXT, TEXT_BINDING), (Kind.MARKS, MARK_BINDING)):
        asked = next((question for question in questions if question.kind is kind), None)
        if asked is not None:
            bindings.append(Binding(action, chords, hint, words, asked.text, question=asked.name))
    return bindings


def category_bindings(categories: Iterable[tuple[str, ...]]) -> list[Binding]:
    """Bindings of (name, key) or (name, key, name of the category it is under)."""
    return [
        Binding("answer", (f"key:{key}",), key, name, under[0] if under else _("Category"), name, "category", *under)
        for name, key, *under in categories
        if key
    ]


def fixed_bindings(protocol: Protocol) -> list[Binding]:
    """What a protocol's player binds whatever the study's categories are, with its largest number of cells."""
    options = protocol.settle_options({})
    return [*SHARED_BINDINGS, *question_bindings(protocol.questions(options))]


def asks_category(protocol: Protocol) -> bool:
    questions = protocol.questions(protocol.settle_options({}))
    return any(question.kind is Kind.CATEGORY for question in questions)


def reserved_keys(protocol: Protocol) -> frozenset[str]:
    """The letters and signs that a category cannot have, on any keyboard."""
    chords = [chord for binding in fixed_bindings(protocol) for chord in binding.chords]
    taken = (printed(chord, keyboard) for chord in chords for keyboard in KEYBOARDS.values())
    return frozenset(key for key in taken if len(key) == 1)


RESERVED_KEYS: frozenset[str] = frozenset().union(
    *(reserved_keys(protocol) for protocol in PROTOCOLS.values() if asks_category(protocol))
)


def bindings_of(questions: Sequence[Question], categories: Iterable[tuple[str, ...]]) -> list[Binding]:
    """Everything that a study's player binds."""
    has_category = any(question.kind is Kind.CATEGORY for question in questions)
    bindings = [*SHARED_BINDINGS, *question_bindings(questions)]
    return bindings + category_bindings(categories) if has_category else bindings


def key_table(bindings: Iterable[Binding]) -> list[BindingRow]:
    """The table as the page receives it; an action that cannot be changed has no name there."""
    return [
        BindingRow(
            action=b.action, chords=list(b.chords), hint=b.hint, help=b.help, group=b.group, value=b.value,
            question=b.question, name=b.name if b.can_be_changed else "", under=b.under,
        )
        for b in bindings
    ]  # fmt: skip
