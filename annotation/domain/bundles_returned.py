"""Answers that come home from another site: stored once each, in the study the bundle was made of, and scored here.

Each answer is checked and stored by the same code as one given here: it fills a slot of its item that is still open or
is kept as a late extra, a revision revises, gold is scored. All of them or none; the same file again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext

from annotation.domain.answer_message import Answer, AnswerError, parse_answer, parse_moment, parse_uuid
from annotation.domain.answers import submit_answer
from annotation.domain.bundle_files import ANSWERS_KIND, Opened, is_signed, open_bundle, verify
from annotation.domain.errands import ErrandError, Progress, input_path
from annotation.domain.import_tables import Faults
from annotation.domain.importing_answers import known_answers
from annotation.domain.pseudonyms import people_called
from annotation.domain.studies import log_event
from annotation.domain.unblinding import unblinding_of
from annotation.models import Annotation, Bundle, Errand, Item, Participation, Remark, Study, User

EVERY = 200
NO_LINE = 0


class Returned(NamedTuple):
    """One answer of the file, read."""

    line: int
    annotator: str
    answer: Answer
    study_version: str
    vocabulary_version: int
    excluded_reason: str


def perform_errand(errand: Errand, progress: Progress) -> Mapping[str, Any]:
    return return_answers(
        path=input_path(errand), user=errand.created_by, study=errand.study, is_dry_run=errand.is_dry_run,
        progress=progress,
    )  # fmt: skip


def return_answers(
    *, path: Path, user: User | None, study: Study | None = None, is_dry_run: bool = False,
    progress: Progress = lambda n_done, n_wanted: None,
) -> dict[str, Any]:  # fmt: skip
    """Take in an answers bundle; `study`, where given, is the one it must belong to. Raises ErrandError."""
    opened = open_bundle(path, ANSWERS_KIND)
    with opened.archive:
        home = home_of(opened, study)
        verify(opened)
        faults = Faults()
        answers = read_returned(opened, home, faults)
        known = known_answers(home, [one.answer.uuid for one in answers])
        new = [one for one in answers if one.answer.uuid not in known]
        report: dict[str, Any] = {"n_answers": len(answers), "n_known": len(known), "n_new": len(new)}
        if not faults.n:
            with transaction.atomic():
                report |= store_returned(opened, home, new, faults, progress)
                if faults.n or is_dry_run:
                    transaction.set_rollback(True)
                elif new:
                    log_event(home, user, "answers returned", site=str(opened.manifest.get("site", ""))[:120], **report)
    if faults.n and not is_dry_run:
        first = faults.listed[0]
        raise ErrandError(
            gettext("%(n)s answers do not fit, so none was stored. Line %(line)s: %(error)s")
            % {"n": faults.n, "line": first["line"], "error": first["error"]}
        )
    return {"study": home.slug} | report | faults.as_report()


def home_of(opened: Opened, study: Study | None) -> Study:
    """The study the answers belong to; refused if it is another than asked for, not ours, altered, or unblinded."""
    try:
        uuid = UUID(str(opened.manifest.get("bundle")))
    except ValueError as error:
        raise ErrandError(gettext("The file is no answers bundle of Vitrine.")) from error
    bundle = Bundle.objects.filter(uuid=uuid, direction=Bundle.Direction.SENT).select_related("study").first()
    if bundle is None:
        raise ErrandError(gettext("These answers belong to a bundle that was not made here."))
    if study is not None and bundle.study_id != study.pk:
        raise ErrandError(
            gettext("These answers belong to '%(name)s', not to '%(other)s'.")
            % {"name": bundle.study.name, "other": study.name}
        )
    if not is_signed(opened.manifest, bundle.key):
        raise ErrandError(gettext("The file was altered on its way; have it sent again."))
    if unblinding_of(bundle.study) is not None:
        raise ErrandError(
            gettext("'%(name)s' is unblinded; answers that come now would not be blind.") % {"name": bundle.study.name}
        )
    return bundle.study


def read_returned(opened: Opened, home: Study, faults: Faults) -> list[Returned]:
    """Every answer as the player would send it, to the item it is to at home."""
    stimuli = dict(Item.objects.filter(study=home).values_list("pk", "stimulus_id"))
    answers = []
    for number, row in enumerate(opened.lines("answers.jsonl"), start=1):
        try:
            answers.append(returned_in(number, row, home))
        except (AnswerError, KeyError, TypeError, ValueError) as error:
            faults.add(
                number, str(error) if isinstance(error, AnswerError) else gettext("The line is not as a bundle has it.")
            )
            continue
        answer = answers[-1].answer
        if stimuli.get(answer.item) != answer.stimulus_id:
            faults.add(
                number,
                gettext("Item %(item)s of this study shows something else than what was judged.")
                % {"item": answer.item},
            )
    return answers


def returned_in(number: int, row: Mapping[str, Any], home: Study) -> Returned:
    if row["is_simulated"] and not home.is_simulated:
        raise AnswerError(gettext("It was given by a program, and the study is for people."))
    raw = {"item": int(row["item"]), "slot": None} | {
        name: row[name]
        for name in ("uuid", "payload", "timing", "submitted_at", "stimulus_id", "protocol_version",
                     "guideline_version", "revision_of")
    }  # fmt: skip
    return Returned(
        number, str(row["annotator"])[:80], parse_answer(raw), str(row["study_version"])[:12],
        int(row["vocabulary_version"]), str(row["excluded_reason"])[:200],
    )  # fmt: skip


def store_returned(
    opened: Opened, home: Study, new: list[Returned], faults: Faults, progress: Progress
) -> dict[str, int]:
    people = people_of(opened, home, {one.annotator for one in new})
    counts: dict[str, int] = {}
    for number, one in enumerate(new, start=1):
        try:
            done = submit_answer(annotator=people[one.annotator], study=home, answer=one.answer)
        except AnswerError as error:
            faults.add(one.line, str(error))
            continue
        counts[done.stored] = counts.get(done.stored, 0) + 1
        Annotation.objects.filter(pk=done.annotation.pk).update(
            source=Annotation.Source.BUNDLE, study_version=one.study_version,
            vocabulary_version=one.vocabulary_version, excluded_reason=one.excluded_reason,
        )  # fmt: skip
        if number % EVERY == 0:
            progress(number, len(new))
    n_remarks = store_remarks(opened, home, people, faults)
    return {"n_annotators": len(people), "n_remarks": n_remarks, "n_late_extras": counts.get("late_extra", 0),
            "n_revisions": counts.get("revision", 0)}  # fmt: skip


def people_of(opened: Opened, home: Study, codes: set[str]) -> dict[str, User]:
    """The accounts of those who answered, with when they consented and practised there."""
    rows = {str(row["annotator"])[:80]: row for row in opened.lines("people.jsonl")}
    people = people_called(home, {code: bool(rows.get(code, {}).get("is_simulated")) for code in sorted(codes)})
    for code in codes & set(rows):
        row = rows[code]
        Participation.objects.filter(study=home, user=people[code]).update(
            consented_at=parse_moment(row["consented_at"]) if row["consented_at"] else None,
            consent_version=str(row["consent_version"])[:12], guideline_version=row["guideline_version"],
            practised_at=parse_moment(row["practised_at"]) if row["practised_at"] else None,
        )  # fmt: skip
    return people


def store_remarks(opened: Opened, home: Study, people: dict[str, User], faults: Faults) -> int:
    """Flags, comments and skips, once each."""
    rows = list(opened.lines("remarks.jsonl"))
    items = {str(pk) for pk in Item.objects.filter(study=home).values_list("pk", flat=True)}
    missing = {str(row["annotator"])[:80]: False for row in rows} if rows else {}
    everybody = people | people_called(home, missing)
    n_new = 0
    for row in rows:
        if str(row["item"]) not in items or row["kind"] not in Remark.Kind.values:
            faults.add(NO_LINE, gettext("A remark is not as a bundle has it."))
            continue
        _, is_new = Remark.objects.get_or_create(
            uuid=parse_uuid(row["uuid"], "uuid"),
            defaults={
                "kind": row["kind"], "item_id": int(row["item"]), "text": str(row["text"])[:4000],
                "author": everybody[str(row["annotator"])[:80]],
            },
        )  # fmt: skip
        n_new += is_new
    return n_new
