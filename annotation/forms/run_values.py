"""What came to the form of a run, by its address or its own fields, and what of it holds now.

The form carries three things besides its fields, as hidden inputs: ``shown-NAME``, what a deciding choice was when the
page was made; ``kept-NAME``, the value of a setting that has no effect just now, so that it is there again when it has;
and ``kept-ticks-FAMILY``, the hookpoints ticked for the kinds that read elsewhere. So the server alone knows what
follows from a choice, with htmx or without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.datastructures import MultiValueDict

from workers.stages.configs.presets import PRESETS
from workers.stages.configs.training import MLP_IN, TRANSCODERS

SHOWN, KEPT, TICKS = "shown-", "kept-", "kept-ticks-"
FOLLOWED = ("kind", "preset", "vision_model")  # by which the form looks different
LISTS = ("hookpoints", "dictionaries")
FAMILIES = ("residual", "transcoder")


def plain_values(came: Mapping[str, Any]) -> dict[str, Any]:
    """A form's data or a query as single values, and lists where several may be ticked."""
    if not isinstance(came, MultiValueDict):
        return dict(came)
    return {
        name: entries if name in LISTS or name.startswith(TICKS) else entries[-1]
        for name, entries in came.lists()
        if entries
    }


def is_from_form(came: Mapping[str, Any]) -> bool:
    """Whether the form itself sent this, so that a box that is not there was not ticked."""
    return f"{SHOWN}stage" in came


def is_stale(came: Mapping[str, Any]) -> bool:
    """Whether a choice was changed that the page which sent this had not followed yet."""
    return any(came.get(SHOWN + name, came.get(name)) != came.get(name) for name in FOLLOWED if name in came)


def family_of(kind: str) -> str:
    return "transcoder" if kind in TRANSCODERS else "residual"


def ticked(came: Mapping[str, Any], kind: str) -> list[str] | None:
    """The hookpoints that are ticked now; None where the usual ones are to be."""
    if not is_from_form(came):
        return came.get("hookpoints") or None
    ticks = list(came.get("hookpoints", []))
    preset = came.get("preset", "")
    if preset != came.get(f"{SHOWN}preset", "") and preset in PRESETS and "hookpoints" in PRESETS[preset].values:
        return None
    family = family_of(kind)
    if family == family_of(came.get(f"{SHOWN}kind", "")):
        return ticks
    remembered = came.get(TICKS + family)
    return list(remembered) if remembered else [in_family(name, family) for name in ticks]


def in_family(hookpoint: str, family: str) -> str:
    """The same block's hookpoint that kinds of this family read."""
    block = ".".join(hookpoint.split(".")[:2])
    return block + MLP_IN if family == "transcoder" else block


def remembered_ticks(came: Mapping[str, Any], kind: str) -> dict[str, list[str]]:
    """What was ticked for the families that are not shown."""
    shown = family_of(came.get(f"{SHOWN}kind", kind))
    known = {family: list(came.get(TICKS + family, [])) for family in FAMILIES}
    if shown != family_of(kind):
        known[shown] = list(came.get("hookpoints", []))
    return {family: ticks for family, ticks in known.items() if ticks and family != family_of(kind)}
