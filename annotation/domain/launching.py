"""Launch: the sample is drawn, the settings are locked, and a run freezes what people will see.

The plan handed to the run says what to render and nothing of conditions; those lie beside it in conditions.jsonl, which
the run does not read. When the run is done its stimuli become items and slots in one transaction and the study opens;
when it fails the study is a draft again and says why.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from annotation.domain.answer_message import AnswerError
from annotation.domain.controls import (
    CONTROL_CONDITIONS,
    Cell,
    PlannedItem,
    Shares,
    available_controls,
    load_pool,
    plan_items,
    reference_item,
)
from annotation.domain.features import pole_file_name
from annotation.domain.protocols import questions_of, validate_accepted
from annotation.domain.runs import create_run
from annotation.domain.sampling import SamplingError, study_dictionaries, study_sample, study_spec
from annotation.domain.storage import artifact_store
from annotation.domain.studies import N_PRACTICE, StudyError, log_event
from annotation.models import Condition, Feature, Item, ReferenceItem, Run, Slot, Study, User
from annotation.models.study import QUEUE_KEYS
from workers.artifacts import Artifact, canonical_json

LOCKED_FIELDS = (
    "protocol", "protocol_version", "protocol_options", "seed", "sampler", "exclusions", "overlap", "core_overlap",
    "core_share", "control_share", "control_kinds", "catch_share", "gold_share", "consent_text", "consent_version",
)  # fmt: skip
STAGE = "freeze-stimuli"
PRACTICE = "practice"
BATCH = 2000


def launch_problems(study: Study) -> list[str]:
    """What still stands in the way of a launch, a sentence each; nothing is drawn yet."""
    n_practice = study.reference_items.filter(kind=ReferenceItem.Kind.PRACTICE).count()
    checks = (
        (study.state == Study.State.DRAFT, f"The study is {study.state}; only a draft can be launched."),
        (study.guidelines.exists(), "Write the guideline that annotators read first."),
        (n_practice >= N_PRACTICE, f"Add practice items: there are {n_practice}, and {N_PRACTICE} are needed."),
        (bool(study.consent_text.strip()), "Write the consent text."),
        (study.categories.exists(), "Add at least one category."),
        (
            study.overlap >= 1 and study.core_overlap >= study.overlap,
            "The core needs at least the overlap of the rest.",
        ),
    )
    return [sentence for is_right, sentence in checks if not is_right] + control_problems(study)


def control_problems(study: Study) -> list[str]:
    unknown = [kind for kind in study.control_kinds if kind not in CONTROL_CONDITIONS]
    if unknown:
        return [f"'{unknown[0]}' is no kind of control."]
    if study.control_share <= 0:
        return []
    missing = set(study.control_kinds) - set(available_controls(study_dictionaries(study), study.control_kinds))
    if missing:
        return [
            f"The dictionaries have no controls of kind {', '.join(sorted(missing))}; make them, or untick the kind."
        ]
    return [] if study.control_kinds else ["Choose the kinds of controls, or set their share to 0."]


def launch_study(*, study: Study, user: User | None) -> Run:
    """Freeze a draft; the caller wakes a worker for the run returned. Raises StudyError saying what is missing."""
    problems = launch_problems(study)
    if problems:
        raise StudyError(" ".join(problems))
    try:
        items = planned_items(study)
        check_references(study)
    except (SamplingError, AnswerError) as error:
        raise StudyError(str(error)) from error
    plan, image_set = write_plan(study, items)
    with transaction.atomic():
        locked = Study.objects.select_for_update().get(pk=study.pk)
        if locked.state != Study.State.DRAFT:
            raise StudyError(f"'{locked.name}' is {locked.state}; it was launched a moment ago.")
        config = {"image_set": image_set, "plan": plan.digest, "seed": study.seed}
        run = create_run(stage=STAGE, config=config, user=user, title=f"stimuli of {study.name}")
        locked.state, locked.launch_run = Study.State.LAUNCHING, run
        locked.locked_hash = settings_hash(locked)
        locked.save(update_fields=["state", "launch_run", "locked_hash"])
        log_event(locked, user, "launched", run=run.pk, locked_hash=locked.locked_hash, plan=plan.digest)
        if run.state == Run.State.DONE:  # the same plan was frozen before
            open_study(run=run)
    study.refresh_from_db()
    return run


def planned_items(study: Study) -> list[PlannedItem]:
    """The study's items and its practice items, mixed by the seed."""
    dictionaries, spec = study_dictionaries(study), study_spec(study)
    sample = study_sample(study)
    if not sample.drawn:
        raise StudyError("The sample is empty: every feature is excluded. Loosen the rules of exclusion.")
    gold = list(study.reference_items.filter(kind=ReferenceItem.Kind.GOLD).order_by("position", "id"))
    items = plan_items(
        sample.drawn,
        pool=load_pool(dictionaries, spec, sample.drawn),
        kinds=list(study.control_kinds),
        shares=Shares(study.control_share, study.catch_share, study.gold_share),
        gold=gold,
        rng=random.Random(f"{study.seed}/items"),
    )
    practice = study.reference_items.filter(kind=ReferenceItem.Kind.PRACTICE).order_by("position", "id")
    return items + [reference_item(reference) for reference in practice]


def check_references(study: Study) -> None:
    names, questions = set(study.categories.values_list("name", flat=True)), questions_of(study)
    for reference in study.reference_items.all():
        validate_accepted(questions, reference.accepted, categories=names)


def settings_hash(study: Study) -> str:
    """A hash over everything that is frozen, so that a report can show that nothing was changed since."""
    facts: dict[str, Any] = {name: getattr(study, name) for name in LOCKED_FIELDS}
    facts["categories"] = [list(row) for row in study.categories.values_list("name", "key")]
    facts["references"] = [
        [row.kind, row.feature_id, row.accepted] for row in study.reference_items.order_by("kind", "feature_id")
    ]
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()


def write_plan(study: Study, items: Sequence[PlannedItem]) -> tuple[Artifact, str]:
    """The plan artefact, and the digest of the image set all its exemplars are of."""
    features = features_of(items)
    image_sets = {feature.exemplar_set.image_set.digest for feature in features.values()}
    if len(image_sets) != 1:
        raise StudyError("The sampled features have exemplars on several image sets; sample dictionaries of one.")
    sources = sorted({source_of(feature) for feature in features.values()})
    places = {pk: (sources.index(source_of(feature)), feature.latent) for pk, feature in features.items()}
    parents = sorted({digest for digest, _ in sources})
    settings = {"purpose": "study", "study": study.slug, "seed": study.seed}
    with artifact_store().write("feature-set", config=settings, parents=parents, seed=study.seed) as writer:
        writer.write_json("sources.json", [{"exemplars": digest, "file": file} for digest, file in sources])
        lines = (plan_line(number, item, places) for number, item in enumerate(items))
        (writer.folder / "items.jsonl").write_text("".join(canonical_json(line) + "\n" for line in lines))
        hidden = (condition_line(number, item) for number, item in enumerate(items))
        (writer.folder / "conditions.jsonl").write_text("".join(canonical_json(line) + "\n" for line in hidden))
    assert writer.artifact is not None
    return writer.artifact, image_sets.pop()


def features_of(items: Iterable[PlannedItem]) -> dict[int, Feature]:
    ids: set[int] = set()
    for item in items:
        ids |= {item.feature, item.matched}
        ids |= {place[0] for cell in (*item.patches, *item.images) for place in (cell.image, cell.map) if place}
    return Feature.objects.select_related("exemplar_set__image_set").in_bulk(sorted(ids))


def source_of(feature: Feature) -> tuple[str, str]:
    return feature.exemplar_set.digest, pole_file_name(feature.hookpoint, feature.pole)


def plan_line(number: int, item: PlannedItem, places: Mapping[int, tuple[int, int]]) -> dict[str, Any]:
    def cell_line(cell: Cell) -> list[int]:
        parts = [cell.image] if cell.map is None else [cell.image, cell.map]
        return [value for feature, place in parts for value in (*places[feature], place)]

    return {
        "number": number,
        "matched": list(places[item.matched]),
        "patches": [cell_line(cell) for cell in item.patches],
        "images": [cell_line(cell) for cell in item.images],
    }


def condition_line(number: int, item: PlannedItem) -> dict[str, Any]:
    return {
        "number": number, "condition": str(item.condition), "feature": item.feature, "matched": item.matched,
        "stratum": item.stratum, "reference": item.reference, "accepted": item.accepted,
    }  # fmt: skip


def open_study(*, run: Run) -> Study | None:
    """Make items and slots of a finished run's stimuli and open the study; None if the run launched no study."""
    with transaction.atomic():
        study = Study.objects.select_for_update().filter(launch_run=run, state=Study.State.LAUNCHING).first()
        if study is None:
            return None
        store = artifact_store()
        stimuli = next(artifact for artifact in map(store.open, run.artifacts) if artifact.kind == "stimuli")
        frozen = {row["number"]: row["stimulus"] for row in json_lines(stimuli, "items.jsonl")}
        conditions = json_lines(store.open(run.config["plan"], kind="feature-set"), "conditions.jsonl")
        for line in conditions:
            if line["reference"] is not None:
                ReferenceItem.objects.filter(pk=line["reference"]).update(stimulus_id=frozen[line["number"]])
        items = make_items(study, [line for line in conditions if line["condition"] != PRACTICE], frozen)
        n_slots = make_slots(study, items)
        study.state, study.stimuli_digest, study.launched_at = Study.State.OPEN, stimuli.digest, timezone.now()
        study.n_items, study.n_slots, study.n_slots_done = len(items), n_slots, 0
        study.save()
        log_event(study, None, "opened", n_items=len(items), n_slots=n_slots, stimuli=stimuli.digest)
    return study


def json_lines(artifact: Artifact, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in artifact.path(name).read_text().splitlines()]


def make_items(study: Study, lines: Sequence[Mapping[str, Any]], frozen: Mapping[int, str]) -> list[Item]:
    """One item per line; the core, which more people judge, is drawn by the seed within every condition."""
    rng = random.Random(f"{study.seed}/core")
    core = core_numbers(lines, study.core_share, rng)
    return Item.objects.bulk_create(
        (
            Item(
                study=study, feature_id=line["feature"], condition=line["condition"],
                matched_feature_id=line["matched"] if line["condition"] in CONTROL_CONDITIONS else None,
                reference_id=line["reference"], stratum=line["stratum"], accepted=line["accepted"],
                is_core=line["number"] in core, seed=rng.randrange(QUEUE_KEYS), stimulus_id=frozen[line["number"]],
            )
            for line in lines
        ),
        batch_size=BATCH,
    )  # fmt: skip


def core_numbers(lines: Sequence[Mapping[str, Any]], share: float, rng: random.Random) -> set[int]:
    """Catch and gold items are all of the core, so that everybody's attention is looked at alike."""
    by_condition: dict[str, list[int]] = {}
    for line in lines:
        by_condition.setdefault(line["condition"], []).append(line["number"])
    chosen: set[int] = set()
    for condition, numbers in sorted(by_condition.items()):
        is_check = condition in {Condition.CATCH, Condition.GOLD}
        chosen.update(numbers if is_check else rng.sample(numbers, round(share * len(numbers))))
    return chosen


def make_slots(study: Study, items: Iterable[Item]) -> int:
    rng = random.Random(f"{study.seed}/slots")
    slots = [
        Slot(study=study, item=item, random_key=rng.randrange(QUEUE_KEYS))
        for item in items
        for _ in range(study.core_overlap if item.is_core else study.overlap)
    ]
    Slot.objects.bulk_create(slots, batch_size=BATCH)
    return len(slots)


def settle_failed_launch(*, study: Study) -> str | None:
    """If the launch's run failed or was cancelled, the study is a draft again; returns the reason, or None."""
    with transaction.atomic():
        locked = Study.objects.select_for_update(of=("self",)).select_related("launch_run").get(pk=study.pk)
        run = locked.launch_run
        if locked.state != Study.State.LAUNCHING or run is None:
            return None
        if run.state not in {Run.State.FAILED, Run.State.CANCELLED}:
            return None
        reason = run.error or f"The run that freezes the stimuli was {run.state}."
        locked.state, locked.locked_hash = Study.State.DRAFT, ""
        locked.save(update_fields=["state", "locked_hash"])
        log_event(locked, None, "launch-failed", run=run.pk, reason=reason)
    study.refresh_from_db()
    return reason
