"""The way back: the answers given here to a study from elsewhere, as one file for the site it came from.

People appear by their code here and nothing else. The file is signed with the key that came with the bundle, so that
home sees whether it was altered on the way. It may be made as often as wanted; home takes each answer once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from annotation import __version__
from annotation.domain.bundle_files import ANSWERS_KIND, Entry, pack
from annotation.domain.errands import OUTPUT, ErrandError, Progress, errand_folder
from annotation.models import Annotation, Bundle, Errand, Participation, Remark, Study

CHUNK = 5000
OF_ANSWER = (
    "uuid", "annotator__annotator_code", "payload", "timing", "submitted_at", "received_at", "stimulus_id",
    "protocol_version", "guideline_version", "study_version", "vocabulary_version", "revision_of__uuid",
    "is_simulated", "excluded_reason", "item__foreign__key",
)  # fmt: skip
OF_PERSON = ("consented_at", "consent_version", "guideline_version", "practised_at", "joined_at", "withdrawn_at")


def perform_errand(errand: Errand, progress: Progress) -> Mapping[str, Any]:
    if errand.study is None:
        raise ErrandError(_("The study is gone."))
    report = export_answers(study=errand.study, path=errand_folder(errand) / OUTPUT)
    Errand.objects.filter(pk=errand.pk).update(file_name=f"{errand.study.slug}.answers.zip")
    return report


def export_answers(*, study: Study, path: Path) -> dict[str, Any]:
    """Write the answers of a received study; the report says how many there are."""
    bundle = Bundle.objects.filter(study=study, direction=Bundle.Direction.RECEIVED).first()
    if bundle is None:
        raise ErrandError(
            _("'%(name)s' was made here; its answers are exported, not sent back.") % {"name": study.name}
        )
    answers = b"".join(line(row) for row in answer_rows(study))
    n_answers = answers.count(b"\n")
    facts = {
        "kind": ANSWERS_KIND, "bundle": str(bundle.uuid), "site": settings.SITE_NAME, "study": study.name,
        "app_version": __version__, "n_answers": n_answers,
    }  # fmt: skip
    entries = [
        Entry("answers.jsonl", answers),
        Entry("people.jsonl", b"".join(line(row) for row in people_rows(study))),
        Entry("remarks.jsonl", b"".join(line(row) for row in remark_rows(study))),
    ]
    pack(path, facts, entries, key=bundle.key)
    return {"n_answers": n_answers, "n_bytes": path.stat().st_size}


def line(row: Mapping[str, Any]) -> bytes:
    return (json.dumps(row, ensure_ascii=False, sort_keys=True, default=str) + "\n").encode()


def answer_rows(study: Study) -> Iterator[dict[str, Any]]:
    """In the order in which they were given, so that a revision comes after what it revises."""
    rows = Annotation.objects.filter(study=study).order_by("id").values(*OF_ANSWER)
    for row in rows.iterator(chunk_size=CHUNK):
        yield {
            "item"
            if name == "item__foreign__key"
            else name.replace("__annotator_code", "").replace("__uuid", ""): value
            for name, value in row.items()
        }


def people_rows(study: Study) -> Iterator[dict[str, Any]]:
    rows = Participation.objects.filter(study=study, role="annotator", user__annotations__study=study).distinct()
    for row in rows.order_by("id").select_related("user"):
        facts = {name: getattr(row, name) for name in OF_PERSON}
        yield {"annotator": row.user.annotator_code, "is_simulated": row.user.is_simulated} | facts


def remark_rows(study: Study) -> Iterator[dict[str, Any]]:
    rows = Remark.objects.filter(item__study=study).order_by("id").select_related("author", "item__foreign")
    for row in rows.iterator(chunk_size=CHUNK):
        yield {
            "uuid": row.uuid, "kind": row.kind, "item": row.item.foreign.key, "annotator": row.author.annotator_code,
            "text": row.text, "at": row.at,
        }  # fmt: skip
