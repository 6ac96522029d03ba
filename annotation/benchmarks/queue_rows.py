"""A study of a million slots in seconds: rows made by SQL, and a few real stimuli that all items share."""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.utils import timezone

from annotation.domain.storage import artifact_store
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
    Study,
    User,
    VisionModel,
)

N_STIMULI = 400
GRID = (14, 14)
HASH = 2654435761  # Knuth's multiplicative hash spreads consecutive numbers over the ring
ITEMS = """
INSERT INTO annotation_item (COLUMNS)
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %(n)s)
SELECT VALUES FROM n
"""
SLOTS = """
INSERT INTO annotation_slot (study_id, item_id, state, lane, random_key)
WITH RECURSIVE number(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM number WHERE k + 1 < %(overlap)s)
SELECT %(study)s, id, 'open', 1 + (k + id) %% %(overlap)s, ((id * %(overlap)s + k) * %(hash)s) %% 2147483648
FROM annotation_item, number WHERE study_id = %(study)s ORDER BY annotation_item.id, k
"""
ALL_OPEN = "UPDATE annotation_slot SET state = 'open', annotator_id = NULL WHERE state <> 'open'"
# The first slot of every item belongs to the heavy annotator but for one item in a hundred; the others to the rest in
# turn. What stays open is spread over all lanes, so that in each of them the heavy annotator finds little.
DONE = """
UPDATE annotation_slot SET state = 'done', annotator_id = CASE
    WHEN id %% %(overlap)s = 0 THEN %(heavy)s
    ELSE %(first)s + (item_id + (id %% %(overlap)s) * 7) %% %(n_others)s END
WHERE study_id = %(study)s AND CASE
    WHEN id %% %(overlap)s = 0 THEN item_id %% 100 <> 0
    ELSE (id * %(hash)s) %% 1000 >= %(open_per_mille)s END
"""


@dataclass(frozen=True)
class QueueScale:
    """How large the study is."""

    n_slots: int = 1_000_000
    n_annotators: int = 32
    overlap: int = 3

    @property
    def n_items(self) -> int:
        return self.n_slots // self.overlap


def make_study(scale: QueueScale) -> Study:
    """An open study with every slot open, its annotators ready to work."""
    with transaction.atomic():
        stimuli = write_stimuli()
        study = Study.objects.create(
            name="Queue benchmark", slug="queue", state=Study.State.OPEN, stimuli_digest=stimuli, locked_hash="5" * 64,
            n_items=scale.n_items, n_slots=scale.n_items * scale.overlap, is_simulated=True,
        )  # fmt: skip
        for position, (name, key) in enumerate((("shape", "h"), ("color", "v"), ("other", "m"))):
            Category.objects.create(study=study, name=name, key=key, position=position)
        Guideline.objects.create(study=study, version=1, text="Look, then say.")
        make_people(study, scale.n_annotators)
        with connection.cursor() as cursor:
            cursor.execute(*items_statement(study, scale.n_items))
            cursor.execute(SLOTS, {"study": study.pk, "overlap": scale.overlap, "hash": HASH})
    refresh_statistics()
    return study


def items_statement(study: Study, n: int) -> tuple[str, dict[str, Any]]:
    """One row per item, every column as a new Item has it but for the seed and the stimulus."""
    item = Item(study=study, feature=make_feature(), condition=Condition.REAL, is_core=True)
    fields = {str(field.column): field for field in Item._meta.concrete_fields if not field.primary_key}
    made = {"seed": "i", "stimulus_id": "'stimulus' || (i %% %(n_stimuli)s)"}
    columns = ", ".join(fields)
    values = ", ".join(made.get(column, f"%(column_{column})s") for column in fields)
    given: dict[str, Any] = {
        f"column_{column}": field.get_db_prep_save(field.pre_save(item, add=True), connection)
        for column, field in fields.items()
        if column not in made
    }
    return ITEMS.replace("COLUMNS", columns).replace("VALUES", values), given | {"n": n, "n_stimuli": N_STIMULI}


def mark_done(study: Study, scale: QueueScale, *, share: float) -> None:
    """Mark a share of the slots done, a third of all by one heavy annotator who has judged 99 items of 100."""
    users = annotators(study)
    n_open = round((1 - share) * scale.n_slots) - scale.n_items // 100
    per_mille = round(1000 * n_open / (scale.n_slots - scale.n_items))
    with connection.cursor() as cursor:
        cursor.execute(ALL_OPEN)
        cursor.execute(
            DONE,
            {
                "overlap": scale.overlap, "heavy": users[0].pk, "first": users[1].pk, "n_others": len(users) - 1,
                "study": study.pk, "hash": HASH, "open_per_mille": per_mille,
            },
        )  # fmt: skip
    refresh_statistics()


def refresh_statistics() -> None:
    """What autovacuum and checkpoints do in the days in which such a study fills, done before anything is measured."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM ANALYZE annotation_slot")
            cursor.execute("VACUUM ANALYZE annotation_item")
            cursor.execute("CHECKPOINT")
        else:
            cursor.execute("ANALYZE")


def annotators(study: Study) -> list[User]:
    return list(User.objects.filter(participations__study=study).order_by("id"))


def make_people(study: Study, n: int, *, prefix: str = "load") -> None:
    users = get_user_model().objects.bulk_create(
        User(username=f"{prefix}-{index:03d}", is_simulated=True) for index in range(n)
    )
    now = timezone.now()
    Participation.objects.bulk_create(
        Participation(
            study=study, user=user, consented_at=now, consent_version=study.consent_version, guideline_version=1,
            practised_at=now,
        )
        for user in users
    )  # fmt: skip


def make_feature(name: str = "queue") -> Feature:
    """Something to be judged; nothing of it is looked at."""
    images = ImageSet.objects.create(name=name, digest=f"{name} images", n_images=16)
    model = VisionModel.objects.create(
        name=name, digest=f"{name} model", architecture="vit", source="untrained", n_blocks=1, d_model=8,
        n_prefix_tokens=1, grid_height=GRID[0], grid_width=GRID[1],
    )  # fmt: skip
    dictionary = Dictionary.objects.create(
        name=name, digest=f"{name} dictionary", kind="topk_sae", vision_model=model, image_set=images
    )
    exemplars = ExemplarSet.objects.create(digest=f"{name} exemplars", dictionary=dictionary, image_set=images)
    return Feature.objects.create(
        dictionary=dictionary, exemplar_set=exemplars, hookpoint="blocks.0", block=0, latent=0, density=0.01, mean=1,
        maximum=2, prefix_share=0, n_images_active=50,
    )  # fmt: skip


def write_stimuli() -> str:
    """Records of the size that real ones have: 16 patches, 16 images with maps of 196 bytes."""
    rng = random.Random(0)
    with artifact_store().write("stimuli", config={"purpose": "queue benchmark"}) as writer:
        for number in range(N_STIMULI):
            writer.write_json(f"items/stimulus{number}.json", stimulus_record(rng))
    return writer.digest


def stimulus_record(rng: random.Random) -> dict[str, object]:
    cell = {"x": 0, "y": 0, "w": 96, "h": 96, "image_index": 1}
    whole = cell | {"zoom": [0, 0, 384, 384], "value": 0.5}
    maps = [base64.b64encode(rng.randbytes(GRID[0] * GRID[1])).decode() for _ in range(16)]
    patches = [cell | {"box": [32, 32, 32, 32], "patch_index": 3} for _ in range(16)]
    panels = [
        {"name": "patches", "kind": "patches", "cells": patches},
        {"name": "images", "kind": "images", "cells": [whole | {"map": one} for one in maps]},
    ]
    return {"grid": list(GRID), "panels": panels, "text": "", "truth": {}}
