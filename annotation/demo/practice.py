"""Practice and gold items of the demo, chosen by what is known about the images: so the feedback is true.

A feature counts as clear when at least 15 of its 16 top images share a value of some attribute that is not usual in
the image set, and as unclear when no attribute is shared by more than 9 of them. Works on any image set whose images
have attributes with few values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from annotation.domain.exemplar_rows import images_by_index, top_exemplars
from annotation.models import Feature, Image

N_TOP = 16
N_VALUES_MOST = 12
CLEAR_FROM, UNCLEAR_TO = 15, 9
USUAL_SHARE = 0.5
LEAVE_OUT = frozenset({"split", "background_agrees"})


class Sharing(NamedTuple):
    """The attribute value that a feature's top images share most."""

    feature_id: int
    attribute: str
    value: str
    n_sharing: int

    @property
    def sentence(self) -> str:
        return f"{self.n_sharing} of the {N_TOP} strongest images have {self.attribute} “{self.value}”."


def known_values(image: Image) -> dict[str, str]:
    known = {name: str(value) for name, value in image.attributes.items() if name not in LEAVE_OUT}
    return known | ({"class": image.label} if image.label else {})


def usual_shares(images: Iterable[Image]) -> dict[tuple[str, str], float]:
    """How common each value is, for attributes with few values."""
    counts: dict[str, Counter[str]] = {}
    for image in images:
        for name, value in known_values(image).items():
            counts.setdefault(name, Counter())[value] += 1
    few = {name: values for name, values in counts.items() if 2 <= len(values) <= N_VALUES_MOST}
    return {(name, value): n / values.total() for name, values in few.items() for value, n in values.items()}


def most_shared(feature_id: int, images: Sequence[Image], usual: Mapping[tuple[str, str], float]) -> Sharing:
    shared = Counter(
        pair for image in images for pair in known_values(image).items() if usual.get(pair, 1) < USUAL_SHARE
    )
    (attribute, value), n_sharing = max(shared.items(), key=lambda entry: (entry[1], entry[0]))
    return Sharing(feature_id, attribute, value, n_sharing)


def sharing_of(features: Sequence[Feature]) -> list[Sharing]:
    """What the top images of each feature share; features of one exemplar set."""
    image_set_id = features[0].exemplar_set.image_set_id
    usual = usual_shares(Image.objects.filter(image_set=image_set_id))
    found = top_exemplars(features, N_TOP)
    images = images_by_index(image_set_id, {e.image_index for rows in found.values() for e in rows})
    return [
        most_shared(feature_id, [images[e.image_index] for e in rows], usual)
        for feature_id, rows in found.items()
        if len(rows) == N_TOP
    ]


def reference_rows(sharing: Iterable[Sharing], *, n_clear: int, n_unclear: int) -> list[dict[str, Any]]:
    """Entries for the study file: clear ones, one per attribute value where possible, mixed with unclear ones."""
    ranked = sorted(sharing, key=lambda s: (-s.n_sharing, s.feature_id))
    clear = [s for s in ranked if s.n_sharing >= CLEAR_FROM]
    first_of_value = list({(s.attribute, s.value): s for s in reversed(clear)}.values())[::-1]
    chosen = (first_of_value + [s for s in clear if s not in first_of_value])[:n_clear]
    unclear = [s for s in reversed(ranked) if s.n_sharing <= UNCLEAR_TO][:n_unclear]
    rows = [reference_row(s, [3, 4], s.sentence) for s in chosen]
    nothing = "No color, shape, texture, size or place is shared by more than {} of the 16 strongest images."
    rows += [reference_row(s, [1, 2, None], nothing.format(s.n_sharing)) for s in unclear]
    return [row for pair in zip(rows[::2], rows[1::2], strict=False) for row in reversed(pair)] + rows[len(rows) & ~1 :]


def reference_row(sharing: Sharing, image_ratings: list[int | None], reason: str) -> dict[str, Any]:
    return {"feature": sharing.feature_id, "accepted": {"image_rating": image_ratings}, "reason": reason}
