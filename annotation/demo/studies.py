"""The demo's studies: one filled by simulated annotators and closed, two open for whoever looks at the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from annotation.demo.accounts import researcher
from annotation.demo.practice import reference_rows, sharing_of
from annotation.demo.runs import Say, wait_for
from annotation.domain.launching import launch_study
from annotation.domain.participation import join_study
from annotation.domain.simulation import simulate_annotators
from annotation.domain.studies import close_study
from annotation.domain.study_editing import set_role
from annotation.domain.study_files import create_study_from
from annotation.domain.unblinding import unblind, unblinding_of
from annotation.models import Dictionary, Feature, Role, Study, User
from config.wakeup import wake_workers

FOLDER = Path(__file__).parent
SIMULATED = "Shapes world, answered by programs"
OPEN = "Shapes world, try it yourself"
INTRUDER = "Shapes world, find the intruder"
N_FEATURES = {SIMULATED: 180, OPEN: 90, INTRUDER: 36}
DESCRIPTIONS = {
    SIMULATED: "Simulated annotators answer by a rule from the frozen maps and the known masks and attributes.",
    OPEN: "Open to you: sign in as ada, or open the link as somebody new.",
    INTRUDER: "Five images, one of which does not belong: quick, without words, and with a right answer.",
}
PARTS: dict[str, dict[str, Any]] = {
    INTRUDER: {
        "protocol": "intruder",
        "guideline": "../domain/protocols/guidelines/intruder.md",
        "options": {"n_images": 5},
    },
}
SETTINGS = {INTRUDER: {"control_kinds": ["random_directions", "untrained_dictionary"], "core_share": 1.0}}
N_PRACTICE, N_GOLD = 10, 8
N_UNCLEAR = {SIMULATED: (3, 2), OPEN: (3, 2), INTRUDER: (0, 0)}  # among practice and gold; an intruder must be findable
N_CANDIDATES = 400


def build_studies(say: Say, dictionary: Dictionary) -> None:
    simulated = launched_study(SIMULATED, dictionary, say, is_simulated=True)
    if simulated.state == Study.State.OPEN:
        say("  simulated annotators answer")
        simulate_annotators(study=simulated)
        close_study(study=simulated, user=researcher())
    if simulated.state == Study.State.CLOSED and unblinding_of(simulated) is None:
        unblind(study=simulated, user=researcher())
    for name in (OPEN, INTRUDER):
        opened = launched_study(name, dictionary, say, is_simulated=False)
        join_study(token=opened.join_token, user=User.objects.get(username="ada"))


def launched_study(name: str, dictionary: Dictionary, say: Say, *, is_simulated: bool) -> Study:
    study = Study.objects.filter(name=name).first() or draft(name, dictionary, is_simulated=is_simulated)
    if study.state == Study.State.DRAFT:
        run = launch_study(study=study, user=researcher())
        wake_workers(run.queue)
    if study.launch_run is not None:
        wait_for(study.launch_run, say)
    study.refresh_from_db()
    return study


def draft(name: str, dictionary: Dictionary, *, is_simulated: bool) -> Study:
    values: dict[str, Any] = yaml.safe_load((FOLDER / "shapes_study.yaml").read_text())
    values |= {
        "name": name,
        "description": DESCRIPTIONS[name],
        "dictionaries": [dictionary.name],
        "sampler": {"n_features": N_FEATURES[name], "n_density_bands": 3},
    } | PARTS.get(name, {})
    seed = values["settings"]["seed"] + len(name)
    values["settings"] |= SETTINGS.get(name, {}) | {"is_simulated": is_simulated, "seed": seed}
    sharing = sharing_of(candidates(dictionary))
    in_practice, in_gold = N_UNCLEAR[name]
    values["practice"] = reference_rows(sharing, n_clear=N_PRACTICE - in_practice, n_unclear=in_practice)
    used = {row["feature"] for row in values["practice"]}
    left = [one for one in sharing if one.feature_id not in used]
    values["gold"] = reference_rows(left, n_clear=N_GOLD - in_gold, n_unclear=in_gold)
    study = create_study_from(values=values, folder=FOLDER, user=researcher())
    set_role(study=study, user=researcher(), username="rosa", role=Role.REVIEWER)
    return study


def candidates(dictionary: Dictionary) -> list[Feature]:
    """Features seen on enough images to be shown as practice, spread over the blocks."""
    features = dictionary.features.filter(n_images_active__gte=32, prefix_share__lte=0.2)
    return list(features.select_related("exemplar_set").order_by("latent", "block")[:N_CANDIDATES])
