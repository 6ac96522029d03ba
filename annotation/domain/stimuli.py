"""Frozen stimuli as the player gets them: what lies on the server about where a cell came from is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.utils.translation import gettext

from annotation.domain.storage import artifact_store
from annotation.models import Study, User
from workers.artifacts import ArtifactError

SERVER_ONLY = ("image_index", "patch_index")
SHOWN = ("grid", "text")


class StimulusError(Exception):
    """There is no such stimulus; the message says why."""


@lru_cache(maxsize=4096)
def stimulus_record(stimuli_digest: str, stimulus_id: str) -> dict[str, Any]:
    """Everything frozen about a stimulus, the index of each cell's image included; immutable, so it is kept."""
    if not stimuli_digest or not stimulus_id.isalnum():
        raise StimulusError(gettext("This study has no frozen stimuli yet; launch it first."))
    record: dict[str, Any] = artifact_store().open(stimuli_digest, kind="stimuli").json(f"items/{stimulus_id}.json")
    return record


def stimulus_for_player(*, study: Study, stimulus_id: str) -> dict[str, Any]:
    """The stimulus without its truth and what tells where it came from, and with the addresses of its pictures."""
    record = stimulus_record(study.stimuli_digest, stimulus_id)
    base = f"/stimuli/{study.stimuli_digest}"
    return {
        "id": stimulus_id,
        "sprite": f"{base}/{stimulus_id}.webp",
        "zoom": f"{base}/{stimulus_id}.zoom.webp",
        "panels": [shown_panel(panel) for panel in record["panels"]],
    } | {name: record[name] for name in SHOWN}


def shown_panel(panel: Mapping[str, Any]) -> dict[str, Any]:
    cells = [{key: value for key, value in cell.items() if key not in SERVER_ONLY} for cell in panel["cells"]]
    return {"name": panel["name"], "kind": panel["kind"], "cells": cells}


@lru_cache(maxsize=2048)
def stimulus_json(stimuli_digest: str, stimulus_id: str) -> str:
    """What the player gets, written once: a stimulus never changes, and a claim sends five."""
    return json.dumps(stimulus_for_player(study=Study(stimuli_digest=stimuli_digest), stimulus_id=stimulus_id))


def panel_cells(record: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The cells of one panel of a record; none where it has no such panel."""
    return next((panel["cells"] for panel in record["panels"] if panel["name"] == name), [])


def image_of_cell(*, study: Study, stimulus_id: str, panel: str, cell: int) -> int:
    """The index in its image set of the image in one cell of one panel."""
    cells = panel_cells(stimulus_record(study.stimuli_digest, stimulus_id), panel)
    if not 0 <= cell < len(cells):
        raise StimulusError(
            gettext("The panel '%(panel)s' has %(n)s pictures; there is no number %(cell)s.")
            % {"panel": panel, "n": len(cells), "cell": cell}
        )
    return int(cells[cell]["image_index"])


def stimulus_file(*, user: User, digest: str, name: str) -> Path:
    """The file of a picture that this person may see: ID.webp or ID.zoom.webp of a study they are in."""
    if not user.is_researcher and not Study.objects.filter(stimuli_digest=digest, participations__user=user).exists():
        raise StimulusError(gettext("You are in no study that shows this picture."))
    stimulus_id, _, suffix = name.partition(".")
    folder = {"webp": "sprites", "zoom.webp": "zoom"}.get(suffix)
    if folder is None or not stimulus_id.isalnum():
        raise StimulusError(gettext("There is no picture '%(name)s'.") % {"name": name})
    try:
        return artifact_store().open(digest, kind="stimuli").path(f"{folder}/{stimulus_id}.webp")
    except ArtifactError as error:
        raise StimulusError(gettext("There is no picture '%(name)s'.") % {"name": name}) from error
