"""A report is English where it is data and in the language of the reader where it is said."""

from __future__ import annotations

import pickle

from django.utils import translation

from analysis.domain.saying import say
from analysis.statistics.wording import Several, Words


def test_words_are_their_english_and_are_said_in_german_with_all_they_are_made_of() -> None:
    words = Words("share right: %(name)s", name=Words("block %(block)s", block=3))
    assert (words, say(words)) == ("share right: block 3", "share right: block 3")
    with translation.override("de"):
        assert say(words) == "Anteil richtig: Block 3"
        assert say(Words("share right: %(name)s", name="my yes")) == "Anteil richtig: my yes"
        assert say("a name that somebody gave") == "a name that somebody gave"


def test_notes_are_said_one_after_the_other_without_the_empty_ones() -> None:
    notes = Several(["", Words("no answers yet"), Several([Words("too little data for an interval")])])
    assert notes == "no answers yet; too little data for an interval"
    with translation.override("de"):
        assert say(notes) == "noch keine Antworten; zu wenige Daten für ein Intervall"


def test_they_stay_what_they_are_in_the_cache() -> None:
    for kept in (Words("no answers yet"), Several([Words("chance, %(chance)s", chance="0.50"), "as it is"])):
        again = pickle.loads(pickle.dumps(kept))
        assert (type(again), again) == (type(kept), kept)
        with translation.override("de"):
            assert say(again) == say(kept) != kept
