"""A study written down as a YAML file: the same draft that the form makes, so that a study can be kept with its code.

name: Shapes in a small ViT
dictionaries: [shapes-sae]            # by name
sampler: {n_features: 120, n_density_bands: 3}
exclusions: {min_images: 16}
settings: {core_share: 0.3, control_share: 0.1, control_kinds: [random_directions, shuffled]}
guideline: guideline.md               # a file beside this one
consent: consent.md
categories: {color: v, texture: x}
practice: {draw: 10}                  # or a list of {feature, accepted, reason}
gold: []
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from django.db import transaction

from annotation.domain.sampling import SamplingError, load_rows, study_dictionaries, study_spec
from annotation.domain.studies import StudyError, create_study, write_guideline
from annotation.domain.study_editing import add_reference, set_categories
from annotation.models import Dictionary, Feature, ReferenceItem, Study, User

KEYS = (
    "name", "description", "dictionaries", "sampler", "exclusions", "settings", "guideline", "consent", "categories",
    "practice", "gold",
)  # fmt: skip
SETTINGS = (
    "seed", "overlap", "core_overlap", "core_share", "control_share", "control_kinds", "catch_share", "gold_share",
    "session_length", "consent_version", "is_simulated",
)  # fmt: skip
NAMED, TEXT = (dict, "a list of 'name: value'"), (str, "text")
SHAPES: dict[str, tuple[type, str]] = {
    "settings": NAMED, "sampler": NAMED, "exclusions": NAMED, "categories": NAMED, "dictionaries": (list, "a list"),
    "guideline": TEXT, "consent": TEXT, "description": TEXT,
}  # fmt: skip
MOST_CHECKS = 0.9  # at least a tenth of the items are the study's own
ANY_ANSWER = {"patch_rating": [1, 2, 3, 4, None]}
DRAWN_REASON = "There is no single right answer here: say what you see, and read how the page works."


class StudyFileError(Exception):
    """The file does not describe a study; the message is fit for the user."""


def create_study_from(*, values: Mapping[str, Any], folder: Path, user: User) -> Study:
    """A draft as the file says; raises StudyFileError, and then nothing is made."""
    reject_unknown(values, KEYS, "The study file")
    require_shapes(values)
    reject_unknown(values.get("settings", {}), SETTINGS, "The part 'settings'")
    if not str(values.get("name", "")).strip():
        raise StudyFileError("The study file needs a 'name'.")
    try:
        with transaction.atomic():
            study = create_study(user=user, **study_fields(values, folder))
            if values.get("categories"):
                set_categories(study=study, user=user, rows=list(values["categories"].items()))
            if values.get("guideline"):
                write_guideline(study=study, user=user, text=text_of(values["guideline"], folder))
            add_references(study, user, ReferenceItem.Kind.PRACTICE, values.get("practice", []))
            add_references(study, user, ReferenceItem.Kind.GOLD, values.get("gold", []))
    except (TypeError, ValueError, OverflowError) as error:
        raise StudyFileError(f"A value of the study file is of the wrong kind: {error}") from error
    except (StudyError, SamplingError) as error:
        raise StudyFileError(str(error)) from error
    return study


def require_shapes(values: Mapping[str, Any]) -> None:
    """Each part is what the example above shows: names with values, a list, or text."""
    for name, (kind, words) in SHAPES.items():
        if name in values and not isinstance(values[name], kind):
            raise StudyFileError(f"The part '{name}' must be {words}.")
    for name in ("practice", "gold"):
        wanted = values.get(name, [])
        is_draw = isinstance(wanted, dict) and set(wanted) == {"draw"} and type(wanted["draw"]) is int
        is_listed = isinstance(wanted, list) and all(
            isinstance(row, dict) and type(row.get("feature")) is int for row in wanted
        )
        if not (is_draw or is_listed):
            raise StudyFileError(f"The part '{name}' must be 'draw: NUMBER' or a list of entries with a 'feature'.")
    if not all(isinstance(key, str) for key in values.get("categories", {}).values()):
        raise StudyFileError("Each of the categories needs a key, such as 'color: v'.")
    shares = [values.get("settings", {}).get(name, 0) for name in ("control_share", "catch_share", "gold_share")]
    if not all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares) or sum(shares) > MOST_CHECKS:
        raise StudyFileError(
            f"The shares of controls, catch and gold items must not be below 0, nor above {MOST_CHECKS} in all."
        )


def reject_unknown(values: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise StudyFileError(f"{where} has an unknown entry '{unknown[0]}'; it can have {', '.join(known)}.")


def study_fields(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    fields = dict(values.get("settings", {}))
    fields["name"] = str(values["name"]).strip()
    fields["description"] = values.get("description", "")
    fields["exclusions"] = values.get("exclusions", {})
    fields["sampler"] = values.get("sampler", {}) | {"dictionaries": dictionary_ids(values.get("dictionaries", []))}
    if values.get("consent"):
        fields["consent_text"] = text_of(values["consent"], folder)
    return fields


def dictionary_ids(names: Sequence[str]) -> list[int]:
    found = {dictionary.name: dictionary.pk for dictionary in Dictionary.objects.filter(name__in=names)}
    missing = [name for name in names if name not in found]
    if missing:
        raise StudyFileError(f"There is no dictionary '{missing[0]}'; the names are on the page Dictionaries.")
    return [found[name] for name in names]


def text_of(value: str, folder: Path) -> str:
    """The text itself, or that of a file beside the study file."""
    path = folder / value if "\n" not in value and len(value) < 200 else None
    if path is not None and path.suffix in {".md", ".txt"}:
        if not path.is_file():
            raise StudyFileError(f"There is no file '{value}' beside the study file.")
        return path.read_text()
    return value


def add_references(study: Study, user: User, kind: str, wanted: Any) -> None:
    rows = drawn_references(study, int(wanted["draw"])) if isinstance(wanted, Mapping) else wanted
    for row in rows:
        feature = Feature.objects.filter(pk=row.get("feature") or 0).first()
        if feature is None:
            raise StudyFileError(f"There is no feature {row.get('feature')} for a {kind} item.")
        add_reference(
            study=study, user=user, kind=kind, feature=feature,
            accepted=row.get("accepted", {}), reason=row.get("reason", ""),
        )  # fmt: skip


def drawn_references(study: Study, n: int) -> list[dict[str, Any]]:
    """The n features seen on most images, any answer accepted: enough to learn the page."""
    spec = study_spec(study)
    rows = [row for row in load_rows(study_dictionaries(study), spec) if row.n_images >= spec.min_images]
    rows.sort(key=lambda row: (-row.n_images, row.id))
    if len(rows) < n:
        raise StudyFileError(f"Only {len(rows)} features fire often enough for {n} practice items.")
    return [{"feature": row.id, "accepted": ANY_ANSWER, "reason": DRAWN_REASON} for row in rows[:n]]
