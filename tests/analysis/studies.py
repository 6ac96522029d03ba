"""A small study with answers from a seeded process, for the tests of reports, exports and the API."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from annotation.models import (
    Annotation,
    Condition,
    Dictionary,
    ExemplarSet,
    Feature,
    ImageSet,
    Item,
    Participation,
    Role,
    Study,
    User,
    VisionModel,
)

STARTED = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)
CHANCE_OF_INTERPRETABLE = {Condition.REAL: 0.8, Condition.CATCH: 0.02, Condition.GOLD: 0.95}


class SmallStudy(NamedTuple):
    study: Study
    researcher: User
    annotators: list[User]
    items: list[Item]


def make_person(name: str, role: str = Role.ANNOTATOR, *, is_simulated: bool = False) -> User:
    return User.objects.create(username=name, role=role, is_simulated=is_simulated)


def make_dictionary(name: str) -> Dictionary:
    images, _ = ImageSet.objects.get_or_create(
        name="shapes", defaults={"digest": "1" * 64, "n_images": 8, "licence": "CC0", "allows_redistribution": True}
    )
    model, _ = VisionModel.objects.get_or_create(
        name="small",
        defaults={
            "digest": "2" * 64, "architecture": "vit", "source": "untrained", "n_blocks": 2, "d_model": 8,
            "n_prefix_tokens": 1, "grid_height": 4, "grid_width": 4,
        },
    )  # fmt: skip
    return Dictionary.objects.create(
        name=name,
        digest=uuid.uuid5(uuid.NAMESPACE_OID, name).hex,
        kind="topk_sae",
        vision_model=model,
        image_set=images,
    )


def make_features(dictionary: Dictionary, n: int, n_blocks: int = 2) -> list[Feature]:
    exemplars, _ = ExemplarSet.objects.get_or_create(
        digest=f"e{dictionary.pk}", defaults={"dictionary": dictionary, "image_set": dictionary.image_set}
    )
    return Feature.objects.bulk_create(
        Feature(
            dictionary=dictionary, exemplar_set=exemplars, hookpoint=f"blocks.{latent % n_blocks}",
            block=latent % n_blocks, latent=latent, density=0.01, mean=1.0, maximum=2.0, prefix_share=0.0,
            n_images_active=5,
        )
        for latent in range(n)
    )  # fmt: skip


def make_study(
    *,
    conditions: Iterable[Condition] = (Condition.REAL,) * 12
    + (Condition.RANDOM_DIRECTIONS,) * 4
    + (Condition.CATCH,) * 2,
    n_annotators: int = 3,
    state: str = Study.State.CLOSED,
    is_simulated: bool = False,
    slug: str = "first",
) -> SmallStudy:
    """Every annotator has rated every item."""
    researcher = make_person(f"researcher-{slug}", Role.RESEARCHER)
    study = Study.objects.create(
        name=f"Study {slug}", slug=slug, state=state, is_simulated=is_simulated, created_by=researcher, n_slots=100,
        n_slots_done=54,
    )  # fmt: skip
    kinds = list(conditions)
    features = make_features(make_dictionary(f"sae {slug}"), len(kinds))
    items = Item.objects.bulk_create(
        Item(study=study, feature=feature, condition=condition, stimulus_id=f"{index:064x}")
        for index, (feature, condition) in enumerate(zip(features, kinds, strict=True))
    )
    annotators = [make_person(f"{slug}-person-{index}", is_simulated=is_simulated) for index in range(n_annotators)]
    for annotator in annotators:
        Participation.objects.create(study=study, user=annotator, n_done=len(items))
    rng = np.random.default_rng(zlib.crc32(slug.encode()))
    Annotation.objects.bulk_create(answer(item, annotator, rng) for item in items for annotator in annotators)
    return SmallStudy(study, researcher, annotators, items)


def answer(item: Item, annotator: User, rng: np.random.Generator, **fields: object) -> Annotation:
    chance = CHANCE_OF_INTERPRETABLE.get(Condition(item.condition), 0.2)
    ratings = [int(rng.integers(3, 5)) if rng.random() < chance else int(rng.integers(1, 3)) for _ in range(2)]
    at = STARTED + timedelta(seconds=int(rng.integers(0, 9999)))
    values: dict[str, object] = {
        "uuid": uuid.UUID(bytes=rng.bytes(16)), "study": item.study, "item": item, "annotator": annotator,
        "is_simulated": annotator.is_simulated, "patch_rating": ratings[0], "image_rating": ratings[1],
        "category": "shape", "label": "round, “red” things", "shown_at": at, "submitted_at": at + timedelta(seconds=6),
        "visible_ms": 6000, "protocol_version": "1.0", "guideline_version": 1, "stimulus_id": item.stimulus_id,
        "app_version": "test", "timing": {"first_key_ms": 900},
        "payload": {"patch_rating": ratings[0], "image_rating": ratings[1]},
    }  # fmt: skip
    return Annotation(**(values | fields))
