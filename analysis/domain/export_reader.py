"""The rows of a report from an exported file, streamed, so that anybody can recompute its numbers.

The protocol and its options come from the data card beside the file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.domain.answers import AnswerRow
from analysis.domain.measures import MEASURES
from analysis.domain.reports.frame import Settled, Subject
from annotation.domain.protocols import PROTOCOLS

COLUMNS = {
    "item": "item",
    "feature": "feature",
    "annotator": "annotator",
    "payload": "payload",
    "truth": "truth",
    "is_gold_right": "is_gold_right",
    "is_current": "is_current",
    "is_late_extra": "is_late_extra",
    "is_simulated": "is_simulated",
    "excluded_reason": "excluded_reason",
    "repeat_of": "repeat_of",
    "condition": "condition",
    "variant": "variant",
    "block": "block",
    "dictionary": "dictionary",
    "other_dictionary": "other_dictionary",
    "other_feature": "other_feature",
}
INTEGERS = ("item", "feature", "patch_rating", "image_rating", "repeat_of", "block", "other_feature")
FLAGS = ("is_gold_right", "is_current", "is_late_extra", "is_simulated")
RATINGS = ("patch_rating", "image_rating")
FORMATS = ("csv", "jsonl", "parquet")
CARD = "card.json"
VERDICTS = "verdicts.jsonl"


class ExportReadError(Exception):
    """The file is not an export that a report can be made from; the message says what to do."""


def subject_of_export(path: Path, protocol: str = "") -> Subject:
    """What the card beside the file says; `protocol` where there is no card."""
    file = data_file(path)
    card_path = file.parent / CARD
    study: dict[str, Any] = json.loads(card_path.read_text())["study"] if card_path.is_file() else {}
    name = protocol or study.get("protocol", "")
    if name not in PROTOCOLS:
        told = f"its protocol '{name}' is none that this version has" if name else f"there is no {CARD} beside it"
        raise ExportReadError(f"'{file.name}' cannot be read: {told}; name one with --protocol.")
    options = PROTOCOLS[name].settle_options(study.get("protocol_options") or {})
    return Subject(name, options, tuple(study.get("ineligible") or ()), settled=_settled(file.parent / VERDICTS))


def _settled(path: Path) -> list[Settled]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [
        Settled(
            row["item"],
            row["judge"],
            row["verdict"],
            row["majority"],
            [(code, value) for code, value in row["answers"]],
        )
        for row in rows
    ]


def rows_of_export(path: Path, protocol: str) -> Iterator[AnswerRow]:
    """`path`: an export folder, or its file of annotations."""
    file = data_file(path)
    for row in _READERS[file.suffix[1:]](file):
        try:
            yield _answer_row(row, protocol)
        except KeyError as error:
            raise ExportReadError(
                f"'{file.name}' has no column {error}; a blind export has none: unblind the study and export it again."
            ) from error


def _answer_row(row: dict[str, Any], protocol: str) -> AnswerRow:
    measure = MEASURES[protocol]
    given = row | {"other_dictionary": row["other_dictionary"] or ""}
    given["payload"] = json_of(row["payload"]) if measure.needs_payload else {name: row[name] for name in RATINGS}
    given["truth"] = json_of(row["truth"]) if measure.needs_truth else {}
    return AnswerRow(**{field: given[column] for field, column in COLUMNS.items()})


def json_of(value: Any) -> dict[str, Any]:
    """JSONL has objects, the others their text."""
    found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return found


def data_file(path: Path) -> Path:
    if path.is_dir():
        found = [path / f"annotations.{suffix}" for suffix in FORMATS if (path / f"annotations.{suffix}").is_file()]
        if not found:
            raise ExportReadError(f"There is no annotations.csv, .jsonl or .parquet in '{path}'.")
        return found[0]
    if path.suffix[1:] not in FORMATS or not path.is_file():
        raise ExportReadError(f"'{path}' is no export: name its folder, or its .csv, .jsonl or .parquet file.")
    return path


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    """Everything is text here: empty is missing."""
    flags = {"True": True, "False": False, "": None}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            typed: dict[str, Any] = dict(row)
            for name in INTEGERS:
                if name in typed:
                    typed[name] = int(typed[name]) if typed[name] else None
            for name in FLAGS:
                if name in typed:
                    typed[name] = flags[typed[name]]
            yield typed


def _read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            row: dict[str, Any] = json.loads(line)
            yield row


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        wanted = [name for name in (*COLUMNS.values(), *RATINGS) if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=20_000, columns=wanted):
            columns = batch.to_pydict()
            for values in zip(*columns.values(), strict=True):
                yield dict(zip(columns, values, strict=True))


_READERS = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}
