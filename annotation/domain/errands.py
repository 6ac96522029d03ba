"""Errands: work asked for on a page or by a program and done by a worker of the queue `cpu`, told of in one row.

Imports, bundles and simulations take longer than a request may. The row is the truth: a worker that dies leaves an
errand that another takes up after a while, and every errand may be done twice without harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.models import Errand, Study, User

GONE_AFTER = timedelta(minutes=30)
MEGABYTE = 1 << 20
MOST_BYTES = {Errand.Kind.IMPORT_BUNDLE: 8192 * MEGABYTE}
USUAL_BYTES = 256 * MEGABYTE
INPUT, OUTPUT = "sent", "made"

Progress = Callable[[int, int], None]
Perform = Callable[[Errand, Progress], Mapping[str, Any]]
# each module has `perform_errand(errand, progress) -> report`
MODULES = {
    Errand.Kind.IMPORT_ITEMS: "importing_items",
    Errand.Kind.IMPORT_ANSWERS: "importing_answers",
    Errand.Kind.EXPORT_BUNDLE: "bundles",
    Errand.Kind.IMPORT_BUNDLE: "bundles_received",
    Errand.Kind.EXPORT_ANSWERS: "bundles_answers",
    Errand.Kind.RETURN_ANSWERS: "bundles_returned",
    Errand.Kind.SIMULATE: "simulation",
}


class ErrandError(Exception):
    """The errand cannot be done; the message is fit for the user."""


def ask_errand(
    *,
    kind: str,
    user: User,
    study: Study | None = None,
    options: Mapping[str, Any] | None = None,
    upload: tuple[str, Iterable[bytes]] | None = None,
    is_dry_run: bool = False,
) -> Errand:
    """The row of an errand, its file stored beside; wake the workers of `cpu` once it is committed."""
    with transaction.atomic():
        errand = Errand.objects.create(
            kind=kind, study=study, options=dict(options or {}), is_dry_run=is_dry_run, created_by=user
        )
        if upload is not None:
            name, chunks = upload
            errand.file_name = Path(name).name[-200:]
            store(errand_folder(errand) / INPUT, chunks, MOST_BYTES.get(Errand.Kind(kind), USUAL_BYTES))
            errand.save(update_fields=["file_name"])
    return errand


def store(path: Path, chunks: Iterable[bytes], limit: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    n_bytes = 0
    with path.open("wb") as file:
        for chunk in chunks:
            n_bytes += len(chunk)
            if n_bytes > limit:
                path.unlink()
                raise ErrandError(
                    _("The file is larger than %(limit)s MB, which is the most; cut it.") % {"limit": limit // MEGABYTE}
                )
            file.write(chunk)


def errand_folder(errand: Errand) -> Path:
    return Path(settings.EXPORT_ROOT) / "errands" / str(errand.pk)


def input_path(errand: Errand) -> Path:
    path = errand_folder(errand) / INPUT
    if not path.is_file():
        raise ErrandError(_("The file that was sent is no longer here; send it again."))
    return path


def output_path(errand: Errand) -> Path:
    """The file an errand made; raises ErrandError while there is none."""
    path = errand_folder(errand) / OUTPUT
    if errand.state != Errand.State.DONE or not path.is_file():
        raise ErrandError(_("There is no file; ask for it again."))
    return path


def confirm_errand(*, errand: Errand) -> None:
    """After its dry run: do it."""
    changed = Errand.objects.filter(pk=errand.pk, state=Errand.State.CHECKED).update(
        state=Errand.State.QUEUED, is_dry_run=False, finished_at=None
    )
    if not changed:
        raise ErrandError(_("This was not checked yet, or was done already."))


def work_off_errands() -> int:
    """Do every errand that is asked for, one after the other; returns how many. A failure is kept in its row."""
    n_done = 0
    while (errand := claim_errand()) is not None:
        perform(errand)
        n_done += 1
    return n_done


def claim_errand() -> Errand | None:
    now = timezone.now()
    wanted = Q(state=Errand.State.QUEUED) | Q(state=Errand.State.RUNNING, beaten_at__lt=now - GONE_AFTER)
    with transaction.atomic():
        errand = (
            Errand.objects.filter(wanted).order_by("id").select_for_update(skip_locked=True, of=("self",))
            .select_related("study", "created_by").first()
        )  # fmt: skip
        if errand is not None:
            errand.state, errand.beaten_at, errand.error = Errand.State.RUNNING, now, ""
            errand.save(update_fields=["state", "beaten_at", "error"])
    return errand


def perform(errand: Errand) -> None:
    def progress(n_done: int, n_wanted: int) -> None:
        Errand.objects.filter(pk=errand.pk).update(n_done=n_done, n_wanted=n_wanted, beaten_at=timezone.now())

    row = Errand.objects.filter(pk=errand.pk)
    try:
        report = performer(errand)(errand, progress)
    except ErrandError as error:
        row.update(state=Errand.State.FAILED, error=str(error), finished_at=timezone.now())
    except Exception as error:
        said = f"It stopped with an error it did not expect: {type(error).__name__}."
        row.update(state=Errand.State.FAILED, error=said, finished_at=timezone.now())
        raise
    else:
        state = Errand.State.CHECKED if errand.is_dry_run else Errand.State.DONE
        row.update(state=state, report=report, finished_at=timezone.now())


def performer(errand: Errand) -> Perform:
    module = import_module(f"annotation.domain.{MODULES[Errand.Kind(errand.kind)]}")
    act: Perform = module.perform_errand
    return act
