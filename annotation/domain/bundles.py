"""A study bundle: a launched study as one file, to be answered on a site without its dictionaries, models or images.

In it are the frozen stimuli, the protocol with its options, guideline, consent, categories and vocabulary, practice
with its feedback, and the judgements wanted. Not in it: what an item really is (feature, dictionary, block, condition),
the right answers of items, who answered what, and where a picture came from. Answers are scored when they are home.

The slots stay open here, so that nothing is lost with a bundle that never comes back. An answer that comes home fills a
slot of its item that is still open, else it is kept as a late extra; pause the study here if that is not wanted.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Count, Q
from django.utils.translation import gettext as _

from annotation import __version__
from annotation.domain.bundle_files import STUDY_KIND, Entry, jsonl, pack
from annotation.domain.errands import OUTPUT, ErrandError, Progress, errand_folder
from annotation.domain.participation import current_guideline
from annotation.domain.stimuli import SHOWN, shown_panel
from annotation.domain.storage import artifact_store
from annotation.domain.studies import log_event
from annotation.models import Bundle, Condition, Errand, Item, ReferenceItem, Slot, Study, User
from workers.artifacts import Artifact, ArtifactError

TRAVELS = (
    "name", "description", "protocol", "protocol_version", "protocol_options", "version", "session_length",
    "min_viewing_ms", "pass_mark", "practice_rounds", "queue_order", "max_per_person", "vocabulary_mode",
    "vocabulary_version", "consent_version", "is_simulated", "locked_hash",
)  # fmt: skip
MOST_PER_ITEM = 20
LAUNCHED = (Study.State.OPEN, Study.State.PAUSED, Study.State.CLOSED)


class Wanted(NamedTuple):
    """An item that travels, and how many judgements of it are asked for."""

    item: int
    stimulus: str
    variant: str
    text: str
    n: int


def perform_errand(errand: Errand, progress: Progress) -> Mapping[str, Any]:
    study, user = errand.study, errand.created_by
    if study is None or user is None:
        raise ErrandError(_("The study is gone."))
    made = export_bundle(
        study=study, user=user, path=errand_folder(errand) / OUTPUT, per_item=errand.options.get("per_item"),
        progress=progress,
    )  # fmt: skip
    Errand.objects.filter(pk=errand.pk).update(file_name=f"{study.slug}.bundle.zip")
    return made


def export_bundle(
    *, study: Study, user: User | None, path: Path, per_item: int | None = None,
    progress: Progress = lambda n_done, n_wanted: None,
) -> dict[str, Any]:  # fmt: skip
    """Write the bundle; the report says what is in it. `per_item` asks for so many judgements of every item."""
    require_launched(study)
    wanted = wanted_items(study, per_item)
    if not wanted:
        raise ErrandError(_("Every judgement wanted is given; say how many per item are to be collected elsewhere."))
    stimuli = frozen(study)
    bundle = Bundle.objects.create(
        direction=Bundle.Direction.SENT, study=study, key=secrets.token_hex(32), n_items=len(wanted), created_by=user
    )
    facts = {
        "kind": STUDY_KIND, "bundle": str(bundle.uuid), "key": bundle.key, "site": settings.SITE_NAME,
        "study": study.name, "app_version": __version__, "n_items": len(wanted),
    }  # fmt: skip
    entries = bundle_entries(study, wanted, stimuli, progress)
    n_files = pack(path, facts, entries, key=bundle.key)
    n_judgements = sum(one.n for one in wanted)
    log_event(study, user, "bundle made", bundle=str(bundle.uuid), n_items=len(wanted), n_judgements=n_judgements)
    return {"bundle": str(bundle.uuid), "n_items": len(wanted), "n_judgements": n_judgements, "n_files": n_files,
            "n_bytes": path.stat().st_size}  # fmt: skip


def require_launched(study: Study) -> None:
    if study.state not in LAUNCHED or not study.stimuli_digest:
        raise ErrandError(
            _("'%(name)s' is %(state)s; only a launched study has stimuli that can travel.")
            % {"name": study.name, "state": study.get_state_display()}
        )
    if study.origin != Study.Origin.HERE:
        raise ErrandError(
            _("'%(name)s' came from elsewhere; make the bundle where the study was made.") % {"name": study.name}
        )


def wanted_items(study: Study, per_item: int | None) -> list[Wanted]:
    """Items that somebody still has to judge. Items shown again to one person stay here: they need that person."""
    if per_item is not None and not 1 <= per_item <= MOST_PER_ITEM:
        raise ErrandError(_("Ask for 1 to %(most_per_item)s judgements per item.") % {"most_per_item": MOST_PER_ITEM})
    is_open = Q(slots__state=Slot.State.OPEN)
    rows = (
        Item.objects.filter(study=study, repeat_of=None).order_by("id").annotate(n_open=Count("slots", filter=is_open))
        .values_list("pk", "stimulus_id", "variant", "text", "n_open", "condition")
    )  # fmt: skip
    wanted = []
    for pk, stimulus, variant, text, n_open, condition in rows.iterator(chunk_size=5000):
        waits_for_each = bool(study.gold_schedule) and condition == Condition.GOLD
        n = per_item or (study.core_overlap if waits_for_each else n_open)
        if n:
            wanted.append(Wanted(pk, stimulus, variant, text, n))
    return wanted


def frozen(study: Study) -> Artifact:
    try:
        return artifact_store().open(study.stimuli_digest, kind="stimuli")
    except ArtifactError as error:
        raise ErrandError(str(error)) from error


def bundle_entries(study: Study, wanted: list[Wanted], stimuli: Artifact, progress: Progress) -> Iterator[Entry]:
    guideline = current_guideline(study)
    practice = [practice_row(one) for one in study.reference_items.filter(kind=ReferenceItem.Kind.PRACTICE)]
    yield Entry("study.json", json.dumps(study_facts(study), ensure_ascii=False, sort_keys=True).encode())
    yield Entry("guideline.md", (guideline.text if guideline else "").encode())
    yield Entry("consent.md", study.consent_text.encode())
    yield Entry("items.jsonl", jsonl(one._asdict() for one in wanted))
    yield Entry("practice.jsonl", jsonl(practice))
    yield Entry("terms.jsonl", jsonl(study.terms.filter(merged_into=None).order_by("text").values("text", "is_listed")))
    ids = sorted({one.stimulus for one in wanted} | {row["stimulus"] for row in practice if row["stimulus"]})
    for number, stimulus in enumerate(ids, start=1):
        yield Entry(f"stimuli/sprites/{stimulus}.webp", stimuli.path(f"sprites/{stimulus}.webp"))
        yield Entry(f"stimuli/zoom/{stimulus}.webp", stimuli.path(f"zoom/{stimulus}.webp"))
        yield Entry(f"stimuli/items/{stimulus}.json", json.dumps(shown_record(stimuli, stimulus)).encode())
        if number % 200 == 0:
            progress(number, len(ids))


def shown_record(stimuli: Artifact, stimulus: str) -> dict[str, Any]:
    """What the player gets of a stimulus, and no more."""
    record = stimuli.json(f"items/{stimulus}.json")
    panels = [shown_panel(panel) for panel in record["panels"]]
    return {name: record[name] for name in SHOWN} | {"panels": panels}


def study_facts(study: Study) -> dict[str, Any]:
    guideline = current_guideline(study)
    categories = study.categories.select_related("parent").order_by("position", "id")
    facts = {name: getattr(study, name) for name in TRAVELS}
    facts["guideline_version"] = guideline.version if guideline else 0
    facts["categories"] = [
        {"name": one.name, "key": one.key, "parent": one.parent.name if one.parent else None} for one in categories
    ]
    return facts


def practice_row(reference: ReferenceItem) -> dict[str, Any]:
    """With the accepted answers and the reason: practice shows them."""
    return {
        "position": reference.position, "stimulus": reference.stimulus_id, "accepted": reference.accepted,
        "reason": reference.reason, "variant": reference.variant, "text": reference.text, "truth": reference.truth,
    }  # fmt: skip
