"""Opening a study: the stimuli of a finished run become items and the judgements wanted, in one transaction.

What could not be shown makes no item and is listed with its reason in the study. The truth of a stimulus, where it has
one, is that of the plan and what was found when it was frozen; accepted answers of checks and practice follow from it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone

from annotation.domain.controls import EVERY_CONTROL
from annotation.domain.planning_items import PRACTICE
from annotation.domain.protocols import options_of, protocol_of
from annotation.domain.queue_lanes import first_lane
from annotation.domain.storage import artifact_store
from annotation.domain.studies import log_event
from annotation.models import Condition, Item, Run, Slot, Study
from annotation.models.study import QUEUE_KEYS
from workers.artifacts import Artifact

BATCH = 2000
CHECKS = {Condition.CATCH, Condition.GOLD}
NOTHING_LEFT = "None of the items could be shown; the reasons are listed below."
Line = Mapping[str, Any]


class Frozen(NamedTuple):
    """What the run made of one line of the plan: a stimulus with its truth."""

    stimulus: str
    truth: dict[str, Any]


class FrozenPlan(NamedTuple):
    """The lines of the plan, what they became, and why some became nothing, by number."""

    digest: str
    lines: list[dict[str, Any]]
    frozen: dict[int, Frozen]
    ineligible: dict[int, str]


def open_study(*, run: Run) -> Study | None:
    """Make items and slots of a finished run's stimuli and open the study; None if the run launched no study."""
    with transaction.atomic():
        study = Study.objects.select_for_update().filter(launch_run=run, state=Study.State.LAUNCHING).first()
        if study is None:
            return None
        plan = read_frozen(run)
        study.ineligible = [*study.ineligible, *ineligible_rows(plan)]
        shown = [line for line in plan.lines if line["number"] in plan.frozen and line["condition"] != PRACTICE]
        if not any(line["condition"] == Condition.REAL for line in shown):
            return back_to_draft(study, NOTHING_LEFT)
        settle_references(study, plan)
        items = make_items(study, shown, plan.frozen)
        n_slots = make_slots(study, items)
        study.state, study.stimuli_digest, study.launched_at = Study.State.OPEN, plan.digest, timezone.now()
        study.n_items, study.n_slots, study.n_slots_done = len(items), n_slots, 0
        study.save()
        counts = {"n_items": len(items), "n_slots": n_slots, "n_ineligible": len(study.ineligible)}
        log_event(study, None, "opened", stimuli=plan.digest, **counts)
    return study


def back_to_draft(study: Study, reason: str) -> Study:
    study.state, study.locked_hash = Study.State.DRAFT, ""
    study.save()
    log_event(study, None, "launch-failed", run=study.launch_run_id, reason=reason)
    return study


def read_frozen(run: Run) -> FrozenPlan:
    store = artifact_store()
    stimuli = next(artifact for artifact in map(store.open, run.artifacts) if artifact.kind == "stimuli")
    plan = store.open(run.config["plan"], kind="feature-set")
    builders = {line["number"]: line["builder"] for line in json_lines(plan, "items.jsonl")}
    frozen: dict[int, Frozen] = {}
    ineligible: dict[int, str] = {}
    for row in json_lines(stimuli, "items.jsonl"):
        if "ineligible" in row:
            ineligible[row["number"]] = row["ineligible"]
        else:
            frozen[row["number"]] = Frozen(row["stimulus"], truth_of(stimuli, row, builders[row["number"]]))
    return FrozenPlan(stimuli.digest, json_lines(plan, "conditions.jsonl"), frozen, ineligible)


def truth_of(stimuli: Artifact, row: Line, builder: str) -> dict[str, Any]:
    """A sheet has none, and its record is large."""
    if builder == "sheet":
        return {}
    truth = row["truth"] if "truth" in row else stimuli.json(f"items/{row['stimulus']}.json").get("truth")
    return dict(truth or {})


def json_lines(artifact: Artifact, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in artifact.path(name).read_text().splitlines()]


def ineligible_rows(plan: FrozenPlan) -> list[dict[str, Any]]:
    """A row per feature and reason; which of them were controls is not said."""
    lines = {line["number"]: line for line in plan.lines}
    pairs = {(lines[number]["feature"], reason) for number, reason in plan.ineligible.items()}
    return [{"feature": feature, "reason": reason} for feature, reason in sorted(pairs)]


def settle_references(study: Study, plan: FrozenPlan) -> None:
    """Practice and gold items get their stimulus, its truth and, where it tells them, the accepted answers."""
    references = study.reference_items.in_bulk()
    for line in plan.lines:
        reference = references.get(line["reference"] or 0)
        found = plan.frozen.get(line["number"])
        if reference is None or found is None:
            continue
        truth = line["truth"] | found.truth
        reference.stimulus_id, reference.truth, reference.text = found.stimulus, truth, line["text"]
        reference.variant, reference.accepted = line["variant"], accepted_of(study, line, truth)
        reference.save(update_fields=["stimulus_id", "truth", "text", "variant", "accepted"])


def accepted_of(study: Study, line: Line, truth: Line) -> dict[str, Any]:
    """Accepted answers of a check or practice item: what follows from the truth, over what was written down."""
    if line["condition"] not in {*CHECKS, PRACTICE}:
        return {}
    protocol = protocol_of(study)
    written = dict(line["accepted"])
    if protocol.name == "pairwise":
        written = by_side(written, truth)
    return written | protocol.accepted(truth, options_of(study))


def by_side(accepted: Line, truth: Line) -> dict[str, Any]:
    """Accepted answers about the first (left) and the second feature, as sides of the frozen pair; and back again."""
    if truth.get("left") != "other":
        return dict(accepted)
    turned = {"left": "right", "right": "left"}
    return {name: [turned.get(answer, answer) for answer in answers] for name, answers in accepted.items()}


def make_items(study: Study, lines: Sequence[Line], frozen: Mapping[int, Frozen]) -> list[Item]:
    """One item per line; the core, which more people judge, is drawn by the seed within every condition."""
    rng = random.Random(f"{study.seed}/core")
    core = core_numbers(lines, study.core_share, rng)
    return Item.objects.bulk_create(
        (item_of(study, line, frozen[line["number"]], line["number"] in core, rng) for line in lines), batch_size=BATCH
    )


def item_of(study: Study, line: Line, found: Frozen, is_core: bool, rng: random.Random) -> Item:
    truth = line["truth"] | found.truth
    return Item(
        study=study, feature_id=line["feature"], condition=line["condition"], other_feature_id=line["other"],
        matched_feature_id=line["matched"] if line["condition"] in EVERY_CONTROL else None,
        reference_id=line["reference"], stratum=line["stratum"], variant=line["variant"], text=line["text"],
        truth=truth, accepted=accepted_of(study, line, truth), is_core=is_core, seed=rng.randrange(QUEUE_KEYS),
        stimulus_id=found.stimulus,
    )  # fmt: skip


def core_numbers(lines: Sequence[Line], share: float, rng: random.Random) -> set[int]:
    """Catch and gold items are all of the core, so that everybody's attention is looked at alike."""
    by_condition: dict[str, list[int]] = {}
    for line in lines:
        by_condition.setdefault(line["condition"], []).append(line["number"])
    chosen: set[int] = set()
    for condition, numbers in sorted(by_condition.items()):
        chosen.update(numbers if condition in CHECKS else rng.sample(numbers, round(share * len(numbers))))
    return chosen


def make_slots(study: Study, items: Iterable[Item]) -> int:
    """The judgements wanted; gold of a schedule has none, it waits for each person (annotation.domain.checks)."""
    rng = random.Random(f"{study.seed}/slots")
    slots = [
        Slot(study=study, item=item, lane=first_lane(study, number), random_key=rng.randrange(QUEUE_KEYS))
        for item in items
        if not (study.gold_schedule and item.condition == Condition.GOLD)
        for number in range(study.core_overlap if item.is_core else study.overlap)
    ]
    Slot.objects.bulk_create(slots, batch_size=BATCH)
    return len(slots)
