"""What every stage config is made of: fields with names for people, and one kind of error."""

from __future__ import annotations

from dataclasses import field
from typing import Any

MOST_SEEDS = 2**31  # a stage derives further seeds from it that must fit into 64 bits
SEED_HELP = "The same seed gives the same bytes on the same machine."
PER_CHUNK_HELP = "A chunk should take at most half a minute."


class ConfigError(ValueError):
    """A value of a stage config is wrong; the message is fit for the user."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def setting(default: Any, label: str, help_text: str = "") -> Any:
    """A field of a config with its default, its name for people and a line of help."""
    return field(default=default, metadata={"label": label, "help": help_text})


def parent(label: str, help_text: str = "") -> Any:
    """A field without default that names an artefact."""
    return field(metadata={"label": label, "help": help_text})
