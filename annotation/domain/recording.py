"""Give the artefacts of a finished run their rows in the catalog, by kind; recording one twice changes nothing."""

from __future__ import annotations

from collections.abc import Callable

from django.utils.translation import gettext as _

from annotation.domain.features import load_features
from annotation.domain.opening import open_study
from annotation.domain.storage import artifact_store
from annotation.models import CONTROL_KINDS, Dictionary, ImageSet, Readout, Run, VisionModel
from workers.artifacts import Artifact


class RecordingError(Exception):
    """An artefact cannot get its row; the message is fit for the user."""


def record_artifacts(run: Run) -> None:
    """Register the artefacts of a run; the caller's transaction makes this one with the run's completion."""
    store = artifact_store()
    for digest in run.artifacts:
        artifact = store.open(digest)
        record = RECORDERS.get(artifact.kind)
        if record is not None:
            record(artifact, run)


def record_vision_model(artifact: Artifact, run: Run | None, *, name: str = "") -> VisionModel:
    """The row of a vision model; ``run`` is None for one that a command registered."""
    facts = artifact.json("model.json")
    known = VisionModel.objects.filter(digest=artifact.digest).first()
    if known is not None:
        return known
    asked = artifact.config.get("name") or (run.config.get("name") if run is not None else "")
    wanted = str(name or asked or facts["architecture"])
    height, width = facts["grid"]
    return VisionModel.objects.create(
        name=unused_model_name(wanted),
        digest=artifact.digest,
        architecture=facts["architecture"],
        source=facts["source"],
        n_blocks=facts["n_blocks"],
        d_model=facts["d_model"],
        n_prefix_tokens=facts["n_prefix_tokens"],
        grid_height=height,
        grid_width=width,
        preprocessing=facts["preprocessing"],
        classes=facts.get("classes") or [],
        run=run,
    )


def unused_model_name(wanted: str) -> str:
    """``wanted``, or ``wanted-2`` and so on where the name is taken by other weights."""
    taken = set(VisionModel.objects.filter(name__startswith=wanted).values_list("name", flat=True))
    candidates = [wanted, *(f"{wanted}-{n}" for n in range(2, len(taken) + 2))]
    return next(name for name in candidates if name not in taken)


def record_readout(artifact: Artifact, run: Run | None) -> Readout:
    """The row of a readout; its first parent is the vision model."""
    known = Readout.objects.filter(digest=artifact.digest).first()
    if known is not None:
        return known
    model = VisionModel.objects.filter(digest__in=artifact.manifest["parents"]).first()
    if model is None:
        raise RecordingError(
            _("The readout %(digest)s belongs to a vision model that is not registered.")
            % {"digest": artifact.digest[:12]}
        )
    facts = artifact.json("readout.json")
    wanted = "own head" if facts["name"] == "head" else str(facts["name"])
    taken = set(model.readouts.values_list("name", flat=True))
    names = [wanted, *(f"{wanted} {n}" for n in range(2, len(taken) + 2))]
    return Readout.objects.create(
        vision_model=model,
        name=next(name for name in names if name not in taken),
        digest=artifact.digest,
        classes=facts.get("classes") or [],
    )


def record_dictionary(artifact: Artifact, run: Run | None) -> Dictionary:
    facts = artifact.json("dictionary.json")
    known = Dictionary.objects.filter(digest=artifact.digest).first()
    if known is not None:
        return known
    model = VisionModel.objects.filter(digest=facts["vision_model"]).first()
    image_set = ImageSet.objects.filter(digest=facts["image_set"]).first()
    if model is None or image_set is None:
        missing = _("vision model") if model is None else _("image set")
        raise RecordingError(
            _("The dictionary %(digest)s reads a %(missing)s that is not registered.")
            % {"digest": artifact.digest[:12], "missing": missing}
        )
    controlled = Dictionary.objects.filter(digest=facts.get("controls") or "none").first()
    return Dictionary.objects.create(
        name=artifact.config.get("name") or facts.get("name") or facts["kind"],
        digest=artifact.digest,
        kind=facts["kind"],
        vision_model=model,
        image_set=image_set,
        control_of=controlled if facts["kind"] in CONTROL_KINDS else None,
        hookpoints=list(facts["reads"]),
        config=artifact.config,
        run=run,
    )


def record_quality(artifact: Artifact, run: Run | None) -> None:
    Dictionary.objects.filter(digest__in=artifact.manifest["parents"]).update(
        quality=artifact.json("quality.json"), quality_digest=artifact.digest
    )


def record_exemplars(artifact: Artifact, run: Run | None) -> None:
    load_features(artifact=artifact, run=run)


def open_frozen_study(artifact: Artifact, run: Run | None) -> None:
    if run is not None:
        open_study(run=run)


RECORDERS: dict[str, Callable[[Artifact, Run | None], object]] = {
    "vision-model": record_vision_model,
    "readout": record_readout,
    "dictionary": record_dictionary,
    "quality": record_quality,
    "exemplars": record_exemplars,
    "stimuli": open_frozen_study,
}
