"""Exports: every stored answer of a study as a file with its data card, streamed so that memory stays flat.

A folder holds `annotations.<format>`, `stimuli.jsonl`, `card.md`, `card.json` and, where the licences of the images
allow it, `sprites.zip`; `verdicts.jsonl` where reviewers settled anything. Each file is written under another name and
renamed when it is whole; the card comes last.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.domain.export_card import File, Seen, card_text, make_card
from annotation.domain.export_columns import columns_for, export_rows
from annotation.domain.export_stimuli import write_stimuli
from annotation.domain.export_verdicts import write_verdicts
from annotation.domain.export_writers import WRITERS
from annotation.domain.studies import log_event
from annotation.domain.unblinding import unblinding_of
from annotation.models import Annotation, ExportFile, Study, User

GONE_AFTER = timedelta(minutes=5)


class ExportError(Exception):
    """The export cannot be made; the message says what to do."""


class ExportResult(NamedTuple):
    folder: Path
    data: File
    n_rows: int
    last: int


def export_study(
    *, study: Study, file_format: str, folder: Path, after: int = 0, report: Callable[[int], None] = lambda n_rows: None
) -> ExportResult:
    """Write one export into `folder`, which may exist; files of the same names are replaced.

    `after` leaves out the answers up to that cursor, which an earlier export ended with; `report` hears the number of
    rows written, now and then.
    """
    if file_format not in WRITERS:
        raise ExportError(
            _("'%(file_format)s' is no export format; it can be %(values)s.")
            % {"file_format": file_format, "values": ", ".join(sorted(WRITERS))}
        )
    folder.mkdir(parents=True, exist_ok=True)
    columns = columns_for(is_unblinded=unblinding_of(study) is not None)
    seen, last = Seen(columns, report), last_key(study, after)
    name = f"annotations.{file_format}"
    partial = folder / f".{name}.part"
    try:
        WRITERS[file_format](partial, columns, seen.count(export_rows(study, columns, after=after)))
        os.replace(partial, folder / name)
    finally:
        partial.unlink(missing_ok=True)
    written = [*write_stimuli(study, folder), *write_verdicts(study, folder)]
    files = [described(folder, name), *(described(folder, path) for path in written)]
    card = make_card(study, columns, seen, files) | {"cursor": {"after": after, "last": last}}
    _write_text(folder / "card.json", json.dumps(card, indent=2, ensure_ascii=False, default=str) + "\n")
    _write_text(folder / "card.md", card_text(card))
    return ExportResult(folder, files[0], seen.n_rows, last)


def last_key(study: Study, after: int) -> int:
    """The cursor to go on from: looked at before the rows are read, so that none falls between two exports."""
    last: int | None = Annotation.objects.filter(study=study, pk__gt=after).aggregate(last=Max("pk"))["last"]
    return after if last is None else last


def described(folder: Path, name: str) -> File:
    digest = hashlib.sha256()
    with (folder / name).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return File(name, (folder / name).stat().st_size, digest.hexdigest())


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def request_export(*, study: Study, file_format: str, user: User, after: int = 0) -> ExportFile:
    """The row of an export that a worker of the queue `cpu` will write; wake the workers once it is committed."""
    if file_format not in WRITERS:
        raise ExportError(
            _("'%(file_format)s' is no export format; it can be %(values)s.")
            % {"file_format": file_format, "values": ", ".join(sorted(WRITERS))}
        )
    return ExportFile.objects.create(study=study, file_format=file_format, created_by=user, after=after)


def export_folder(export: ExportFile) -> Path:
    return Path(settings.EXPORT_ROOT) / export.study.slug / f"{export.pk}-{export.file_format}"


def write_queued_exports() -> int:
    """Write every export that is asked for, one after the other; returns how many. A failure is kept in its row."""
    n_written = 0
    while (export := claim_export()) is not None:
        write_export(export)
        n_written += 1
    return n_written


def claim_export() -> ExportFile | None:
    """The oldest export nobody writes: queued, or left behind by a worker that is gone."""
    now = timezone.now()
    wanted = Q(state=ExportFile.State.QUEUED) | Q(state=ExportFile.State.RUNNING, beaten_at__lt=now - GONE_AFTER)
    with transaction.atomic():
        export = ExportFile.objects.filter(wanted).order_by("id").select_for_update(skip_locked=True).first()
        if export is not None:
            export.state, export.beaten_at = ExportFile.State.RUNNING, now
            export.save(update_fields=["state", "beaten_at"])
    return export


def write_export(export: ExportFile) -> None:
    def report(n_rows: int) -> None:
        ExportFile.objects.filter(pk=export.pk).update(beaten_at=timezone.now(), n_rows=n_rows)

    folder = export_folder(export)
    try:
        result = export_study(
            study=export.study, file_format=export.file_format, folder=folder, after=export.after, report=report
        )  # fmt: skip
    except Exception as error:
        ExportFile.objects.filter(pk=export.pk).update(state=ExportFile.State.FAILED, error=str(error))
        raise
    ExportFile.objects.filter(pk=export.pk).update(
        state=ExportFile.State.DONE,
        error="",
        path=str(result.folder.relative_to(settings.EXPORT_ROOT)),
        sha256=result.data.sha256,
        n_rows=result.n_rows,
        size=result.data.size,
        last=result.last,
    )
    log_event(export.study, export.created_by, "export written", export=export.pk, n_answers=result.n_rows)


def downloads_of(export: ExportFile) -> list[str]:
    """Names of the files that may be downloaded, the data first."""
    if export.state != ExportFile.State.DONE:
        return []
    names = [f"annotations.{export.file_format}", "stimuli.jsonl", "card.md", "card.json", "sprites.zip"]
    return [name for name in names if (Path(settings.EXPORT_ROOT) / export.path / name).is_file()]


def download_path(export: ExportFile, name: str) -> Path:
    """Raises ExportError for a name that is not one of the export's files, or a file that is gone."""
    if name not in downloads_of(export):
        raise ExportError(_("This export has no file '%(name)s'; make it again.") % {"name": name})
    return Path(settings.EXPORT_ROOT) / export.path / name
