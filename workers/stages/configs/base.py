"""What every stage config is made of: fields with names for people, and one kind of error."""

from __future__ import annotations

import math
from dataclasses import field, fields
from typing import Any

MOST_SEEDS = 2**31  # a stage derives further seeds from it that must fit into 64 bits
SEED_HELP = "The same seed gives the same bytes on the same machine."
PER_CHUNK_HELP = "A chunk should take at most half a minute."


class ConfigError(ValueError):
    """A value of a stage config is wrong, or what it names does not fit; the message is fit for the user."""

    needs_another_run = True  # the same config would fail again

    def __init__(self, message: str, setting_name: str = "") -> None:
        """``setting_name`` is the setting that is to be changed, where it is known."""
        super().__init__(message)
        self.setting_name = setting_name


def require(condition: bool, message: str, setting_name: str = "") -> None:
    if not condition:
        raise ConfigError(message, setting_name)


def setting(
    default: Any, label: str, help_text: str = "", *, unit: str = "", most: float | None = None, is_rare: bool = False
) -> Any:
    """A field of a config with its default, its name for people and a line of help.

    A number may have a unit and a largest value that is allowed; a rare setting is folded away in forms.
    """
    about = {"label": label, "help": help_text, "unit": unit, "most": most, "is_rare": is_rare}
    return field(default=default, metadata=about)


def require_limits(config: Any) -> None:
    """Raise ConfigError for a number above the largest its setting allows."""
    for one in fields(config):
        most, value = one.metadata.get("most"), getattr(config, one.name)
        if most is not None:
            largest = max(value, default=0) if isinstance(value, tuple) else value
            require(largest <= most, f"{one.name} is {largest:,}; the largest allowed is {most:,}.", one.name)


def parent(label: str, help_text: str = "") -> Any:
    """A field without default that names an artefact."""
    return field(metadata={"label": label, "help": help_text})


KINDS_IN_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "tuple[str, ...]": "a list of texts",
    "tuple[int, ...]": "a list of whole numbers",
}
TYPES = {"int": int, "str": str, "bool": bool, "tuple[str, ...]": str, "tuple[int, ...]": int}


def settled_value(name: str, kind: str, value: Any) -> Any:
    """The value as its field's type; raises ConfigError if it is of another."""
    if kind == "float" and type(value) in (int, float):
        require(math.isfinite(value), f"The setting '{name}' is {value!r}; it must be a finite number.", name)
        return float(value)
    wanted = TYPES.get(kind)
    if kind.startswith("tuple"):
        fits = isinstance(value, list | tuple) and all(type(entry) is wanted for entry in value)
    else:
        fits = type(value) is wanted
    require(fits, f"The setting '{name}' is {value!r}; it must be {KINDS_IN_WORDS.get(kind, kind)}.", name)
    if name == "seed":
        require(0 <= value < MOST_SEEDS, f"The seed is {value}; it must lie between 0 and {MOST_SEEDS - 1}.", name)
    return tuple(value) if kind.startswith("tuple") else value
