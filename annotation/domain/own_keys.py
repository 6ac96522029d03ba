"""Keys that a person chose for themselves: kept with the account by the name of what they do, for every study.

A key that would do two things is refused when it is chosen. In another study, whose categories may want the same
letter, the study's key counts and the person's own is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _

from annotation.domain.keyboards import clashes_anywhere
from annotation.domain.player_keys import Binding
from annotation.models import User

SIGNS = {"Backspace": "⌫", "Delete": "Del", "Insert": "Ins", "PageUp": "PgUp", "PageDown": "PgDn"}
NAMED_KEYS = SIGNS | {name: name for name in ("Enter", "Space", "Home", "End", *(f"F{n}" for n in range(1, 13)))}
MOST_KEYS = 200


class OwnKeysError(Exception):
    """A key cannot be had; the message is fit for the user."""


def apply_own_keys(bindings: Sequence[Binding], own: Mapping[str, str]) -> list[Binding]:
    """The bindings with a person's own keys, as many as there is room for."""
    settled = list(bindings)
    for name, chord in own.items():
        changed = [rebound(b, chord) if b.name == name and b.can_be_changed else b for b in settled]
        if not clashes_anywhere(changed):
            settled = changed
    return settled


def rebound(binding: Binding, chord: str) -> Binding:
    key = chord.removeprefix("key:")
    return binding._replace(chords=(chord,), hint=NAMED_KEYS.get(key, key))


def set_own_keys(*, user: User, bindings: Sequence[Binding], keys: Mapping[str, Any]) -> list[Binding]:
    """Keep the keys a person chose in this study's table, and return the table; raises OwnKeysError."""
    known = {binding.name: binding for binding in bindings}
    for name, chord in keys.items():
        if name not in known or not known[name].can_be_changed:
            raise OwnKeysError(_("This action has a key that cannot be changed."))
        check_chord(chord)
    settled = [rebound(b, keys[b.name]) if b.name in keys else b for b in bindings]
    refuse_clash(settled, keys)
    others = {name: chord for name, chord in user.player_keys.items() if name not in known}
    if len(others) + len(keys) > MOST_KEYS:
        raise OwnKeysError(_("You have chosen too many keys of your own; reset some first."))
    user.player_keys = others | dict(keys)
    user.save(update_fields=["player_keys"])
    return settled


def check_chord(chord: object) -> None:
    key = chord.removeprefix("key:") if isinstance(chord, str) and chord.startswith("key:") else ""
    is_sign = len(key) == 1 and key.isprintable() and not key.isspace() and key == key.lower()
    if not is_sign and key not in NAMED_KEYS:
        raise OwnKeysError(_("This key cannot be used; take a letter, a sign or a function key."))


def refuse_clash(settled: Sequence[Binding], keys: Mapping[str, str]) -> None:
    clashing = clashes_anywhere(settled)
    if not clashing:
        return
    key = clashing[0]
    does = [b.help or b.action for b in settled if b.name not in keys and clashes_with(b, key)]
    if does:
        raise OwnKeysError(
            _("“%(key)s” is taken by “%(action)s”; choose another key.") % {"key": key, "action": does[0]}
        )
    raise OwnKeysError(_("“%(key)s” would do two things; choose another key.") % {"key": key})


def clashes_with(binding: Binding, key: str) -> bool:
    """Whether a binding alone would clash with that letter bound besides."""
    return key in clashes_anywhere([binding, binding._replace(action="own", chords=(f"key:{key}",))])
