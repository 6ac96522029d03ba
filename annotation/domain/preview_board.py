"""Items of a draft as they will be frozen: the launch's plan and the builders of the core, but nothing is rendered.

The plan is a function of the draft, so what is previewed is what a launch would freeze now; each cell shows its own
picture instead of a part of a sprite. The builders need numpy, so they are imported when they are called.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db.models import prefetch_related_objects

from annotation.domain.exemplar_rows import images_by_index, rows_of
from annotation.domain.launching import planned_study
from annotation.domain.pixels import framing_of
from annotation.domain.planning_items import PlannedItem
from annotation.domain.planning_lines import features_of, plan_line, source_of
from annotation.domain.preview_stimulus import SIDE, picture
from annotation.domain.protocols import protocol_of
from annotation.domain.storage import artifact_store
from annotation.models import Feature, Image, Study

if TYPE_CHECKING:
    from workers.stimuli.rendering import Board, Cell
    from workers.stimuli.sources import Sources

Draw = Callable[[Mapping[str, Any]], "Board | str"]


class Previewed(NamedTuple):
    """An item to look at: its practice or gold item (0 for none), what is shown, what is true of it."""

    reference: int
    stimulus: dict[str, Any]
    truth: Mapping[str, Any]


class Preview(NamedTuple):
    """The items that can be shown, and for those that cannot the reasons."""

    items: list[Previewed]
    reasons: list[str]


def preview_of(study: Study, n: int) -> Preview:
    """Practice and gold items, or the first of the study where it has none yet.

    Raises StudyError, SamplingError or ArtifactError where the draft cannot be planned or its exemplars are not here.
    """
    planned = planned_study(study).items
    chosen = ([item for item in planned if item.reference is not None] or planned)[-n:]
    features = features_of(chosen)
    prefetch_related_objects(list(features.values()), "dictionary__vision_model")
    sources = sorted({source_of(feature) for feature in features.values()})
    places = {pk: (sources.index(source_of(feature)), feature.latent) for pk, feature in features.items()}
    builder = protocol_of(study).builder
    items, reasons = [], []
    with open_boards(study, list(features.values()), sources) as draw:
        for number, item in enumerate(chosen):
            board = draw(plan_line(number, item, places, builder))
            if isinstance(board, str):
                reasons.append(board)
            else:
                items.append(previewed(item, board, features[item.feature]))
    return Preview(items, reasons)


@contextmanager
def open_boards(study: Study, features: Sequence[Feature], sources: Sequence[tuple[str, str]]) -> Iterator[Draw]:
    """A function that makes the board of a line of the plan, or says why it cannot be made."""
    from workers.stimuli.building import compose
    from workers.stimuli.plan import IneligibleError, PlanLine

    with open_features(study, features, sources) as found:

        def draw(line: Mapping[str, Any]) -> Board | str:
            try:
                return compose(PlanLine.from_json(line), found)
            except IneligibleError as reason:
                return str(reason)

        yield draw


@contextmanager
def open_features(study: Study, features: Sequence[Feature], sources: Sequence[tuple[str, str]]) -> Iterator[Sources]:
    from workers.stimuli.similarity import open_similarity
    from workers.stimuli.sources import ExemplarFile, sources_of

    store, by_source = artifact_store(), {source_of(feature): feature for feature in features}
    with ExitStack() as stack:
        files = []
        for digest, name in sources:
            artifact, one = store.open(digest, kind="exemplars"), by_source[digest, name]
            row = stack.enter_context(rows_of(artifact, one.hookpoint, one.pole))
            seed = int(artifact.json("exemplars.json")["settings"].get("seed", 0))
            files.append(ExemplarFile(digest, seed, name, row))
        similarity = None
        if study.embeddings_digest:
            path = store.open(study.embeddings_digest, kind="image-embeddings").path("embeddings.safetensors")
            similarity = stack.enter_context(open_similarity(path))
        yield sources_of(files, similarity)


def previewed(item: PlannedItem, board: Board, feature: Feature) -> Previewed:
    model = feature.dictionary.vision_model
    shown = [cell.image for panel in board.panels for cell in panel.cells]
    images, grid = images_by_index(feature.exemplar_set.image_set_id, shown), (model.grid_height, model.grid_width)
    panels = []
    for panel in board.panels:
        cells = [
            shown_cell(cell, images[cell.image], framing_of(model), grid, is_crop=panel.kind == "patches")
            for cell in panel.cells
            if cell.image in images
        ]
        panels.append({"name": panel.name, "kind": panel.kind, "cells": cells})
    stimulus = {
        "id": f"preview-{item.feature}-{item.seed}", "sprite": None, "zoom": None, "grid": list(grid),
        "panels": panels, "text": item.shown.text,
    }  # fmt: skip
    return Previewed(item.reference or 0, stimulus, board.truth)


def shown_cell(cell: Cell, image: Image, framing: str, grid: tuple[int, int], *, is_crop: bool) -> dict[str, Any]:
    """A cell with its own picture: a patch with its surroundings, or the whole image with what may be seen of it."""
    from workers.stimuli.geometry import patch_box, patch_window

    source = {"src": picture(image, framing)}
    if is_crop:
        assert cell.patch is not None, "a cell of patches names its patch"
        row, column, n_along = patch_window(grid, cell.patch)
        left, top, _, _ = patch_box(grid, row * grid[1] + column, SIDE)
        x, y, w, h = patch_box(grid, cell.patch, SIDE)
        return source | {"x": left, "y": top, "w": n_along * w, "h": n_along * h, "box": [x - left, y - top, w, h]}
    record: dict[str, Any] = source | {"x": 0, "y": 0, "w": SIDE, "h": SIDE}
    if cell.map is not None:
        record["map"] = base64.b64encode(cell.map.tobytes()).decode()
    if cell.value is not None:
        record["value"] = round(cell.value, 3)
    if cell.patch is not None:
        record["box"] = patch_box(grid, cell.patch, SIDE)
    return record
