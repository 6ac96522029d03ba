"""What a simulated annotator sees in a frozen stimulus: how far its cells agree in what is known of their images.

Known are an image's attributes and label, and where its mask lies. For each attribute the *agreement* of the cells is
that of their most frequent value beyond its share in the image set, a = (p - q) / (1 - q), so that a common value earns
nothing. Patches also have a place (on, at the edge of, or off the mask) and a region of the picture (three by three).
The image score is the best agreement of the images, weakened where the map is neither on nor off the mask; the patch
score is the best agreement of the patches, weakened where they lie in different places. No image set is known by name.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from annotation.domain.pixels import crop_box, framing_of
from annotation.domain.stimuli import panel_cells, stimulus_record
from annotation.domain.storage import image_root
from annotation.models import Feature, Image, ImageSet, Study, VisionModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_VALUES = 24  # an attribute with more values is a measurement, not a kind
ON_MASK, OFF_MASK = 0.75, 0.05
REGIONS = ("top", "middle", "bottom"), ("left", "center", "right")


class Finding(NamedTuple):
    """The best agreement found, and of what."""

    score: float
    attribute: str
    value: str


class Sight(NamedTuple):
    patches: Finding
    images: Finding


NOTHING = Finding(0.0, "", "")


class KnownImages:
    """What is known of the images of one set, and how usual each value is."""

    def __init__(self, image_set: ImageSet, vision_model: VisionModel) -> None:
        self.root = image_root(image_set)
        self.framing = framing_of(vision_model)
        self.grid = (vision_model.grid_height, vision_model.grid_width)
        rows = Image.objects.filter(image_set=image_set).order_by("index")
        self.images: dict[int, Image] = {image.index: image for image in rows}
        counts: dict[str, Counter[str]] = {}
        for image in self.images.values():
            for name, value in known_values(image).items():
                counts.setdefault(name, Counter())[value] += 1
        self.usual = {
            name: {value: n / values.total() for value, n in values.items()}
            for name, values in counts.items()
            if 2 <= len(values) <= MOST_VALUES
        }
        self.mask_share = lru_cache(maxsize=20_000)(self.read_mask_share)

    def values(self, index: int) -> dict[str, str]:
        return {name: value for name, value in known_values(self.images[index]).items() if name in self.usual}

    def read_mask_share(self, index: int) -> NDArray[np.float32] | None:
        """Share of each patch that lies on the mask, patch by patch; None for an image without a mask."""
        import numpy as np
        from PIL import Image as Picture

        from workers.image_decoding import decode_mask

        image = self.images[index]
        if not image.mask_path:
            return None
        mask = decode_mask((self.root / image.mask_path).read_bytes(), image.mask_path)
        picture = Picture.fromarray(mask.astype(np.float32))
        box = crop_box(picture.width, picture.height, self.framing)
        shares = picture.resize(self.grid[::-1], Picture.Resampling.BOX, box=box)
        return np.asarray(shares, dtype=np.float32).reshape(-1)


def known_values(image: Image) -> dict[str, str]:
    known = {name: str(value) for name, value in image.attributes.items() if isinstance(value, str | int | bool)}
    return known | ({"class": image.label} if image.label else {})


def known_images_of(study: Study) -> KnownImages:
    """The images the study's features have exemplars on, as its vision model sees them."""
    rows = Feature.objects.filter(items__study=study).select_related(
        "exemplar_set__image_set", "dictionary__vision_model"
    )
    feature = rows.order_by("id")[0]
    return KnownImages(feature.exemplar_set.image_set, feature.dictionary.vision_model)


def look(study: Study, stimulus_id: str, known: KnownImages) -> Sight:
    record = stimulus_record(study.stimuli_digest, stimulus_id)
    return Sight(
        look_at_patches(panel_cells(record, "patches"), known), look_at_images(panel_cells(record, "images"), known)
    )


def look_at_images(cells: Sequence[Mapping[str, Any]], known: KnownImages) -> Finding:
    if not cells:
        return NOTHING
    found = best_agreement([known.values(cell["image_index"]) for cell in cells], known.usual)
    on_mask = [share for share in (mass_on_mask(cell, known) for cell in cells) if share is not None]
    focus = abs(2 * sum(on_mask) / len(on_mask) - 1) if on_mask else 1.0
    return found._replace(score=found.score * (0.7 + 0.3 * focus))


def mass_on_mask(cell: Mapping[str, Any], known: KnownImages) -> float | None:
    """Share of the map's mass that lies on the mask; None without mask or mass."""
    import numpy as np

    shares = known.mask_share(cell["image_index"])
    patch_map = np.frombuffer(base64.b64decode(cell["map"]), np.uint8).astype(np.float32)
    if shares is None or not patch_map.any():
        return None
    return float((patch_map * shares).sum() / patch_map.sum())


def look_at_patches(cells: Sequence[Mapping[str, Any]], known: KnownImages) -> Finding:
    if not cells:
        return NOTHING
    places = [place_of(cell, known) for cell in cells]
    n_alike = Counter(places).most_common(1)[0][1]
    found = best_agreement([known.values(cell["image_index"]) for cell in cells], known.usual)
    inner = found._replace(score=found.score * n_alike / len(cells))
    regions = [{"region": region_of(cell["patch_index"], known.grid)} for cell in cells]
    by_region = best_agreement(regions, {"region": {" ".join((a, b)): 1 / 9 for a in REGIONS[0] for b in REGIONS[1]}})
    n_edge = places.count("edge")
    edge = Finding(max(0.0, (n_edge / len(cells) - 0.3) / 0.7), "edge", "object")
    return max(inner, edge, by_region, key=lambda finding: finding.score)


def place_of(cell: Mapping[str, Any], known: KnownImages) -> str:
    """'on', 'edge' or 'off' the mask; one place for all where there are no masks."""
    shares = known.mask_share(cell["image_index"])
    if shares is None:
        return "unknown"
    share = float(shares[cell["patch_index"]])
    return "on" if share >= ON_MASK else ("off" if share <= OFF_MASK else "edge")


def region_of(patch: int, grid: tuple[int, int]) -> str:
    row, column = divmod(patch, grid[1])
    return f"{REGIONS[0][3 * row // grid[0]]} {REGIONS[1][3 * column // grid[1]]}"


def best_agreement(cells: Iterable[Mapping[str, str]], usual: Mapping[str, Mapping[str, float]]) -> Finding:
    """The attribute whose most frequent value is most above its usual share."""
    listed = list(cells)
    best = NOTHING
    for name, shares in usual.items():
        values = Counter(cell[name] for cell in listed if name in cell)
        if not values:
            continue
        value, n = max(values.items(), key=lambda entry: (entry[1], entry[0]))
        share = shares.get(value, 0.0)
        score = max(0.0, (n / len(listed) - share) / (1 - share))
        best = max(best, Finding(score, name, value), key=lambda finding: finding.score)
    return best
