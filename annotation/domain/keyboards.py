"""What keyboards print where, and which keys of a table do not work on one of them.

The player looks at the place of a key first and at what it prints second (static/annotation/player/keymap.js), so on
an AZERTY keyboard the place of Q rates though it prints an a, and the letter a cannot be bound besides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from string import ascii_uppercase
from typing import Protocol, TypeVar

LETTERS = {f"code:Key{letter}": letter.lower() for letter in ascii_uppercase}
DIGITS = {f"code:Digit{n}": str(n) for n in range(10)}
QWERTY: Mapping[str, str] = LETTERS | DIGITS | {"code:Slash": "/", "shift+code:Slash": "?"}
QWERTZ: Mapping[str, str] = (
    LETTERS | DIGITS | {"code:KeyY": "z", "code:KeyZ": "y", "shift+code:Digit7": "/", "shift+code:Minus": "?"}
)
AZERTY: Mapping[str, str] = (
    LETTERS
    | {f"shift+code:Digit{n}": str(n) for n in range(10)}
    | {"code:KeyQ": "a", "code:KeyA": "q", "code:KeyW": "z", "code:KeyZ": "w", "code:KeyM": ",", "code:Semicolon": "m"}
    | {"shift+code:Period": "/", "shift+code:KeyM": "?"}
)
KEYBOARDS: dict[str, Mapping[str, str]] = {"QWERTY": QWERTY, "QWERTZ": QWERTZ, "AZERTY": AZERTY}


class Bound(Protocol):
    """A row of a key table, as far as its keys go."""

    @property
    def chords(self) -> tuple[str, ...]: ...

    @property
    def under(self) -> str: ...


T = TypeVar("T", bound=Bound)


def printed(chord: str, keyboard: Mapping[str, str] = QWERTY) -> str:
    """What a chord prints on a keyboard; the name of a key that prints nothing."""
    prefix, _, name = chord.rpartition(":")
    if prefix == "key":
        return name.lower()
    shift = "shift+" if prefix.startswith("shift") else ""
    return keyboard.get(chord) or shift + keyboard.get(f"code:{name}", name).lower()


def clashes(bindings: Iterable[T], keyboard: Mapping[str, str] = QWERTY) -> list[str]:
    """The keys that do two things, and those of bindings that have no key left on this keyboard."""
    wanted: dict[str, list[T]] = defaultdict(list)
    by_place: dict[str, list[T]] = defaultdict(list)
    rows = list(bindings)
    for binding in rows:
        for chord in binding.chords:
            kind = wanted if chord.startswith("key:") else by_place
            kind[printed(chord, keyboard)].append(binding)
    winners = {key: by_place.get(key) or wanted[key] for key in {*wanted, *by_place}}
    double = {key for key, won in winners.items() if len(won) > 1}
    works = {id(won[0]) for won in winners.values() if len(won) == 1}
    lost = {printed(b.chords[0], keyboard) for b in rows if b.chords and id(b) not in works}
    return sorted(double | lost)


def clashes_anywhere(bindings: Iterable[T]) -> list[str]:
    """The same for all keyboards looked after; what is under one category never meets what is under another."""
    rows = list(bindings)
    together = [[b for b in rows if b.under in ("", one)] for one in sorted({b.under for b in rows})]
    return sorted({key for keyboard in KEYBOARDS.values() for some in together for key in clashes(some, keyboard)})
