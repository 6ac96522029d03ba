"""Words set into a sentence: what begins a line large begins small inside one, in English; German keeps its nouns."""

from __future__ import annotations

from django.utils.translation import get_language


def within_sentence(words: str) -> str:
    """In small letters where the language in use writes them so."""
    return words.lower() if (get_language() or "en").startswith("en") else words
