"""The rows of a report from an exported file, streamed, so that anybody can recompute its numbers."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.domain.answers import AnswerRow

COLUMNS = {
    "item": "item",
    "annotator": "annotator",
    "patch_rating": "patch_rating",
    "image_rating": "image_rating",
    "is_current": "is_current",
    "is_late_extra": "is_late_extra",
    "is_simulated": "is_simulated",
    "excluded_reason": "excluded_reason",
    "repeat_of": "repeat_of",
    "condition": "condition",
    "block": "block",
    "dictionary": "dictionary",
}
FORMATS = ("csv", "jsonl", "parquet")


class ExportReadError(Exception):
    """The file is not an export that a report can be made from; the message says what to do."""


def rows_of_export(path: Path) -> Iterator[AnswerRow]:
    """`path`: an export folder, or its file of annotations."""
    file = _data_file(path)
    for row in _READERS[file.suffix[1:]](file):
        try:
            yield AnswerRow(**{field: row[column] for field, column in COLUMNS.items()})
        except KeyError as error:
            raise ExportReadError(
                f"'{file.name}' has no column {error}; a blind export has none: unblind the study and export it again."
            ) from error


def _data_file(path: Path) -> Path:
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
    flags = {"True": True, "False": False}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            typed: dict[str, Any] = dict(row)
            for name in ("item", "patch_rating", "image_rating", "repeat_of", "block"):
                if name in typed:
                    typed[name] = int(typed[name]) if typed[name] else None
            for name in ("is_current", "is_late_extra", "is_simulated"):
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
        wanted = [name for name in COLUMNS.values() if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=20_000, columns=wanted):
            columns = batch.to_pydict()
            for values in zip(*columns.values(), strict=True):
                yield dict(zip(columns, values, strict=True))


_READERS = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}
