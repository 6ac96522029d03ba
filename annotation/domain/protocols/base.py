"""What a protocol is: a board of panels, questions, the quantity it measures, and how an answer is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from annotation.domain.protocols.questions import Question

Options = Mapping[str, Any]
Payload = Mapping[str, Any]
Truth = Mapping[str, Any]
DICTIONARY_CONTROLS = ("random_directions", "residual_basis", "untrained_dictionary", "random_transformer")
SHEET_CONTROLS = (*DICTIONARY_CONTROLS, "shuffled")


class Panel(NamedTuple):
    """A group of pictures on the board. `kind` is 'patches' or 'images'."""

    name: str
    title: str
    hint: str = ""
    kind: str = "images"


class Option(NamedTuple):
    """A setting of a protocol: its default, the values it can have (empty: any whole number from 1), and a word."""

    name: str
    default: Any
    values: tuple[Any, ...]
    label: str
    help: str = ""


class OptionError(Exception):
    """A protocol was given an option it does not have; the message is fit for the user."""


def no_score(payload: Payload, truth: Truth, options: Options) -> float | None:
    """For protocols whose answers are neither right nor wrong."""
    return None


def nothing_accepted(truth: Truth, options: Options) -> dict[str, list[Any]]:
    return {}


@dataclass(frozen=True)
class Protocol:
    """One way of asking. `chance` is what somebody reaches who looks at nothing; None where there is none."""

    name: str
    version: str
    title: str
    summary: str
    layout: str
    builder: str
    quantity: str
    panels: tuple[Panel, ...]
    questions: Callable[[Options], tuple[Question, ...]]
    chance: Callable[[Options], float | None]
    options: tuple[Option, ...] = ()
    score: Callable[[Payload, Truth, Options], float | None] = no_score
    accepted: Callable[[Truth, Options], dict[str, list[Any]]] = nothing_accepted
    conditions: tuple[str, ...] = ()
    needs: frozenset[str] = field(default_factory=frozenset)
    submits_at_once: bool = False
    answers_needed: str = ""

    @property
    def has_truth(self) -> bool:
        """Whether answers are right or wrong by what is frozen with the stimulus."""
        return self.accepted is not nothing_accepted

    def settle_options(self, given: Options) -> dict[str, Any]:
        """Every option with its value; raises OptionError for one that is unknown or cannot be so."""
        known = {option.name: option for option in self.options}
        unknown = sorted(set(given) - set(known))
        if unknown:
            has = _("it has %(values)s") % {"values": ", ".join(known)} if known else _("it has none")
            raise OptionError(
                _("The protocol %(name)s has no option '%(unknown)s'; %(has)s.")
                % {"name": self.name, "unknown": unknown[0], "has": has}
            )
        for name, value in given.items():
            check_option(known[name], value)
        return {name: given.get(name, option.default) for name, option in known.items()}


def check_option(option: Option, value: Any) -> None:
    if isinstance(option.default, tuple | list):
        is_right = isinstance(value, list | tuple) and len(value) > 0 and set(value) <= set(option.values)
        possible = _("a list of %(values)s") % {"values": ", ".join(map(str, option.values))}
    elif option.values:
        is_right = value in option.values
        possible = ", ".join(map(str, option.values))
    else:
        is_right = type(value) is int and value >= 1
        possible = _("a whole number from 1")
    if not is_right:
        raise OptionError(
            _("The option '%(name)s' is %(value)s; it can be %(possible)s.")
            % {"name": option.name, "value": repr(value), "possible": possible}
        )
