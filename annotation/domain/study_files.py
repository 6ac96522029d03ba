"""A study written down as a YAML file: the same draft that the form makes, so that a study can be kept with its code.

name: Shapes in a small ViT
protocol: two-alternative             # rate-describe-categorise if left out
options: {variants: [easy, no-reference], items_per_feature: 2}
dictionaries: [shapes-sae]            # by name, or by the beginning of a digest
sampler: {n_features: 120, n_density_bands: 3}
exclusions: {min_images: 16}
explanations: clip-dissect            # the name of a set; verification
embeddings: 3f2a…                     # or 'latest'; digests of artefacts, for hard contrasts and for alignment
settings: {core_share: 0.3, control_share: 0.1, control_kinds: [random_directions, shuffled]}
guideline: guideline.md               # a file beside this one
consent: consent.md
categories: {color: v, texture: x}
practice: {draw: 10}                  # or a list of {feature, accepted, reason, other_feature, text}
gold: []
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotation.domain.categories import set_categories
from annotation.domain.launch_problems import wants_accepted
from annotation.domain.protocols import protocol_of
from annotation.domain.sampling import SamplingError, load_rows
from annotation.domain.studies import StudyError, create_study, write_guideline
from annotation.domain.study_artifacts import chosen_artifact
from annotation.domain.study_editing import ReferenceValues, add_reference
from annotation.domain.study_file_checks import StudyFileError, check_file
from annotation.domain.study_samples import study_dictionaries, study_spec
from annotation.domain.study_texts import texts_of
from annotation.models import Dictionary, ExplanationSet, Feature, ReferenceItem, Study, User

ANY_ANSWER = {"patch_rating": [1, 2, 3, 4, None]}
ANYTHING = {
    "rate-describe-categorise": ANY_ANSWER,
    "pairwise": {"easier": ["left", "right", "tie"]},
    "nature-origin": {"nature": ["superficial", "conceptual", "uninterpretable"]},
    "alignment": {"same": ["yes", "no", None]},
    "spurious": {"spurious": ["yes", "no", None]},
}
DRAWN_REASON = gettext_noop("There is no single right answer here: say what you see, and read how the page works.")
DRAWN_TRUTH_REASON = gettext_noop("Drawn to learn the page by: which answer is right follows from the activations.")
ORIGIN_SHARE = 0.5  # features and controls in equal parts, so that guessing the origin is right half of the time


def create_study_from(*, values: Mapping[str, Any], folder: Path | None, user: User) -> Study:
    """A draft as the file says; raises StudyFileError, and then nothing is made. Without a folder it names no files."""
    check_file(values)
    try:
        with transaction.atomic():
            study = create_study(user=user, **study_fields(values, folder))
            if values.get("categories"):
                set_categories(study=study, user=user, rows=list(values["categories"].items()))
            if values.get("guideline"):
                write_guideline(study=study, user=user, text=text_of(values["guideline"], folder))
            study_spec(study)  # raises for a sampler that cannot be
            add_references(study, user, ReferenceItem.Kind.PRACTICE, values.get("practice", []))
            add_references(study, user, ReferenceItem.Kind.GOLD, values.get("gold", []))
    except (TypeError, ValueError, OverflowError) as error:
        raise StudyFileError(
            _("A value of the study file is of the wrong kind: %(error)s") % {"error": error}
        ) from error
    except (StudyError, SamplingError) as error:
        raise StudyFileError(str(error)) from error
    return study


def study_fields(values: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    fields = dict(values.get("settings", {}))
    fields["name"] = str(values["name"]).strip()
    fields["description"] = values.get("description", "")
    fields["protocol"] = values.get("protocol", "rate-describe-categorise")
    fields["protocol_options"] = dict(values.get("options", {}))
    if fields["protocol"] == "nature-origin":
        fields.setdefault("control_share", ORIGIN_SHARE)
    fields["exclusions"] = values.get("exclusions", {})
    fields["sampler"] = values.get("sampler", {}) | {"dictionaries": dictionary_ids(values.get("dictionaries", []))}
    if values.get("consent"):
        fields["consent_text"] = text_of(values["consent"], folder)
    if values.get("explanations"):
        fields["explanations"] = explanation_set(values["explanations"])
    for part, field, kind in (
        ("embeddings", "embeddings_digest", "image-embeddings"), ("alignment", "alignment_digest", "alignment"),
    ):  # fmt: skip
        if values.get(part):
            fields[field] = chosen_artifact(kind, values[part])
    return fields


def explanation_set(name: str) -> ExplanationSet:
    found = ExplanationSet.objects.filter(name=name).first()
    if found is None:
        raise StudyFileError(_("There is no set of explanations '%(name)s'; import one first.") % {"name": name})
    return found


def dictionary_ids(names: Sequence[Any]) -> list[int]:
    """By name, or by the beginning of the digest where two have one name."""
    return [dictionary_id(str(name)) for name in names]


def dictionary_id(name: str) -> int:
    found = list(Dictionary.objects.filter(name=name)[:2])
    if not found and len(name) >= 8:
        found = list(Dictionary.objects.filter(digest__startswith=name)[:2])
    if not found:
        raise StudyFileError(
            _("There is no dictionary '%(name)s'; the names are on the page Dictionaries.") % {"name": name}
        )
    if len(found) > 1:
        digests = ", ".join(one.digest[:12] for one in Dictionary.objects.filter(name=name))
        raise StudyFileError(
            _("Several dictionaries are called '%(name)s'; name one by its digest: %(digests)s.")
            % {"name": name, "digests": digests}
        )
    return found[0].pk


def text_of(value: str, folder: Path | None) -> str:
    """The text itself, or that of a file beside the study file."""
    path = folder / value if folder is not None and "\n" not in value and len(value) < 200 else None
    if path is not None and path.suffix in {".md", ".txt"}:
        if not path.is_file():
            raise StudyFileError(_("There is no file '%(value)s' beside the study file.") % {"value": value})
        return path.read_text()
    return value


def add_references(study: Study, user: User, kind: str, wanted: Any) -> None:
    rows = drawn_references(study, int(wanted["draw"])) if isinstance(wanted, Mapping) else wanted
    for row in rows:
        other = feature_of(row["other_feature"], kind) if row.get("other_feature") is not None else None
        reference = ReferenceValues(
            kind=kind, feature=feature_of(row["feature"], kind), accepted=row.get("accepted", {}),
            reason=row.get("reason", ""), other_feature=other, text=row.get("text", ""),
        )  # fmt: skip
        add_reference(study=study, user=user, values=reference)


def feature_of(pk: Any, kind: str) -> Feature:
    feature = Feature.objects.filter(pk=pk or 0).first()
    if feature is None:
        raise StudyFileError(_("There is no feature %(pk)s for a %(kind)s item.") % {"pk": pk, "kind": kind})
    return feature


def drawn_references(study: Study, n: int) -> list[dict[str, Any]]:
    """The n features seen on most images, any answer accepted: enough to learn the page. Pairs take the next n."""
    spec, texts = study_spec(study), texts_of(study)
    is_pair = protocol_of(study).builder == "pair"
    rows = [row for row in load_rows(study_dictionaries(study), spec) if row.n_images >= spec.min_images]
    rows = [row for row in rows if row.id in texts] if study.protocol in {"verification", "spurious"} else rows
    rows.sort(key=lambda row: (-row.n_images, row.id))
    if len(rows) < (2 * n if is_pair else n):
        raise StudyFileError(
            _("Only %(n)s features fire often enough for %(wanted)s practice items.") % {"n": len(rows), "wanted": n}
        )
    accepted = ANYTHING.get(study.protocol, {}) if wants_accepted(study) else {}
    reason = DRAWN_REASON if wants_accepted(study) else DRAWN_TRUTH_REASON
    drawn = [{"feature": row.id, "accepted": accepted, "reason": reason} for row in rows[:n]]
    if is_pair:
        return [row | {"other_feature": other.id} for row, other in zip(drawn, rows[n : 2 * n], strict=True)]
    return drawn
