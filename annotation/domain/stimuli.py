"""Frozen stimuli as the player gets them: what lies on the server about where a cell came from is left out."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from annotation.domain.storage import artifact_store
from annotation.models import Study, User
from workers.artifacts import ArtifactError

SERVER_ONLY = ("image_index", "patch_index")
CELLS = ("patches", "images")


class StimulusError(Exception):
    """There is no such stimulus; the message says why."""


@lru_cache(maxsize=4096)
def stimulus_record(stimuli_digest: str, stimulus_id: str) -> dict[str, Any]:
    """Everything frozen about a stimulus, the index of each cell's image included; immutable, so it is kept."""
    if not stimuli_digest or not stimulus_id.isalnum():
        raise StimulusError("This study has no frozen stimuli yet; launch it first.")
    record: dict[str, Any] = artifact_store().open(stimuli_digest, kind="stimuli").json(f"items/{stimulus_id}.json")
    return record


def stimulus_for_player(*, study: Study, stimulus_id: str) -> dict[str, Any]:
    """The stimulus without what tells where it came from, and with the addresses of its pictures."""
    record = stimulus_record(study.stimuli_digest, stimulus_id)
    shown = {name: value for name, value in record.items() if name not in CELLS}
    for name in CELLS:
        shown[name] = [{key: v for key, v in cell.items() if key not in SERVER_ONLY} for cell in record[name]]
    base = f"/stimuli/{study.stimuli_digest}"
    return {
        "id": stimulus_id,
        "sprite": f"{base}/{stimulus_id}.webp",
        "zoom": f"{base}/{stimulus_id}.zoom.webp",
    } | shown


@lru_cache(maxsize=2048)
def stimulus_json(stimuli_digest: str, stimulus_id: str) -> str:
    """What the player gets, written once: a stimulus never changes, and a claim sends five."""
    return json.dumps(stimulus_for_player(study=Study(stimuli_digest=stimuli_digest), stimulus_id=stimulus_id))


def image_of_cell(*, study: Study, stimulus_id: str, cell: int) -> int:
    """The index in its image set of the image in one image cell."""
    images = stimulus_record(study.stimuli_digest, stimulus_id)["images"]
    if not 0 <= cell < len(images):
        raise StimulusError(f"The stimulus has {len(images)} images; there is no number {cell}.")
    return int(images[cell]["image_index"])


def stimulus_file(*, user: User, digest: str, name: str) -> Path:
    """The file of a picture that this person may see: ID.webp or ID.zoom.webp of a study they are in."""
    if not user.is_researcher and not Study.objects.filter(stimuli_digest=digest, participations__user=user).exists():
        raise StimulusError("You are in no study that shows this picture.")
    stimulus_id, _, suffix = name.partition(".")
    folder = {"webp": "sprites", "zoom.webp": "zoom"}.get(suffix)
    if folder is None or not stimulus_id.isalnum():
        raise StimulusError(f"There is no picture '{name}'.")
    try:
        return artifact_store().open(digest, kind="stimuli").path(f"{folder}/{stimulus_id}.webp")
    except ArtifactError as error:
        raise StimulusError(f"There is no picture '{name}'.") from error
