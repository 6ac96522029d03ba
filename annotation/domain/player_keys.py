"""The player's keys: one table that drives the handler, the hints on the buttons, the help and the form's refusals.

A chord is how a key is recognized. ``code:KeyQ`` is a place on the keyboard whatever it prints (KeyboardEvent.code),
``shift+code:Digit1`` the same with Shift held, ``key:s`` the letter whatever its place (KeyboardEvent.key). Ratings go
by place, so that they lie in a row on every keyboard; words go by letter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypedDict


class Binding(NamedTuple):
    """One thing the player does and the keys that do it."""

    action: str
    chords: tuple[str, ...]
    hint: str
    help: str
    group: str
    value: int | str | None = None


class BindingRow(TypedDict):
    """A binding as the page receives it."""

    action: str
    chords: list[str]
    hint: str
    help: str
    group: str
    value: int | str | None


RATING_WORDS = ("no", "a hint", "mostly", "clearly")
IMAGE_LETTERS = ("q", "w", "e", "r")


def rating_bindings() -> list[Binding]:
    patches = [
        Binding(
            "rate-patches", (f"code:Digit{n}", f"code:Numpad{n}"), str(n), f"patches: {word}", "Rate the patches", n
        )
        for n, word in enumerate(RATING_WORDS, start=1)
    ]
    images = [
        Binding(
            "rate-images",
            (f"shift+code:Digit{n}", f"code:Key{letter.upper()}"),
            letter,
            f"images: {word} (or Shift+{n})",
            "Rate the images",
            n,
        )
        for n, (word, letter) in enumerate(zip(RATING_WORDS, IMAGE_LETTERS, strict=True), start=1)
    ]
    cannot_tell_patches = Binding(
        "rate-patches", ("code:Digit0", "code:Numpad0"), "0", "patches: can’t tell", "Rate the patches", None
    )
    cannot_tell_images = Binding(
        "rate-images", ("shift+code:Digit0", "code:KeyT"), "t", "images: can’t tell (or Shift+0)", "Rate the images"
    )
    return [*patches, cannot_tell_patches, *images, cannot_tell_images]


FIXED_BINDINGS: tuple[Binding, ...] = (
    *rating_bindings(),
    Binding("label", ("key:/",), "/", "write the label; Tab takes the suggestion", "Label"),
    Binding("submit", ("key:Enter",), "Enter", "send and go on", "Move"),
    Binding("back", ("key:Backspace",), "⌫", "back to an earlier answer (the last 20)", "Move"),
    Binding("skip", ("key:s",), "s", "skip, with a reason", "Move"),
    Binding("leave", ("key:Escape",), "Esc", "leave the text or close what is open", "Move"),
    Binding("overlay", ("key:Space",), "Space", "heat on and off; hold to peek", "Look"),
    Binding("zoom", ("key:z",), "z", "zoom the cell under the pointer or in focus", "Look"),
    Binding("focus-left", ("key:ArrowLeft",), "arrows", "move between the cells", "Look"),
    Binding("focus-right", ("key:ArrowRight",), "→", "", "Look"),
    Binding("focus-up", ("key:ArrowUp",), "↑", "", "Look"),
    Binding("focus-down", ("key:ArrowDown",), "↓", "", "Look"),
    Binding("flag", ("key:f",), "f", "flag for a second look", "Tell us"),
    Binding("comment", ("key:c",), "c", "write a comment", "Tell us"),
    Binding("report", ("key:i",), "i", "report the image under the pointer or in focus", "Tell us"),
    Binding("help", ("key:?",), "?", "this page", "Tell us"),
)


def printed(chord: str) -> str:
    """What a chord prints on a QWERTY keyboard: two chords that print the same cannot both be used."""
    prefix, _, name = chord.rpartition(":")
    for start in ("Digit", "Key"):
        if prefix.endswith("code") and name.startswith(start):
            name = name.removeprefix(start)
    return ("shift+" if prefix.startswith("shift") else "") + name.lower()


def clashes(bindings: Iterable[Binding]) -> list[str]:
    """The keys that more than one binding wants."""
    counts = Counter(printed(chord) for binding in bindings for chord in binding.chords)
    return sorted(key for key, n in counts.items() if n > 1)


RESERVED_KEYS = frozenset(
    printed(chord) for binding in FIXED_BINDINGS for chord in binding.chords if len(printed(chord)) == 1
)


def category_bindings(categories: Iterable[tuple[str, str]]) -> list[Binding]:
    """Bindings of (name, key) pairs."""
    return [Binding("category", (f"key:{key}",), key, name, "Category", name) for name, key in categories]


def key_table(categories: Iterable[tuple[str, str]]) -> list[BindingRow]:
    """The whole table for one study, as the page receives it."""
    bindings = [*FIXED_BINDINGS, *category_bindings(categories)]
    return [
        BindingRow(action=b.action, chords=list(b.chords), hint=b.hint, help=b.help, group=b.group, value=b.value)
        for b in bindings
    ]
