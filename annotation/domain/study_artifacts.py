"""Artefacts a study can be given besides dictionaries: image embeddings and alignments, as finished runs made them."""

from __future__ import annotations

from typing import NamedTuple

from django.utils.translation import gettext as _

from annotation.domain.storage import artifact_store
from annotation.domain.studies import StudyError
from annotation.models import Run
from workers.artifacts import ArtifactError

STAGE_OF_KIND = {"image-embeddings": "embed-images", "alignment": "align-dictionaries"}
LATEST = "latest"


class Found(NamedTuple):
    digest: str
    title: str


def artifacts_of_kind(kind: str) -> list[Found]:
    """What finished runs made, the latest first."""
    runs = Run.objects.filter(stage=STAGE_OF_KIND[kind], state=Run.State.DONE).order_by("-id")
    found: dict[str, str] = {}
    for run in runs:
        for digest in run.artifacts:
            found.setdefault(digest, _("%(title)s, run %(pk)s") % {"title": run.title or run.stage, "pk": run.pk})
    return [Found(digest, title) for digest, title in found.items()]


def chosen_artifact(kind: str, wanted: str) -> str:
    """The digest that `wanted` begins, or the latest; raises StudyError where there is none."""
    found = [one.digest for one in artifacts_of_kind(kind)]
    if wanted == LATEST:
        if not found:
            raise StudyError(
                _("There is no artefact of kind %(kind)s yet; the stage %(stage_of_kind)s makes one.")
                % {"kind": kind, "stage_of_kind": STAGE_OF_KIND[kind]}
            )
        return found[0]
    matching = [digest for digest in found if digest.startswith(wanted)]
    if matching:
        return matching[0]
    try:
        return artifact_store().open(wanted, kind=kind).digest
    except (ArtifactError, ValueError) as error:
        raise StudyError(
            _("There is no artefact '%(wanted)s' of kind %(kind)s.") % {"wanted": wanted, "kind": kind}
        ) from error
