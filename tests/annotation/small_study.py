"""An open study with items and slots and no pictures: what the queue and the answers need."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.utils import timezone

from annotation.domain.answer_message import Answer
from annotation.models import (
    Category,
    Condition,
    Dictionary,
    ExemplarSet,
    Feature,
    Guideline,
    ImageSet,
    Item,
    Participation,
    Role,
    Slot,
    Study,
    User,
    VisionModel,
)
from annotation.models.study import QUEUE_KEYS

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class SmallStudy(NamedTuple):
    study: Study
    items: list[Item]
    people: list[User]


def make_person(name: str, role: str = Role.ANNOTATOR) -> User:
    return User.objects.create(username=name, role=role)


def make_dictionary(
    name: str = "sae", *, kind: str = "topk_sae", control_of: Dictionary | None = None, digest: str = ""
) -> Dictionary:
    images, _ = ImageSet.objects.get_or_create(name="shapes", defaults={"digest": "1" * 64, "n_images": 8})
    model, _ = VisionModel.objects.get_or_create(
        name="small",
        defaults={
            "digest": "2" * 64, "architecture": "vit", "source": "untrained", "n_blocks": 2, "d_model": 8,
            "n_prefix_tokens": 1, "grid_height": 4, "grid_width": 4,
        },
    )  # fmt: skip
    dictionary = Dictionary.objects.create(
        name=name, digest=digest or uuid.uuid5(uuid.NAMESPACE_OID, name).hex, kind=kind, vision_model=model,
        image_set=images, control_of=control_of, hookpoints=["blocks.0", "blocks.1"],
    )  # fmt: skip
    ExemplarSet.objects.create(digest=f"exemplars of {name}", dictionary=dictionary, image_set=images)
    return dictionary


def make_features(dictionary: Dictionary, n: int, *, n_blocks: int = 2, **fields: Any) -> list[Feature]:
    exemplars = dictionary.exemplar_sets.get()
    values: dict[str, Any] = {"mean": 1.0, "maximum": 2.0, "prefix_share": 0.0, "n_images_active": 50} | fields
    return Feature.objects.bulk_create(
        Feature(
            dictionary=dictionary, exemplar_set=exemplars, hookpoint=f"blocks.{latent % n_blocks}",
            block=latent % n_blocks, latent=latent // n_blocks,
            **({"density": 0.001 * (1 + latent)} | values),
        )
        for latent in range(n)
    )  # fmt: skip


def make_study(*, n_items: int = 12, overlap: int = 1, n_people: int = 2, slug: str = "first") -> SmallStudy:
    study = Study.objects.create(name=f"Study {slug}", slug=slug, state=Study.State.OPEN, n_items=n_items)
    for position, name in enumerate(("shape", "color", "other")):
        Category.objects.create(study=study, name=name, key=name[0], position=position)
    Guideline.objects.create(study=study, version=1, text="Look, then say.")
    features = make_features(make_dictionary(f"sae {slug}"), n_items)
    items = Item.objects.bulk_create(
        Item(study=study, feature=feature, condition=Condition.REAL, stimulus_id=f"{index:064x}")
        for index, feature in enumerate(features)
    )
    rng = random.Random(5)
    slots = [
        Slot(study=study, item=item, lane=1 + number, random_key=rng.randrange(QUEUE_KEYS))
        for item in items
        for number in range(overlap)
    ]
    Slot.objects.bulk_create(slots)
    Study.objects.filter(pk=study.pk).update(n_slots=len(slots))
    study.refresh_from_db()
    people = [make_person(f"{slug}-{index}") for index in range(n_people)]
    for person in people:
        join(study, person)
    return SmallStudy(study, items, people)


def join(study: Study, person: User) -> Participation:
    return Participation.objects.create(
        study=study, user=person, consented_at=timezone.now(), consent_version=study.consent_version,
        guideline_version=1, practised_at=timezone.now(),
    )  # fmt: skip


def make_answer(item: Item, slot: Slot | None = None, **fields: Any) -> Answer:
    payload = {"patch_rating": 3, "image_rating": 4, "category": "shape", "label": "round things"}
    values: dict[str, Any] = {
        "uuid": uuid.uuid4(), "item": item.pk, "slot": slot.pk if slot else None, "payload": payload,
        "submitted_at": NOON, "stimulus_id": item.stimulus_id, "guideline_version": 1, "timing": {"visible_ms": 4100},
    }  # fmt: skip
    return Answer(**(values | fields))
