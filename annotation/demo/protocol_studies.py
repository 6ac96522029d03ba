"""A small study of each protocol on the demo's dictionaries, as docs/guides/protocols describes them, made once each.

Each comes twice: one for people, left open, and one marked as simulated, filled by programs, closed and unblinded, so
that its report can be shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from django.conf import settings

from annotation.demo.accounts import researcher
from annotation.demo.build import MODEL, SAE, TEST_SET, TRAIN_SET
from annotation.demo.runs import Say, start_run, wait_for
from annotation.demo.studies import SIMULATED
from annotation.domain.artifact_names import with_digests
from annotation.domain.explanations import explanations_from_labels
from annotation.domain.launching import launch_study
from annotation.domain.protocols import PROTOCOLS
from annotation.domain.simulation import simulate_annotators
from annotation.domain.studies import close_study
from annotation.domain.study_artifacts import artifacts_of_kind
from annotation.domain.study_files import create_study_from
from annotation.domain.unblinding import unblind, unblinding_of
from annotation.models import Dictionary, ExplanationSet, Study
from config.wakeup import wake_workers

FOLDER = Path(settings.BASE_DIR) / "docs" / "guides" / "protocols"
BY_PROGRAMS = ", answered by programs"
LABELS, SMALL = "shapes-labels", "shapes-small"
# What docs/guides/protocols/README.md makes with run_stage, word for word.
SMALL_DICTIONARY = {
    "image_set": TRAIN_SET, "vision_model": MODEL, "name": SMALL, "hookpoints": ["blocks.2", "blocks.4"],
    "n_latents": 128, "k": 8, "n_tokens": 200_000, "batch_tokens": 2048, "learning_rate": 2e-3,
}  # fmt: skip
EXEMPLARS = {"image_set": TEST_SET, "dictionaries": [SMALL]}
ALIGNMENT = {"dictionary": SAE, "other": SMALL, "pairs_per_bin": 10}
EMBEDDINGS = {"image_set": TEST_SET, "vision_model": MODEL}


def file_of(name: str) -> Path:
    return FOLDER / f"{name}.yaml"


def names() -> list[str]:
    """The protocols that have items of their own; adjudication settles the items of others."""
    return [name for name, protocol in PROTOCOLS.items() if protocol.builder]


def prepare(name: str, say: Say) -> None:
    """What the study file names and the demo does not have yet."""
    values = yaml.safe_load(file_of(name).read_text())
    if values.get("explanations") and not ExplanationSet.objects.filter(name=LABELS).exists():
        explanations_from_labels(study=Study.objects.get(name=SIMULATED), name=LABELS, user=researcher())
    if values.get("embeddings") and not artifacts_of_kind("image-embeddings"):
        execute("embed-images", EMBEDDINGS, "embeddings of the test images", say)
    if SMALL in values["dictionaries"] and not Dictionary.objects.filter(name=SMALL).exists():
        execute("train-dictionary", SMALL_DICTIONARY, "a smaller dictionary", say)
    if SMALL in values["dictionaries"] and not Dictionary.objects.get(name=SMALL).exemplar_sets.exists():
        execute("collect-exemplars", EXEMPLARS, "exemplars of the smaller dictionary", say)
    if values.get("alignment") and not artifacts_of_kind("alignment"):
        execute("align-dictionaries", ALIGNMENT, "the two dictionaries aligned", say)


def execute(stage: str, config: dict[str, Any], title: str, say: Say) -> None:
    wait_for(start_run(stage, with_digests(config), title=title, user=researcher()), say)


def opened_study(name: str, say: Say) -> Study:
    """The study of the file, launched and open for people."""
    return launched(name, {}, say)


def simulated_study(name: str, say: Say) -> Study:
    """Its copy for programs: filled, closed and unblinded."""
    study = launched(name, {"is_simulated": True}, say)
    if study.state == Study.State.OPEN:
        simulate_annotators(study=study)
        close_study(study=study, user=researcher())
        study.refresh_from_db()
    if unblinding_of(study) is None:
        unblind(study=study, user=researcher())
    return study


def launched(name: str, settings_besides: dict[str, Any], say: Say) -> Study:
    values: dict[str, Any] = yaml.safe_load(file_of(name).read_text())
    values["settings"] |= settings_besides
    if settings_besides:
        values["name"] += BY_PROGRAMS
    study = Study.objects.filter(name=values["name"]).first()
    if study is None:
        study = create_study_from(values=values, folder=FOLDER, user=researcher())
    if study.state == Study.State.DRAFT:
        wake_workers(launch_study(study=study, user=researcher()).queue)
    if study.launch_run is not None:
        wait_for(study.launch_run, say)
    study.refresh_from_db()
    return study
