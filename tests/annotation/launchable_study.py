"""A draft that can be launched: real images, real artefacts, a control dictionary, guideline, practice and gold."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from annotation.domain.features import load_features
from annotation.domain.storage import artifact_store
from annotation.domain.studies import create_study, write_guideline
from annotation.models import Dictionary, Feature, Image, ImageRoot, ImageSet, ReferenceItem, Role, Run, Study, User
from tests.exemplar_factory import (
    CLASSES,
    CatalogPlan,
    draw,
    make_dictionary,
    make_image_set,
    make_vision_model,
    write_exemplars,
)
from workers.image_scan import ImageRecord, Scan
from workers.images import write_image_set
from workers.stages.configs import config_from_dict
from workers.stages.context import SilentReporter
from workers.stages.local import run_locally

PLAN = CatalogPlan(n_images=72, n_latents=36, grid=(8, 8))


class Launchable(NamedTuple):
    study: Study
    researcher: User
    dictionary: Dictionary
    control: Dictionary


def make_launchable(folder: Path, **fields: Any) -> Launchable:
    rng = np.random.default_rng(PLAN.seed)
    drawn = [draw(rng) for _ in range(PLAN.n_images)]
    image_set = make_image_set(PLAN, drawn, folder / "objects")
    write_image_set_artifact(image_set, folder / "objects")
    vision_model = make_vision_model(PLAN)
    facts = {"preprocessing": {"size": 64, "crop_mode": "center", "crop_pct": 1.0}, "grid": list(PLAN.grid)}
    with artifact_store().write("vision-model", config={}) as writer:
        writer.write_json("model.json", facts)
    vision_model.digest = writer.digest
    vision_model.save()
    dictionary = make_dictionary(PLAN, vision_model, image_set)
    control_plan = replace(PLAN, kind="random_directions", seed=1)
    control = make_dictionary(control_plan, vision_model, image_set)
    Dictionary.objects.filter(pk=control.pk).update(control_of=dictionary)
    for plan, one in ((PLAN, dictionary), (control_plan, control)):
        load_features(artifact=write_exemplars(artifact_store(), plan, drawn, one), run=None)
    researcher = User.objects.create(username="rhea", role=Role.RESEARCHER)
    return Launchable(make_draft(dictionary, researcher, **fields), researcher, dictionary, control)


def write_image_set_artifact(image_set: ImageSet, root: Path) -> None:
    records = [
        ImageRecord(
            path=image.path, sha256=image.sha256, width=image.width, height=image.height, label=image.label,
            label_index=CLASSES.index(image.label), mask_path=image.mask_path,
            mask_sha256=hashlib.sha256((root / image.mask_path).read_bytes()).hexdigest(), attributes=image.attributes,
        )
        for image in Image.objects.filter(image_set=image_set).order_by("index")
    ]  # fmt: skip
    scan = Scan(records=records, classes=list(CLASSES), skipped=[])
    artifact = write_image_set(artifact_store(), scan, name="objects", licence="CC0", visibility="public")
    image_set.digest = artifact.digest
    image_set.save()


def make_draft(dictionary: Dictionary, researcher: User, **fields: Any) -> Study:
    sampler = {"dictionaries": [dictionary.pk], "n_features": 16, "n_density_bands": 2}
    study = create_study(name="First look", user=researcher, **({"sampler": sampler, "seed": 3} | fields))
    write_guideline(study=study, text="Look at the patches first.", user=researcher)
    features = Feature.objects.filter(dictionary=dictionary, n_images_active__gte=16).order_by("-id")
    practice, gold = ReferenceItem.Kind.PRACTICE, ReferenceItem.Kind.GOLD
    ReferenceItem.objects.bulk_create(
        ReferenceItem(
            study=study, kind=practice if index < 10 else gold, position=index, feature=feature,
            accepted={"patch_rating": [3, 4]}, reason="They are all on the object.",
        )
        for index, feature in enumerate(features[:12])
    )  # fmt: skip
    return study


def finish_run(run: Run, n_threads: int = 1) -> Run:
    """Do what a worker does, in this process."""
    from annotation.domain.recording import record_artifacts

    roots = {row.image_set.digest: Path(row.path) for row in ImageRoot.objects.select_related("image_set")}
    config = config_from_dict(run.stage, run.config)
    run.artifacts = run_locally(
        run.stage, config, artifact_store(), roots, reporter=SilentReporter(), n_threads=n_threads
    )
    run.state = Run.State.DONE
    run.save()
    record_artifacts(run)
    return run
