"""Tiny studies with real frozen pictures, for the tests of pages and of the player."""

from __future__ import annotations

import base64
import uuid
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from django.utils import timezone
from PIL import Image as Picture
from PIL import ImageDraw

from annotation.domain.storage import artifact_store
from annotation.models import (
    Annotation,
    Category,
    Condition,
    Dictionary,
    ExemplarSet,
    Feature,
    Guideline,
    Image,
    ImageSet,
    Item,
    Participation,
    ReferenceItem,
    Role,
    Slot,
    Study,
    User,
    VisionModel,
)

GRID = 8
CELL = 48
ZOOM = 96
N_SHEETS = 4  # pictures drawn; more stimuli share them
N_CELLS = 16
CATEGORIES = (("colour", "l"), ("shape", "h"), ("texture", "x"), ("object", "o"), ("part", "p"), ("background", "b"))
GUIDELINE = "# What to do\n\nLook at the **patches** first, then at the images.\n\n- 1 no\n- 4 clearly\n"
COLORS = ("#d1495b", "#30638e", "#edae49", "#00798c", "#8f5db7", "#4f772d")


class OpenStudy(NamedTuple):
    study: Study
    researcher: User
    items: list[Item]
    practice: list[ReferenceItem]


def make_person(name: str, role: str = Role.ANNOTATOR) -> User:
    """Somebody without a password, because hashing one takes longer than a whole test; sign in with force_login."""
    return User.objects.create(username=name, role=role)


def make_dictionary(name: str = "sae", *, kind: str = "topk_sae") -> Dictionary:
    image_set, _ = ImageSet.objects.get_or_create(name="discs", defaults={"digest": "1" * 64, "n_images": N_CELLS})
    Image.objects.bulk_create(
        [
            Image(image_set=image_set, index=i, path=f"{i}.png", sha256=f"{i:064x}", width=64, height=64)
            for i in range(N_CELLS)
        ],
        ignore_conflicts=True,
    )
    model, _ = VisionModel.objects.get_or_create(
        name="small",
        defaults={
            "digest": "2" * 64, "architecture": "vit", "source": "untrained", "n_blocks": 2, "d_model": 8,
            "n_prefix_tokens": 1, "grid_height": GRID, "grid_width": GRID,
        },
    )  # fmt: skip
    return Dictionary.objects.create(
        name=name, digest=uuid.uuid5(uuid.NAMESPACE_OID, name).hex, kind=kind, vision_model=model, image_set=image_set,
        hookpoints=["blocks.0", "blocks.1"],
    )  # fmt: skip


def make_features(dictionary: Dictionary, n: int, **fields: Any) -> list[Feature]:
    exemplars, _ = ExemplarSet.objects.get_or_create(
        digest=f"e{dictionary.pk}", defaults={"dictionary": dictionary, "image_set": dictionary.image_set}
    )
    values = {"mean": 1.0, "maximum": 2.0, "prefix_share": 0.0, "n_images_active": 50} | fields
    return Feature.objects.bulk_create(
        Feature(
            dictionary=dictionary, exemplar_set=exemplars, hookpoint=f"blocks.{i % 2}", block=i % 2, latent=i,
            density=0.001 * (i % 10 + 1), **values,
        )
        for i in range(n)
    )  # fmt: skip


def disc(rng: np.random.Generator, color: str, side: int = 64) -> tuple[Picture.Image, tuple[int, int]]:
    """A disc somewhere on a noisy ground, and the patch of the grid at its middle."""
    ground = rng.integers(150, 210, size=(8, 8, 3), dtype=np.uint8)
    picture = Picture.fromarray(ground).resize((side, side), Picture.Resampling.BICUBIC)
    x, y = (int(v) for v in rng.integers(16, side - 16, size=2))
    ImageDraw.Draw(picture).ellipse((x - 12, y - 12, x + 12, y + 12), fill=color)
    return picture, (x * GRID // side, y * GRID // side)


def heat_of(center: tuple[int, int]) -> bytes:
    rows, columns = np.mgrid[0:GRID, 0:GRID]
    distance = np.hypot(columns - center[0], rows - center[1])
    return bytes(np.where(distance < 2.3, 255 * np.exp(-(distance**2) / 3), 0).astype(np.uint8).ravel())


def place(index: int, side: int) -> dict[str, int]:
    return {"x": side * (index % 4), "y": side * (index // 4), "w": side, "h": side}


class Sheet(NamedTuple):
    """The files of one stimulus: cells of patches above, cells of images below, each in four columns."""

    sprite: bytes
    zoom: bytes
    record: dict[str, Any]


@lru_cache
def sheet_of(seed: int) -> Sheet:
    rng = np.random.default_rng(seed)
    rows = N_CELLS // 4
    sprite = Picture.new("RGB", (4 * CELL, 2 * rows * CELL))
    zoom = Picture.new("RGB", (4 * ZOOM, rows * ZOOM))
    patches, images = [], []
    for index in range(N_CELLS):
        picture, center = disc(rng, COLORS[seed % len(COLORS)])
        patch, whole, large = place(index, CELL), place(N_CELLS + index, CELL), place(index, ZOOM)
        sprite.paste(picture.resize((CELL, CELL)), (whole["x"], whole["y"]))
        zoom.paste(picture.resize((ZOOM, ZOOM)), (large["x"], large["y"]))
        left, top = (min(max(c * 8 - 8, 0), 64 - 24) for c in center)
        sprite.paste(picture.crop((left, top, left + 24, top + 24)).resize((CELL, CELL)), (patch["x"], patch["y"]))
        box = [(center[0] * 8 - left) * CELL // 24, (center[1] * 8 - top) * CELL // 24, CELL // 3, CELL // 3]
        patches.append(patch | {"box": box, "image_index": index, "patch_index": center[1] * GRID + center[0]})
        images.append(
            whole
            | {"zoom": [large["x"], large["y"], ZOOM, ZOOM], "value": round(1 - index / 20, 3), "image_index": index}
            | {"map": base64.b64encode(heat_of(center)).decode()}
        )
    panels = [
        {"name": "patches", "kind": "patches", "cells": patches},
        {"name": "images", "kind": "images", "cells": images},
    ]
    record = {"grid": [GRID, GRID], "panels": panels, "text": "", "truth": {}}
    return Sheet(as_webp(sprite), as_webp(zoom), record)


def as_webp(picture: Picture.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "WEBP", quality=82, method=0)
    return file.getvalue()


def write_stimuli(stimulus_ids: list[str]) -> str:
    """A stimuli artefact with the files of each id; returns its digest."""
    with artifact_store().write("stimuli", config={"n": len(stimulus_ids)}) as writer:
        for folder in ("sprites", "zoom"):
            (writer.folder / folder).mkdir()
        for index, stimulus_id in enumerate(stimulus_ids):
            sheet = sheet_of(index % N_SHEETS)
            (writer.folder / f"sprites/{stimulus_id}.webp").write_bytes(sheet.sprite)
            (writer.folder / f"zoom/{stimulus_id}.webp").write_bytes(sheet.zoom)
            writer.write_json(f"items/{stimulus_id}.json", sheet.record)
    return writer.digest


def make_draft_study(slug: str = "discs", **fields: Any) -> Study:
    researcher, _ = User.objects.get_or_create(username="rhea", defaults={"role": Role.RESEARCHER})
    study = Study.objects.create(name=f"Study of {slug}", slug=slug, created_by=researcher, **fields)
    Guideline.objects.create(study=study, version=1, text=GUIDELINE, created_by=researcher)
    for position, (name, key) in enumerate(CATEGORIES):
        Category.objects.create(study=study, name=name, key=key, position=position)
    return study


def make_open_study(slug: str = "discs", *, n_items: int = 12, n_practice: int = 2, **fields: Any) -> OpenStudy:
    """An open study with one slot per item and frozen pictures under settings.ARTIFACT_ROOT."""
    study = make_draft_study(slug, **fields)
    features = make_features(make_dictionary(f"sae {slug}"), n_items + n_practice)
    ids = [f"{index:064x}" for index in range(n_items + n_practice)]
    Study.objects.filter(pk=study.pk).update(
        state=Study.State.OPEN, stimuli_digest=write_stimuli(ids), n_items=n_items, n_slots=n_items
    )
    study.refresh_from_db()
    items = Item.objects.bulk_create(
        Item(study=study, feature=features[i], condition=Condition.REAL, stimulus_id=ids[i]) for i in range(n_items)
    )
    Slot.objects.bulk_create(Slot(study=study, item=item, random_key=7 * i) for i, item in enumerate(items))
    practice = ReferenceItem.objects.bulk_create(
        ReferenceItem(
            study=study, kind=ReferenceItem.Kind.PRACTICE, position=i, feature=features[n_items + i],
            accepted={"patch_rating": [3, 4], "category": ["colour"]}, reason="All of them are discs of one color.",
            stimulus_id=ids[n_items + i],
        )
        for i in range(n_practice)
    )  # fmt: skip
    return OpenStudy(study, User.objects.get(username="rhea"), items, practice)


def make_annotator(study: Study, name: str = "ada", *, is_ready: bool = True) -> User:
    """A person in the study; ready means consent given, guideline read, practice passed."""
    user = make_person(name)
    ready: dict[str, Any] = {}
    if is_ready:
        ready = {
            "consented_at": timezone.now(), "consent_version": study.consent_version, "guideline_version": 1,
            "practised_at": timezone.now(),
        }  # fmt: skip
    Participation.objects.create(study=study, user=user, **ready)
    return user


def make_annotation(item: Item, annotator: User, **fields: Any) -> Annotation:
    """An answer as stored, past the queue."""
    values: dict[str, Any] = {
        "uuid": uuid.uuid4(), "study_id": item.study_id, "item": item, "annotator": annotator, "patch_rating": 3,
        "image_rating": 2, "submitted_at": timezone.now(), "protocol_version": "1.0", "guideline_version": 1,
        "stimulus_id": item.stimulus_id, "app_version": "test",
    }  # fmt: skip
    return Annotation.objects.create(**(values | fields))
