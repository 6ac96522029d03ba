"""The columns of an export: name, where the value comes from, type, meaning, and whether it waits for unblinding.

A participant appears by a pseudonymous code only. What an item really is (condition, dictionary, block, feature, right
answer) is left out until the study is unblinded. A column without a source is looked up: it is what people settled
after the answer was given (a merged wording, a verdict), and the answer itself stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from django.db.models import F, TextField
from django.db.models.functions import Cast

from annotation.domain.vocabulary import canonical_labels
from annotation.models import Annotation, Study, Verdict

CHUNK = 5000


class ColumnType(StrEnum):
    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TIME = "time"
    JSON = "json"


SOURCES = "web: given here; import: of earlier work; bundle: given on another site, from a bundle"
RATING = "1 no, 2 a hint, 3 mostly, 4 clearly; empty: cannot tell"


class Column(NamedTuple):
    name: str
    source: str
    type: ColumnType
    meaning: str
    is_blind: bool = False


COLUMNS = (
    Column("annotation", "uuid", ColumnType.TEXT, "identifier of the answer, made by the annotator's browser"),
    Column("item", "item_id", ColumnType.INTEGER, "what was judged; one stimulus"),
    Column("stimulus", "stimulus_id", ColumnType.TEXT, "content hash of the frozen stimulus: see stimuli.jsonl"),
    Column("annotator", "annotator__annotator_code", ColumnType.TEXT, "pseudonymous code of the annotator"),
    Column("is_simulated", "is_simulated", ColumnType.BOOLEAN, "answered by a program, not by a person"),
    Column("is_current", "is_current", ColumnType.BOOLEAN, "false where the annotator revised the answer later"),
    Column("revision_of", "revision_of__uuid", ColumnType.TEXT, "the answer that this one revises"),
    Column("is_late_extra", "is_late_extra", ColumnType.BOOLEAN, "came after its slot was filled; counted apart"),
    Column("excluded_reason", "excluded_reason", ColumnType.TEXT, "why the answer is excluded; empty: it counts"),
    Column("patch_rating", "patch_rating", ColumnType.INTEGER, RATING),
    Column("image_rating", "image_rating", ColumnType.INTEGER, RATING),
    Column("category", "category", ColumnType.TEXT, "category chosen"),
    Column("label", "label", ColumnType.TEXT, "what the annotator says the feature shows"),
    Column("choice", "choice", ColumnType.TEXT, "the main choice, in protocols that have one"),
    Column("confidence", "confidence", ColumnType.INTEGER, "1 a guess, 2 fairly sure, 3 sure; empty: not asked"),
    Column("canonical_label", "", ColumnType.TEXT, "the label, or the wording it was merged into since"),
    Column("adjudicated_category", "", ColumnType.TEXT, "category a reviewer settled on for the item; empty: none"),
    Column("adjudicated_label", "", ColumnType.TEXT, "label a reviewer settled on for the item; empty: none"),
    Column("payload", "payload", ColumnType.JSON, "the whole answer as it was sent"),
    Column("timing", "timing", ColumnType.JSON, "timing as measured by the browser"),
    Column("visible_ms", "visible_ms", ColumnType.INTEGER, "milliseconds during which the item was in view"),
    Column("shown_at", "shown_at", ColumnType.TIME, "when the item was painted, by the browser's clock"),
    Column("submitted_at", "submitted_at", ColumnType.TIME, "when the answer was given, by the browser's clock"),
    Column("received_at", "received_at", ColumnType.TIME, "when the server stored the answer"),
    Column("protocol_version", "protocol_version", ColumnType.TEXT, "version of the protocol in force"),
    Column("guideline_version", "guideline_version", ColumnType.INTEGER, "version of the guideline in force"),
    Column("study_version", "study_version", ColumnType.TEXT, "version of the study's settings in force"),
    Column("vocabulary_version", "vocabulary_version", ColumnType.INTEGER, "version of its vocabulary in force"),
    Column("source", "source", ColumnType.TEXT, SOURCES),
    Column("is_too_quick", "is_too_quick", ColumnType.BOOLEAN, "seen for less than the study's minimum"),
    Column("app_version", "app_version", ColumnType.TEXT, "version of Vitrine in force"),
    Column("condition", "item__condition", ColumnType.TEXT, "what the item really is: real or a control", True),
    Column("repeat_of", "item__repeat_of_id", ColumnType.INTEGER, "the item that this one repeats", True),
    Column("stratum", "item__stratum", ColumnType.TEXT, "stratum of the sampler", True),
    Column("variant", "item__variant", ColumnType.TEXT, "kind of contrast, as the protocol names it", True),
    Column("text", "item__text", ColumnType.TEXT, "the explanation or class that was shown", True),
    Column("truth", "item__truth", ColumnType.JSON, "the right answer, frozen with the stimulus; or {}", True),
    Column("is_gold_right", "is_gold_right", ColumnType.BOOLEAN, "whether a gold item was answered as accepted", True),
    Column("feature", "item__feature_id", ColumnType.INTEGER, "the feature, as Vitrine numbers it", True),
    Column("dictionary", "item__feature__dictionary__name", ColumnType.TEXT, "name of the dictionary", True),
    Column("dictionary_digest", "item__feature__dictionary__digest", ColumnType.TEXT, "its content hash", True),
    Column("hookpoint", "item__feature__hookpoint", ColumnType.TEXT, "place in the vision model", True),
    Column("block", "item__feature__block", ColumnType.INTEGER, "block of the vision model", True),
    Column("latent", "item__feature__latent", ColumnType.INTEGER, "unit of the dictionary", True),
    Column("pole", "item__feature__pole", ColumnType.INTEGER, "1, or -1 for the negative side of a signed unit", True),
    Column("other_feature", "item__other_feature_id", ColumnType.INTEGER, "the second feature of a pair", True),
    Column("other_dictionary", "item__other_feature__dictionary__name", ColumnType.TEXT, "its dictionary", True),
    Column("other_block", "item__other_feature__block", ColumnType.INTEGER, "its block", True),
)  # fmt: skip


def columns_for(*, is_unblinded: bool) -> list[Column]:
    return [column for column in COLUMNS if is_unblinded or not column.is_blind]


def export_rows(
    study: Study, columns: list[Column], keys: list[int] | None = None, *, after: int = 0
) -> Iterator[tuple[Any, ...]]:
    """One tuple per stored answer (or per one of `keys`), in the order in which they came; JSON stays text."""
    stored = [column for column in columns if column.source]
    fields = [
        Cast(F(column.source), TextField()) if column.type is ColumnType.JSON else F(column.source) for column in stored
    ]
    if keys is None:
        query = Annotation.objects.filter(study=study, pk__gt=after)
    else:
        query = Annotation.objects.filter(pk__in=keys)
    rows = query.order_by("id").values_list(*fields).iterator(chunk_size=CHUNK)
    return with_looked_up(study, columns, rows)


def with_looked_up(study: Study, columns: list[Column], rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows with the columns that are not stored with the answer, each in its place."""
    names = [column.name for column in columns if column.source]
    places = [index for index, column in enumerate(columns) if not column.source]
    label, item = names.index("label"), names.index("item")
    canonical, verdicts = canonical_labels(study), settled_items(study)
    for row in rows:
        category, settled = verdicts.get(row[item], (None, None))
        found = {
            "canonical_label": canonical(row[label]),
            "adjudicated_category": category, "adjudicated_label": settled,
        }  # fmt: skip
        values = list(row)
        for place in places:
            values.insert(place, found[columns[place].name])
        yield tuple(values)


def settled_items(study: Study) -> dict[int, tuple[str, str]]:
    rows = Verdict.objects.filter(study=study, is_current=True).values_list("item_id", "category", "label")
    return {item: (category, label) for item, category, label in rows.iterator(chunk_size=CHUNK)}
