"""Two studies to measure exports and reports on: one of N answers, one of a tenth, to see whether memory stays flat."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from django.conf import settings

from annotation.models import (
    Annotation,
    Condition,
    Dictionary,
    ExemplarSet,
    Feature,
    ImageSet,
    Item,
    Study,
    StudyEvent,
    User,
    VisionModel,
)

OVERLAP = 3
N_ANNOTATORS = 64
N_BLOCKS = 12
BATCH = 5000
SAMPLE_SECONDS = 0.02
ANSWERED_AT = datetime(2026, 1, 1, tzinfo=UTC)
CONDITIONS = (Condition.REAL,) * 9 + (Condition.RANDOM_DIRECTIONS,)


class Measurement(NamedTuple):
    seconds: float
    peak_bytes: int


def measure(arguments: list[str]) -> Measurement:
    """A management command in a process of its own: how long it took and the most memory it held.

    The peak is read from /proc while it runs: what wait4 tells begins with the peak of the process that forked it.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(Path(settings.BASE_DIR) / "manage.py"), *arguments], stdout=subprocess.DEVNULL
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, peak_bytes_of(process.pid))
        time.sleep(SAMPLE_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(f"'{' '.join(arguments)}' ended with {process.returncode}.")
    return Measurement(time.perf_counter() - started, peak)


def peak_bytes_of(pid: int) -> int:
    """VmHWM of a process; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def make_study(slug: str, n_answers: int) -> Study:
    """A closed, unblinded study of simulated answers; every item is judged by three of 64 annotators."""
    study = Study.objects.create(name=slug, slug=slug, state=Study.State.CLOSED, is_simulated=True)
    StudyEvent.objects.create(study=study, kind="unblinded", detail={"n_annotations": n_answers})
    people = [User(username=f"{slug}-{index}", is_simulated=True) for index in range(N_ANNOTATORS)]
    annotators = [person.pk for person in User.objects.bulk_create(people)]
    rng = np.random.default_rng(n_answers)
    n_items = n_answers // OVERLAP
    features = make_features(slug, n_items)
    for start in range(0, n_items, BATCH):
        items = Item.objects.bulk_create(
            Item(study=study, feature_id=pk, condition=CONDITIONS[pk % len(CONDITIONS)], stimulus_id=f"{pk:064x}")
            for pk in features[start : start + BATCH]
        )
        Annotation.objects.bulk_create(answers(study, items, annotators, rng), batch_size=BATCH)
    return study


def make_features(slug: str, n: int) -> list[int]:
    images = ImageSet.objects.create(name=slug, digest=f"images {slug}", n_images=0)
    model = VisionModel.objects.create(
        name=slug, digest=f"model {slug}", architecture="vit", source="untrained", n_blocks=N_BLOCKS, d_model=8,
        n_prefix_tokens=1, grid_height=4, grid_width=4,
    )  # fmt: skip
    dictionary = Dictionary.objects.create(
        name=slug, digest=f"dictionary {slug}", kind="topk_sae", vision_model=model, image_set=images
    )
    exemplars = ExemplarSet.objects.create(digest=f"exemplars {slug}", dictionary=dictionary, image_set=images)
    rows = (
        Feature(
            dictionary=dictionary, exemplar_set=exemplars, hookpoint=f"blocks.{latent % N_BLOCKS}",
            block=latent % N_BLOCKS, latent=latent, density=0.01, mean=1.0, maximum=1.0, prefix_share=0.0,
            n_images_active=1,
        )
        for latent in range(n)
    )  # fmt: skip
    made = Feature.objects.bulk_create(rows, batch_size=BATCH)
    return [feature.pk for feature in made]


def answers(study: Study, items: list[Item], annotators: list[int], rng: np.random.Generator) -> Iterator[Annotation]:
    for item in items:
        chance = rng.beta(4, 1) if item.condition == Condition.REAL else 0.1
        for annotator in rng.choice(annotators, OVERLAP, replace=False):
            patch, image = (int(value) for value in np.where(rng.random(2) < chance, 4, 1))
            yield Annotation(
                uuid=uuid.UUID(bytes=rng.bytes(16)), study=study, item=item, annotator_id=int(annotator),
                is_simulated=True, patch_rating=patch, image_rating=image, category="shape", label="round things",
                payload={"patch_rating": patch, "image_rating": image, "category": "shape", "label": "round things"},
                timing={"first_key_ms": 850, "overlay_toggles": 1}, shown_at=ANSWERED_AT, submitted_at=ANSWERED_AT,
                visible_ms=6000, protocol_version="1.0", guideline_version=1, stimulus_id=item.stimulus_id,
                app_version="benchmark",
            )  # fmt: skip
