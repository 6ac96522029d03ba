"""The demo's two studies: one filled by simulated annotators and closed, one open for whoever looks at the demo."""

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
N_FEATURES = {SIMULATED: 180, OPEN: 90}
DESCRIPTIONS = {
    SIMULATED: "Simulated annotators answer by a rule from the frozen maps and the known masks and attributes.",
    OPEN: "Open to you: sign in as ada, or open the link as somebody new.",
}
N_CLEAR, N_UNCLEAR, N_GOLD = 7, 3, 8
N_CANDIDATES = 400


def build_studies(say: Say, dictionary: Dictionary) -> None:
    simulated = launched_study(SIMULATED, dictionary, say, is_simulated=True)
    if simulated.state == Study.State.OPEN:
        say("  simulated annotators answer")
        simulate_annotators(study=simulated)
        close_study(study=simulated, user=researcher())
    if simulated.state == Study.State.CLOSED and unblinding_of(simulated) is None:
        unblind(study=simulated, user=researcher())
    opened = launched_study(OPEN, dictionary, say, is_simulated=False)
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
    }
    values["settings"] |= {"is_simulated": is_simulated, "seed": values["settings"]["seed"] + len(name)}
    sharing = sharing_of(candidates(dictionary))
    values["practice"] = reference_rows(sharing, n_clear=N_CLEAR, n_unclear=N_UNCLEAR)
    used = {row["feature"] for row in values["practice"]}
    values["gold"] = reference_rows(
        [one for one in sharing if one.feature_id not in used], n_clear=N_GOLD - 2, n_unclear=2
    )
    study = create_study_from(values=values, folder=FOLDER, user=researcher())
    set_role(study=study, user=researcher(), username="rosa", role=Role.REVIEWER)
    return study


def candidates(dictionary: Dictionary) -> list[Feature]:
    """Features seen on enough images to be shown as practice, spread over the blocks."""
    features = dictionary.features.filter(n_images_active__gte=32, prefix_share__lte=0.2)
    return list(features.select_related("exemplar_set").order_by("latent", "block")[:N_CANDIDATES])
