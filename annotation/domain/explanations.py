"""Sets of explanations: read from CSV or JSONL, or taken from what people called features in a closed study.

A file names a feature by its number, or by dictionary, hookpoint and latent (and pole, +1 if left out), and its text.
A bad row refuses the whole file with one sentence: nothing is imported by halves.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import transaction
from django.utils.translation import gettext as _

from annotation.domain.labels import shown_annotations
from annotation.models import Dictionary, Explanation, ExplanationSet, Feature, Study, User

MAX_TEXT = 500
MAX_BYTES = 50_000_000
MAX_ROWS = 500_000
BATCH = 2000
COLUMNS = ("feature", "dictionary", "hookpoint", "latent", "pole", "text")
FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


class ExplanationError(Exception):
    """The explanations cannot be taken; the message is fit for the user."""


class FeatureKey(NamedTuple):
    dictionary: int
    hookpoint: str
    latent: int
    pole: int


class Row(NamedTuple):
    """One explanation as the file has it: the line it stands on, which feature, its text."""

    line: int
    feature: int | FeatureKey
    text: str


def import_explanations(*, name: str, source: str, content: bytes, file_name: str, user: User | None) -> ExplanationSet:
    """A new set from a file; raises ExplanationError, and then there is none."""
    suffix = next((end for end in FORMATS if file_name.lower().endswith(end)), None)
    if suffix is None:
        raise ExplanationError(
            _("'%(file_name)s' is neither .csv nor .jsonl; write one explanation per row or line.")
            % {"file_name": file_name}
        )
    if len(content) > MAX_BYTES:
        raise ExplanationError(
            _("The file has %(n)s MB; %(max_bytes)s MB is the most.")
            % {"n": f"{len(content) / 1e6:.0f}", "max_bytes": f"{MAX_BYTES / 1e6:.0f}"}
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExplanationError(_("The file is not in UTF-8; save it as UTF-8 and try again.")) from error
    raw = csv_rows(text) if FORMATS[suffix] == "csv" else jsonl_rows(text)
    names = dictionary_names()
    rows = [settled(line, values, names) for line, values in raw]
    if len(rows) > MAX_ROWS:
        raise ExplanationError(
            _("The file has %(n)s rows; %(max_rows)s is the most.") % {"n": len(rows), "max_rows": MAX_ROWS}
        )
    return store(name, source, resolved(rows), user)


def csv_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text))
    unknown = [column for column in reader.fieldnames or [] if column not in COLUMNS]
    if unknown or "text" not in (reader.fieldnames or []):
        what = _("has a column '%(unknown)s'") % {"unknown": unknown[0]} if unknown else _("has no column 'text'")
        raise ExplanationError(
            _("The file %(what)s; the columns can be %(values)s.") % {"what": what, "values": ", ".join(COLUMNS)}
        )
    try:
        for values in reader:
            if None in values:
                raise ExplanationError(
                    _("Row %(line_num)s has more cells than there are columns.") % {"line_num": reader.line_num}
                )
            yield reader.line_num, {name: value for name, value in values.items() if value not in {None, ""}}
    except csv.Error as error:
        raise ExplanationError(
            _("Row %(line_num)s is not CSV: %(error)s.") % {"line_num": reader.line_num, "error": error}
        ) from error


def jsonl_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, words in enumerate(text.splitlines(), start=1):
        if not words.strip():
            continue
        try:
            values = json.loads(words)
        except json.JSONDecodeError as error:
            raise ExplanationError(
                _("Row %(line)s is not JSON: %(msg)s.") % {"line": line, "msg": error.msg}
            ) from error
        if not isinstance(values, dict):
            raise ExplanationError(_("Row %(line)s is not a JSON object.") % {"line": line})
        unknown = sorted(set(values) - set(COLUMNS))
        if unknown:
            raise ExplanationError(
                _("Row %(line)s has an entry '%(unknown)s'; it can have %(values)s.")
                % {"line": line, "unknown": unknown[0], "values": ", ".join(COLUMNS)}
            )
        yield line, values


def dictionary_names() -> dict[str, int | None]:
    """The id by name and by digest; None for a name that several have."""
    ids: dict[str, int | None] = {}
    for pk, name, digest in Dictionary.objects.values_list("pk", "name", "digest"):
        ids[name] = None if name in ids else pk
        ids[digest] = pk
    return ids


def settled(line: int, values: Mapping[str, Any], names: Mapping[str, int | None]) -> Row:
    text = values.get("text")
    if not isinstance(text, str) or not text.strip():
        raise ExplanationError(_("Row %(line)s has no text.") % {"line": line})
    words = " ".join(text.split())
    if len(words) > MAX_TEXT:
        raise ExplanationError(
            _("The text of row %(line)s has %(n)s characters; %(max_text)s is the most.")
            % {"line": line, "n": len(words), "max_text": MAX_TEXT}
        )
    if "feature" in values:
        return Row(line, whole(values["feature"], "feature", line), words)
    missing = [name for name in ("dictionary", "hookpoint", "latent") if name not in values]
    if missing:
        raise ExplanationError(
            _("Row %(line)s names no feature: give its number, or dictionary, hookpoint and latent.") % {"line": line}
        )
    name = str(values["dictionary"])
    dictionary = names.get(name)
    if dictionary is None:
        why = (
            _("several dictionaries have this name; use the digest")
            if name in names
            else _("there is no such dictionary")
        )
        raise ExplanationError(
            _("Row %(line)s names the dictionary '%(name)s': %(why)s.") % {"line": line, "name": name, "why": why}
        )
    pole = whole(values.get("pole", 1), "pole", line)
    if pole not in {1, -1}:
        raise ExplanationError(
            _("The pole of row %(line)s is %(pole)s; it can be 1 or -1.") % {"line": line, "pole": pole}
        )
    return Row(
        line, FeatureKey(dictionary, str(values["hookpoint"]), whole(values["latent"], "latent", line), pole), words
    )


def whole(value: Any, name: str, line: int) -> int:
    try:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError
        number = int(value)
    except (TypeError, ValueError) as error:
        raise ExplanationError(
            _("The %(name)s of row %(line)s is %(value)s; it must be a whole number.")
            % {"name": name, "line": line, "value": repr(value)}
        ) from error
    if not -1 <= number < 2**31:
        raise ExplanationError(
            _("The %(name)s of row %(line)s is %(number)s; there is no such.")
            % {"name": name, "line": line, "number": number}
        )
    return number


def resolved(rows: Sequence[Row]) -> dict[int, str]:
    """Text by feature id; raises ExplanationError for a feature that is not there, or explained twice."""
    if not rows:
        raise ExplanationError(_("The file has no explanations."))
    by_key = features_by_key({row.feature for row in rows if isinstance(row.feature, FeatureKey)})
    numbers = {row.feature for row in rows if isinstance(row.feature, int)}
    known = known_numbers(sorted(numbers))
    texts: dict[int, str] = {}
    for row in rows:
        feature = by_key.get(row.feature) if isinstance(row.feature, FeatureKey) else row.feature
        if feature is None or (isinstance(row.feature, int) and feature not in known):
            raise ExplanationError(_("There is no such feature as row %(line)s names.") % {"line": row.line})
        if feature in texts:
            raise ExplanationError(
                _("Row %(line)s explains feature %(feature)s a second time.") % {"line": row.line, "feature": feature}
            )
        texts[feature] = row.text
    return texts


def known_numbers(numbers: Sequence[int]) -> set[int]:
    known: set[int] = set()
    for start in range(0, len(numbers), BATCH):
        known.update(Feature.objects.filter(pk__in=numbers[start : start + BATCH]).values_list("pk", flat=True))
    return known


def features_by_key(keys: Iterable[FeatureKey]) -> dict[FeatureKey, int]:
    wanted: dict[tuple[int, str, int], set[int]] = defaultdict(set)
    for key in keys:
        wanted[key.dictionary, key.hookpoint, key.pole].add(key.latent)
    found: dict[FeatureKey, int] = {}
    for (dictionary, hookpoint, pole), latents in wanted.items():
        rows = Feature.objects.filter(dictionary=dictionary, hookpoint=hookpoint, pole=pole)
        for latent, pk in rows.values_list("latent", "pk").iterator():
            if latent in latents:
                found[FeatureKey(dictionary, hookpoint, latent, pole)] = pk
    return found


def store(name: str, source: str, texts: Mapping[int, str], user: User | None) -> ExplanationSet:
    words = name.strip()
    if not words or len(words) > 120:
        raise ExplanationError(_("Give the set a name of 1 to 120 characters."))
    if len(source) > 200:
        raise ExplanationError(_("Say the source in at most 200 characters."))
    with transaction.atomic():
        if ExplanationSet.objects.filter(name=words).exists():
            raise ExplanationError(_("There is a set '%(words)s' already; choose another name.") % {"words": words})
        made = ExplanationSet.objects.create(name=words, source=source, created_by=user)
        Explanation.objects.bulk_create(
            (Explanation(explanation_set=made, feature_id=feature, text=text) for feature, text in texts.items()),
            batch_size=BATCH,
        )
    return made


def explanations_from_labels(*, study: Study, name: str, user: User | None) -> ExplanationSet:
    """A set of what most people called each feature; only of a study that is closed and unblinded."""
    rows = shown_annotations().filter(study=study).exclude(label="").values_list("item__feature_id", "label")
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for feature, label in rows:
        counts[feature][label] += 1
    if not counts:
        raise ExplanationError(
            _("'%(name)s' has no labels to take: it must be closed and unblinded, and people must have written some.")
            % {"name": study.name}
        )
    texts = {feature: min(labels, key=lambda label: (-labels[label], label)) for feature, labels in counts.items()}
    return store(name, f"labels of the study '{study.name}'", texts, user)
