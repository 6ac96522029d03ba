"""Features to choose practice and gold items from, with thumbnails: fit to be shown, and not in the sample."""

from __future__ import annotations

from typing import NamedTuple

from annotation.domain.exemplar_rows import images_by_index, top_exemplars
from annotation.domain.pixels import framing_of
from annotation.domain.sampling import exclusion, hash_order, load_rows
from annotation.domain.study_checklist import try_sample
from annotation.domain.study_samples import reserved_features, study_dictionaries, study_spec
from annotation.domain.visibility import visible_features
from annotation.models import Feature, Image, ReferenceItem, Study, User
from workers.artifacts import ArtifactError

N_CANDIDATES = 24
N_THUMBNAILS = 4


class Candidate(NamedTuple):
    feature: Feature
    images: list[Image]
    framing: str


def candidates(study: Study, user: User) -> list[Candidate]:
    """Always the same ones for a study, so that the list does not jump while one chooses."""
    dictionaries, spec = study_dictionaries(study), study_spec(study)
    sample = try_sample(study)
    taken = set() if isinstance(sample, str) else {one.feature_id for one in sample.drawn}
    taken |= reserved_features(study)
    rows = [row for row in load_rows(dictionaries, spec) if row.id not in taken and exclusion(row, spec) is None]
    chosen = [row.id for row in sorted(rows, key=lambda row: hash_order(study.seed + 1, row.id))[:N_CANDIDATES]]
    features = visible_features(user).select_related("exemplar_set", "dictionary__vision_model").in_bulk(chosen)
    return with_thumbnails([features[pk] for pk in chosen if pk in features])


def reference_thumbnails(items: list[ReferenceItem]) -> dict[int, Candidate]:
    """The thumbnails of practice and gold items, by feature id."""
    features = {one.pk: one for item in items for one in (item.feature, item.other_feature) if one is not None}
    return {one.feature.pk: one for one in with_thumbnails(list(features.values()))}


def with_thumbnails(features: list[Feature]) -> list[Candidate]:
    """A feature whose exemplars are not in this store is listed without pictures."""
    try:
        exemplars = top_exemplars(features, N_THUMBNAILS)
    except ArtifactError:
        exemplars = {}
    by_set: dict[int, set[int]] = {}
    for feature in features:
        indices = {one.image_index for one in exemplars.get(feature.pk, [])}
        by_set.setdefault(feature.exemplar_set.image_set_id, set()).update(indices)
    images = {image_set_id: images_by_index(image_set_id, indices) for image_set_id, indices in by_set.items()}
    return [
        Candidate(
            feature,
            [
                images[feature.exemplar_set.image_set_id][one.image_index]
                for one in exemplars.get(feature.pk, [])
                if one.image_index in images[feature.exemplar_set.image_set_id]
            ],
            framing_of(feature.dictionary.vision_model),
        )
        for feature in features
    ]
