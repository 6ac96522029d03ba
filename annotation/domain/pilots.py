"""Copies of a study: a pilot before it, or another study made the same way. Answers are never copied.

A pilot shows some sixty features, drawn over the same strata with another seed, to six people each, so that time,
agreement and the spread between people and between features can be estimated before many hours are asked for.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from annotation.domain.crowd_settings import copy_recruitment
from annotation.domain.opening import by_side
from annotation.domain.participation import current_guideline
from annotation.domain.studies import StudyError, create_study, log_event, write_guideline
from annotation.models import Category, ReferenceItem, Study, User

PILOT_FEATURES = 60
PILOT_PEOPLE = 6
COPIED = (
    "description", "protocol", "protocol_version", "protocol_options", "explanations", "embeddings_digest",
    "alignment_digest", "queue_order", "max_per_person", "stopping", "gold_schedule", "repeat_share", "min_viewing_ms",
    "pass_mark", "practice_rounds", "vocabulary_mode", "is_simulated", "seed", "sampler", "exclusions", "overlap",
    "core_overlap", "core_share", "control_share", "control_kinds", "catch_share", "gold_share", "session_length",
    "consent_text", "consent_version",
)  # fmt: skip


def copy_study(*, source: Study, user: User | None, name: str, **changes: Any) -> Study:
    """A draft with the source's settings, guideline, categories, practice and gold; `changes` are fields of a study."""
    if not name.strip():
        raise StudyError(_("Give the copy a name."))
    values = {field: getattr(source, field) for field in COPIED} | changes
    with transaction.atomic():
        study = create_study(name=name.strip()[:120], user=user, **values)
        copy_categories(source, study)
        guideline = current_guideline(source)
        if guideline is not None:
            write_guideline(study=study, user=user, text=guideline.text)
        ReferenceItem.objects.bulk_create(
            ReferenceItem(
                study=study, kind=one.kind, position=one.position, feature_id=one.feature_id,
                accepted=by_side(one.accepted, one.truth), reason=one.reason, other_feature_id=one.other_feature_id,
                text=one.text,
            )
            for one in source.reference_items.order_by("kind", "position", "id")
        )  # fmt: skip
        copy_recruitment(source=source, study=study)
        log_event(study, user, "copied", source=source.slug)
    return study


def copy_categories(source: Study, study: Study) -> None:
    """With their tree: parents come before their children in the source's order or after, so they are set last."""
    study.categories.all().delete()
    fields = [field.name for field in Category._meta.concrete_fields if field.name not in {"id", "study", "parent"}]
    made = {
        one.pk: Category.objects.create(study=study, **{name: getattr(one, name) for name in fields})
        for one in source.categories.all()
    }
    for one in source.categories.all():
        parent_id = getattr(one, "parent_id", None)
        if parent_id in made:
            Category.objects.filter(pk=made[one.pk].pk).update(parent=made[parent_id])


def make_pilot(*, study: Study, user: User | None) -> Study:
    """The pilot of a draft: its own features, six people on each, everything else as the draft has it."""
    if study.state != Study.State.DRAFT:
        raise StudyError(
            _("'%(name)s' is %(state)s; a pilot comes before the launch.")
            % {"name": study.name, "state": study.get_state_display()}
        )
    if study.pilot_of_id is not None:
        raise StudyError(_("'%(name)s' is a pilot itself.") % {"name": study.name})
    sampler = study.sampler | {"n_features": PILOT_FEATURES, "feature_ids": []}
    with transaction.atomic():
        Study.objects.select_for_update().get(pk=study.pk)  # two clicks make one pilot
        waiting = study.pilots.filter(state__in=[Study.State.DRAFT, Study.State.LAUNCHING]).first()
        if waiting is not None:
            raise StudyError(
                _("'%(name)s' is made already and not open yet; launch that one.") % {"name": waiting.name}
            )
        n = study.pilots.count()
        name = f"Pilot of {study.name}" if n == 0 else f"Pilot {n + 1} of {study.name}"
        pilot = copy_study(
            source=study, user=user, name=name, pilot_of=study, sampler=sampler, seed=study.seed + 1009 * (n + 1),
            overlap=PILOT_PEOPLE, core_overlap=PILOT_PEOPLE, core_share=1.0, stopping={}, preregistration={},
        )  # fmt: skip
        log_event(study, user, "pilot made", pilot=pilot.slug)
    return pilot
