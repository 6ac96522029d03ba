"""A metadata file, CSV or JSON lines: one row per image with its path, label, mask and any further columns.

Columns: `path` (or `file_name`), `label`, `mask`; every other column becomes an attribute of the image. In a CSV file a
column of which every value is a whole number, a decimal number or true/false is read as such.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from workers.image_decoding import ImageImportError

PATH_COLUMNS = ("path", "file_name")
TRUTH = {"true": True, "false": False, "True": True, "False": False}


@dataclass(frozen=True)
class MetadataRow:
    line: int
    path: str
    label: str | None
    mask: str | None
    attributes: dict[str, Any]


def read_metadata(file: Path) -> list[MetadataRow]:
    """All rows of the file; raises ImageImportError naming the line that is wrong."""
    if not os.path.isfile(file):
        raise ImageImportError(f"The metadata file '{file}' does not exist.")
    if file.suffix.lower() not in (".csv", ".jsonl"):
        raise ImageImportError(f"The metadata file '{file}' must end in .csv or .jsonl.")
    try:
        numbered = read_csv(file) if file.suffix.lower() == ".csv" else read_json_lines(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImageImportError(f"The metadata file '{file}' cannot be read ({error}).") from error
    if not numbered:
        raise ImageImportError(f"The metadata file '{file}' has no rows.")
    rows = [metadata_row(file, line, values) for line, values in numbered]
    first_line: dict[str, int] = {}
    for row in rows:
        if first_line.setdefault(row.path, row.line) != row.line:
            raise ImageImportError(
                f"The image '{row.path}' stands twice in '{file.name}', on lines {first_line[row.path]} and {row.line}."
            )
    return rows


def read_csv(file: Path) -> list[tuple[int, dict[str, Any]]]:
    with file.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened, restkey="", strict=True)
        rows = [(reader.line_num, row) for row in reader]
        names = reader.fieldnames or ()  # read while the file is open: an empty one has no header yet
    surplus = next((line for line, row in rows if "" in row or None in row.values()), None)
    if surplus is not None:
        raise ImageImportError(f"Line {surplus} of '{file}' has more or fewer values than the header has columns.")
    kinds = {name: reader_of([row[name] for _, row in rows]) for name in names}
    return [(line, {name: kinds[name](value) if value else None for name, value in row.items()}) for line, row in rows]


def reader_of(values: Sequence[str]) -> Callable[[str], Any]:
    """What turns this column's text into values without losing any of it (so '007' stays text)."""
    present = [value for value in values if value]
    if present and all(value in TRUTH for value in present):
        return TRUTH.__getitem__
    if present and all(is_whole(value) for value in present):
        return int
    if present and all(is_decimal(value) for value in present):
        return float
    return str


def is_whole(value: str) -> bool:
    try:
        return str(int(value)) == value
    except ValueError:
        return False


def is_decimal(value: str) -> bool:
    try:
        return abs(float(value)) < float("inf") and not value.lstrip("-").startswith("0" * 2)
    except ValueError:
        return False


def read_json_lines(file: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    for line, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not text.strip():
            continue
        try:
            values = json.loads(text, parse_constant=refuse_constant)
        except ValueError as error:
            raise ImageImportError(f"Line {line} of '{file}' is no JSON ({error}).") from error
        if not isinstance(values, dict) or any(isinstance(value, list | dict) for value in values.values()):
            raise ImageImportError(f"Line {line} of '{file}' must be one flat JSON object.")
        rows.append((line, values))
    return rows


def refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def metadata_row(file: Path, line: int, values: dict[str, Any]) -> MetadataRow:
    column = next((name for name in PATH_COLUMNS if values.get(name)), None)
    if column is None:
        raise ImageImportError(f"Line {line} of '{file}' has no path; name the column of the image files 'path'.")
    label, mask = values.get("label"), values.get("mask")
    rest = {k: v for k, v in values.items() if k not in (column, "label", "mask")}
    return MetadataRow(
        line=line,
        path=relative_path(file, line, str(values[column])),
        label=None if label is None else str(label),
        mask=relative_path(file, line, str(mask)) if mask else None,
        attributes=rest,
    )


def relative_path(file: Path, line: int, text: str) -> str:
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise ImageImportError(
            f"Line {line} of '{file}' names '{text}', which is not a path relative to the folder of the images."
        )
    return path.as_posix()
