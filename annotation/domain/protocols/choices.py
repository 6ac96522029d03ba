"""Choices that several protocols share, with their keys.

A chord is how a key is recognized. ``code:KeyQ`` is a place on the keyboard whatever it prints (KeyboardEvent.code),
``shift+code:Digit1`` the same with Shift held, ``key:s`` the letter whatever its place (KeyboardEvent.key). Ratings and
positions go by place, so that they lie in a row on every keyboard; words go by letter.
"""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from annotation.domain.protocols.questions import Choice, Kind, Question

RATING_WORDS = (_("no"), _("a hint"), _("mostly"), _("clearly"))
CANNOT_TELL = _("can’t tell")


def digit(number: int) -> tuple[str, str]:
    return f"code:Digit{number}", f"code:Numpad{number}"


def rating_choices() -> tuple[Choice, ...]:
    """1 to 4 and 0, by the row of digits."""
    rated = [Choice(n, word, digit(n), str(n)) for n, word in enumerate(RATING_WORDS, start=1)]
    return (*rated, Choice(None, CANNOT_TELL, digit(0), "0"))


def second_rating_choices() -> tuple[Choice, ...]:
    """The same by the row of letters below, or by Shift and the digit."""
    rated = [
        Choice(n, word, (f"shift+code:Digit{n}", f"code:Key{letter.upper()}"), letter, f"{word} (or Shift+{n})")
        for n, (word, letter) in enumerate(zip(RATING_WORDS, "qwer", strict=True), start=1)
    ]
    return (*rated, Choice(None, CANNOT_TELL, ("shift+code:Digit0", "code:KeyT"), "t", f"{CANNOT_TELL} (or Shift+0)"))


def cell_choices(n: int) -> tuple[Choice, ...]:
    """The cells of a panel by their number."""
    return tuple(Choice(index, str(index + 1), digit(index + 1), str(index + 1)) for index in range(n))


def yes_no_choices(yes: str, no: str, unsure: str) -> tuple[Choice, ...]:
    return (
        Choice("yes", yes, ("key:y",), "y"),
        Choice(_("no"), no, ("key:n",), "n"),
        Choice(None, unsure, ("key:u",), "u"),
    )


def confidence() -> Question:
    words = (_("a guess"), _("fairly sure"), _("sure"))
    choices = tuple(
        Choice(n, word, (f"code:Key{letter.upper()}",), letter)
        for n, (word, letter) in enumerate(zip(words, "qwe", strict=True), start=1)
    )
    return Question("confidence", Kind.CHOICE, _("How sure are you?"), choices, column="confidence")


def label(text: str, *, name: str = "label", is_required: bool = False) -> Question:
    column = "label" if name == "label" else ""
    return Question(name, Kind.TEXT, text, is_required=is_required, column=column, max_length=200 if column else 2000)
