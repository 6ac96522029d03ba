"""Pictures of features for pages: tiles, each one image with its heat map, and the maps that travel beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from annotation.domain.exemplar_rows import Exemplar, images_by_index, top_exemplars
from annotation.domain.labels import FirstLabel
from annotation.models import Dictionary, Feature, Image
from workers.artifacts import ArtifactError

Grid = tuple[int, int]


class Tile(NamedTuple):
    """One picture of a page; ``map_index`` is where its map lies in the page's JSON."""

    image: Image
    value: float
    patch: int
    map_index: int


class FeatureCard(NamedTuple):
    """A feature in a list: a few tiles and the label people gave it most, if any may be shown."""

    feature: Feature
    tiles: list[Tile]
    label: FirstLabel | None


class TileSheet:
    """The maps of all tiles of one page; `json_script` carries `data` to feature.js."""

    def __init__(self) -> None:
        self.maps: list[dict[str, Any]] = []

    @property
    def data(self) -> dict[str, Any]:
        return {"tiles": self.maps}

    def tiles(self, exemplars: Sequence[Exemplar], images: Mapping[int, Image], grid: Grid) -> list[Tile]:
        """Tiles of the exemplars whose images are registered."""
        return [self._tile(one, images[one.image_index], grid) for one in exemplars if one.image_index in images]

    def _tile(self, exemplar: Exemplar, image: Image, grid: Grid) -> Tile:
        self.maps.append({"map": exemplar.map_base64, "patch": exemplar.patch, "rows": grid[0], "columns": grid[1]})
        return Tile(image, exemplar.value, exemplar.patch, len(self.maps) - 1)


def grid_of(dictionary: Dictionary) -> Grid:
    return dictionary.vision_model.grid_height, dictionary.vision_model.grid_width


def feature_cards(
    rows: list[Feature], *, sheet: TileSheet, grid: Grid, n_tiles: int, labels: Mapping[int, FirstLabel]
) -> tuple[list[FeatureCard], str]:
    """The cards of a list; without the artefact the features are listed still, beside a sentence on what is missing."""
    problem = ""
    exemplars: dict[int, list[Exemplar]] = {}
    try:
        exemplars = top_exemplars(rows, n_tiles)
    except ArtifactError as error:
        problem = str(error)
    indices = [one.image_index for group in exemplars.values() for one in group]
    images = images_by_index(rows[0].exemplar_set.image_set_id, indices) if rows else {}
    cards = [FeatureCard(row, sheet.tiles(exemplars.get(row.pk, []), images, grid), labels.get(row.pk)) for row in rows]
    return cards, problem
