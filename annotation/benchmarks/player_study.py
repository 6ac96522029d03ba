"""A small open study with pictures of the size that real ones have, for people in a browser."""

from __future__ import annotations

import base64
import random
from io import BytesIO
from typing import TYPE_CHECKING, Any

from django.db import transaction

from annotation.benchmarks.queue_rows import GRID, make_feature, make_people
from annotation.domain.storage import artifact_store
from annotation.models import Category, Condition, Guideline, Item, Slot, Study

if TYPE_CHECKING:
    from PIL.Image import Image

N_SHEETS = 8
N_CELLS, COLUMNS = 16, 8
PATCH, PICTURE, ZOOM = 96, 160, 384
CATEGORIES = (("shape", "h"), ("color", "v"), ("other", "m"))


def make_player_study(*, n_items: int, n_people: int) -> Study:
    """An open study that everybody may judge whole."""
    ids = [f"{number:064x}" for number in range(n_items)]
    with transaction.atomic():
        study = Study.objects.create(
            name="Player benchmark", slug="player", state=Study.State.OPEN, stimuli_digest=write_stimuli(ids),
            locked_hash="6" * 64, n_items=n_items, n_slots=n_items * n_people, session_length=n_items,
            is_simulated=True,
        )  # fmt: skip
        for position, (name, key) in enumerate(CATEGORIES):
            Category.objects.create(study=study, name=name, key=key, position=position)
        Guideline.objects.create(study=study, version=1, text="Look, then say.")
        make_people(study, n_people, prefix="player")
        feature = make_feature("player")
        items = Item.objects.bulk_create(
            Item(study=study, feature=feature, condition=Condition.REAL, stimulus_id=one, is_core=True) for one in ids
        )
        Slot.objects.bulk_create(
            Slot(study=study, item=item, lane=1 + number, random_key=random.randrange(2**31))
            for item in items
            for number in range(n_people)
        )
    return study


def write_stimuli(ids: list[str]) -> str:
    """Each id with a sprite of its own address, so that no browser has it already; the pictures repeat."""
    rng = random.Random(1)
    sprites = [as_webp(noise(rng, (COLUMNS * PICTURE, 4 * PICTURE))) for _ in range(N_SHEETS)]
    zooms = [as_webp(noise(rng, (4 * ZOOM, 4 * ZOOM))) for _ in range(2)]
    with artifact_store().write("stimuli", config={"purpose": "player benchmark"}) as writer:
        for folder in ("sprites", "zoom"):
            (writer.folder / folder).mkdir()
        for number, stimulus_id in enumerate(ids):
            (writer.folder / f"sprites/{stimulus_id}.webp").write_bytes(sprites[number % N_SHEETS])
            (writer.folder / f"zoom/{stimulus_id}.webp").write_bytes(zooms[number % 2])
            writer.write_json(f"items/{stimulus_id}.json", record(rng))
    return writer.digest


def noise(rng: random.Random, size: tuple[int, int]) -> Image:
    """Soft color noise at several scales: about as many bytes per pixel as photographs."""
    from PIL import Image

    picture = Image.new("RGB", size, (128, 128, 128))
    for scale in (64, 16, 4):
        small = (max(2, size[0] // scale), max(2, size[1] // scale))
        layer = Image.frombytes("RGB", small, rng.randbytes(3 * small[0] * small[1]))
        picture = Image.blend(picture, layer.resize(size, Image.Resampling.BICUBIC), 0.35)
    return picture


def as_webp(picture: Image) -> bytes:
    file = BytesIO()
    picture.save(file, "WEBP", quality=80, method=0)
    return file.getvalue()


def record(rng: random.Random) -> dict[str, Any]:
    patches, images = [], []
    for index in range(N_CELLS):
        column, row = index % COLUMNS, index // COLUMNS
        x, y = column * PICTURE, row * PICTURE
        patch = {"x": x, "y": y, "w": PATCH, "h": PATCH, "image_index": index, "patch_index": 3}
        patches.append(patch | {"box": [32, 32, 32, 32]})
        zoom = [index % 4 * ZOOM, index // 4 * ZOOM, ZOOM, ZOOM]
        whole = {"x": x, "y": y + 2 * PICTURE, "w": PICTURE, "h": PICTURE, "image_index": index}
        heat = base64.b64encode(rng.randbytes(GRID[0] * GRID[1])).decode()
        images.append(whole | {"zoom": zoom, "value": round(1 - index / 20, 3), "map": heat})
    panels = [
        {"name": "patches", "kind": "patches", "cells": patches},
        {"name": "images", "kind": "images", "cells": images},
    ]
    return {"grid": list(GRID), "panels": panels, "text": "", "truth": {}}
