"""Launch: the sample is drawn, the settings are locked, and a run freezes what people will see.

When the run is done its stimuli become items and slots and the study opens (opening.py); when it fails the study is a
draft again and says why.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any, NamedTuple

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotation.domain.answer_message import AnswerError
from annotation.domain.categories import locked_rows
from annotation.domain.controls import load_pool
from annotation.domain.launch_problems import launch_problems
from annotation.domain.opening import open_study
from annotation.domain.planning_contents import content_of
from annotation.domain.planning_items import Draft, PlannedItem, Shares, kinds_of, plan_items
from annotation.domain.planning_items_pairs import NO_PARTNER, matched_pairs, plan_alignment, plan_pairs
from annotation.domain.planning_lines import write_plan
from annotation.domain.protocols import options_of, protocol_of
from annotation.domain.runs import create_run
from annotation.domain.sampling import SamplePreview, SamplingError
from annotation.domain.studies import StudyError, log_event
from annotation.domain.study_samples import drawn_pairs, sample_of, study_dictionaries, study_request, study_spec
from annotation.domain.study_texts import texts_of
from annotation.models import Feature, ReferenceItem, Run, Study, User
from workers.artifacts import canonical_json

LOCKED_FIELDS = (
    "protocol", "protocol_version", "protocol_options", "seed", "sampler", "exclusions", "overlap", "core_overlap",
    "core_share", "control_share", "control_kinds", "catch_share", "gold_share", "gold_schedule", "repeat_share",
    "min_viewing_ms", "pass_mark", "practice_rounds", "stopping", "preregistration", "embeddings_digest",
    "alignment_digest", "consent_text", "consent_version",
)  # fmt: skip
STAGE = "freeze-stimuli"
EMPTY = gettext_noop("The sample is empty: every feature is excluded. Loosen the rules of exclusion.")


class PlannedStudy(NamedTuple):
    """The items, practice items last, and the features that cannot be shown, each with the reason."""

    items: list[PlannedItem]
    ineligible: list[dict[str, Any]]


def launch_study(*, study: Study, user: User | None) -> Run:
    """Freeze a draft; the caller wakes a worker for the run returned. Raises StudyError saying what is missing."""
    problems = launch_problems(study)
    if problems:
        raise StudyError(" ".join(problems))
    try:
        planned = planned_study(study)
    except (SamplingError, AnswerError) as error:
        raise StudyError(str(error)) from error
    plan = write_plan(study, planned.items)
    config: dict[str, Any] = {"image_set": plan.image_set, "plan": plan.artifact.digest, "seed": study.seed}
    if study.embeddings_digest:
        config["embeddings"] = study.embeddings_digest
    with transaction.atomic():
        locked = Study.objects.select_for_update().get(pk=study.pk)
        if locked.state != Study.State.DRAFT:
            raise StudyError(
                _("'%(name)s' is %(state)s; it was launched a moment ago.")
                % {"name": locked.name, "state": locked.get_state_display()}
            )
        run = create_run(stage=STAGE, config=config, user=user, title=f"stimuli of {study.name}")
        locked.state, locked.launch_run, locked.ineligible = Study.State.LAUNCHING, run, planned.ineligible
        locked.protocol_version = protocol_of(locked).version
        locked.locked_hash = settings_hash(locked, plan.artifact.digest)
        locked.save(update_fields=["state", "launch_run", "locked_hash", "ineligible", "protocol_version"])
        log_event(locked, user, "launched", run=run.pk, locked_hash=locked.locked_hash, plan=plan.artifact.digest)
        if run.state == Run.State.DONE:  # the same plan was frozen before
            open_study(run=run)
    study.refresh_from_db()
    return run


def planned_study(study: Study) -> PlannedStudy:
    """The study's items and its practice items, mixed by the seed."""
    protocol, rng = protocol_of(study), random.Random(f"{study.seed}/items")
    references = list(study.reference_items.order_by("kind", "position", "id"))
    shares = Shares(study.control_share, study.catch_share, study.gold_share)
    request = study_request(study)
    if protocol.name == "alignment":
        pairs = drawn_pairs(request)
        if not pairs:
            raise StudyError(_("None of the pairs can be shown: loosen the rules of exclusion."))
        return PlannedStudy(plan_alignment(pairs, shares=shares, references=references, rng=rng), [])
    sample = sample_of(request)
    if not sample.drawn:
        raise StudyError(_(EMPTY))
    if protocol.builder == "pair":
        return planned_pairs(sample, shares, references, rng)
    draft = Draft(
        protocol=protocol, options=options_of(study), drawn=sample.drawn,
        pool=load_pool(study_dictionaries(study), study_spec(study), sample.drawn),
        kinds=kinds_of(protocol, study.control_kinds), shares=shares, references=references,
    )  # fmt: skip
    return PlannedStudy(plan_items(draft, content_of(protocol, draft.options, texts_of(study)), rng), [])


def planned_pairs(
    sample: SamplePreview, shares: Shares, references: list[ReferenceItem], rng: random.Random
) -> PlannedStudy:
    ids = [one.feature_id for one in sample.drawn]
    density = dict(Feature.objects.filter(pk__in=ids).values_list("pk", "density"))
    found = matched_pairs(sample.drawn, density, rng)
    if not found.pairs:
        raise StudyError(
            _("No feature has a partner of another dictionary in its block and density band; ask for more.")
        )
    items = plan_pairs(found.pairs, shares=shares, references=references, rng=rng)
    return PlannedStudy(items, [{"feature": one.feature_id, "reason": NO_PARTNER} for one in found.alone])


def settings_hash(study: Study, plan: str = "") -> str:
    """A hash over everything that is frozen, so that a report can show that nothing was changed since.

    `plan` is the digest of the study's plan; left out, that of its launch.
    """
    facts: dict[str, Any] = {name: getattr(study, name) for name in LOCKED_FIELDS}
    facts["categories"] = locked_rows(study)
    if not plan and study.launch_run is not None:
        plan = study.launch_run.config["plan"]
    facts["plan"] = plan  # what is shown, its conditions, practice and gold with their accepted answers
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()


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
