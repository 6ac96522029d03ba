"""Sentences that remember how they were made: English wherever they are data, any language on a page.

The figures and sections of a report are kept, exported and compared under their English names. `Words` is that name,
with its template and values beside it, so that `analysis.domain.saying` can say it in the language of the reader.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Words(str):
    """A template with its values filled in: ``Words("share right: %(name)s", name=name)``."""

    template: str
    values: dict[str, object]

    def __new__(cls, template: str, **values: object) -> Words:
        made = super().__new__(cls, template % values if values else template)
        made.template, made.values = template, values
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        return (self.template,), self.values


class Several(str):
    """Those that are not empty, one after the other."""

    parts: tuple[str, ...]

    def __new__(cls, parts: Iterable[str]) -> Several:
        kept = tuple(part for one in parts if one for part in parts_of(one))
        made = super().__new__(cls, "; ".join(kept))
        made.parts = kept
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[tuple[str, ...]], dict[str, Any]]:
        return (self.parts,), {}


def parts_of(text: str) -> tuple[str, ...]:
    """The notes that a note is made of."""
    if isinstance(text, Several):
        return text.parts
    return (text,) if text else ()
