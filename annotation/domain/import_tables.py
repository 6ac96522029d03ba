"""Tables that people bring: CSV and JSON Lines, read a line at a time, each with its number, every fault a sentence.

A CSV file needs a first line with the names of its columns; comma, semicolon and tab are told apart by that line. The
apostrophe that our own CSV puts before a text that looks like a formula is taken off again.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from annotation.domain.errands import ErrandError

MOST_LINES = 2_000_000
MOST_FAULTS = 100
CELL_BYTES = 1 << 20
FORMULA_STARTS = ("'=", "'+", "'-", "'@", "'\t", "'\r")


class Line(NamedTuple):
    number: int  # as an editor numbers it
    values: dict[str, Any]


class RowError(Exception):
    """One line of the table is wrong; the message says what."""


class Faults:
    """What is wrong, line by line: the first hundred in words, all of them counted."""

    def __init__(self) -> None:
        self.n = 0
        self.listed: list[dict[str, Any]] = []

    def add(self, line: int, sentence: str) -> None:
        self.n += 1
        if len(self.listed) < MOST_FAULTS:
            self.listed.append({"line": line, "error": sentence})

    def as_report(self) -> dict[str, Any]:
        return {"n_errors": self.n, "errors": self.listed}


def read_table(path: Path, file_name: str) -> Iterator[Line]:
    """The lines of a table, by the ending of the name it was sent under; raises ErrandError for what is no table."""
    readers = {".csv": read_csv, ".tsv": read_csv, ".jsonl": read_jsonl, ".ndjson": read_jsonl}
    suffix = Path(file_name).suffix.lower()
    if suffix not in readers:
        raise ErrandError(f"'{file_name}' is neither .csv nor .jsonl; save the table as one of them.")
    try:
        for count, line in enumerate(readers[suffix](path), start=1):
            if count > MOST_LINES:
                raise ErrandError(f"The table has more than {MOST_LINES:,} lines; cut it.")
            yield line
    except UnicodeDecodeError as error:
        raise ErrandError("The table is not UTF-8 text; save it as UTF-8.") from error
    except csv.Error as error:
        raise ErrandError(f"The table cannot be read as CSV: {error}.") from error


def read_csv(path: Path) -> Iterator[Line]:
    csv.field_size_limit(CELL_BYTES)
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=first.count)
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        names = [name.strip() for name in reader.fieldnames or []]
        if not names or len(set(names)) != len(names) or "" in names:
            raise ErrandError("The first line of the table must name its columns, each once.")
        reader.fieldnames = names
        for row in reader:
            extra = row.pop(None, None)
            if extra is not None or None in row.values():
                raise ErrandError(f"Line {reader.line_num} has another number of columns than the first line.")
            if any(row.values()):
                yield Line(reader.line_num, {name: without_apostrophe(value) for name, value in row.items()})


def without_apostrophe(value: str) -> str:
    return value[1:] if value.startswith(FORMULA_STARTS) else value


def read_jsonl(path: Path) -> Iterator[Line]:
    with path.open(encoding="utf-8-sig") as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ErrandError(f"Line {number} is not JSON.") from error
            if not isinstance(row, dict):
                raise ErrandError(f"Line {number} is not a JSON object with names and values.")
            yield Line(number, row)


def text_in(row: Mapping[str, Any], name: str, *, limit: int = 0, default: str | None = None) -> str:
    """A text; numbers are written out. Without a default it must be there."""
    value = row.get(name)
    if value is None or value == "":
        if default is None:
            raise RowError(f"There is no {name}.")
        return default
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise RowError(f"The {name} is {value!r}; it must be text.")
    text = str(value).strip()
    if "\x00" in text or (not text.isprintable() and "\n" not in text and "\t" not in text):
        raise RowError(f"The {name} has characters that cannot be stored.")
    if limit and len(text) > limit:
        raise RowError(f"The {name} has {len(text)} characters; {limit} is the most.")
    return text


def number_in(row: Mapping[str, Any], name: str, *, default: int | None = None) -> int:
    """A whole number, written as one."""
    value = row.get(name)
    if value is None or value == "":
        if default is None:
            raise RowError(f"There is no {name}.")
        return default
    try:
        number = int(str(value).removesuffix(".0"))
    except ValueError:
        raise RowError(f"The {name} is {value!r}; it must be a whole number.") from None
    if not -(2**31) <= number < 2**31 or isinstance(value, bool):
        raise RowError(f"The {name} is {value!r}; it must be a whole number.")
    return number


def flag_in(row: Mapping[str, Any], name: str, *, default: bool) -> bool:
    words = {
        "true": True,
        "false": False,
        "1": True,
        "0": False,
        "yes": True,
        "no": False,
        "": default,
        "none": default,
    }
    word = str(row.get(name, "")).strip().lower()
    if word not in words:
        raise RowError(f"The {name} is {word!r}; it can be true or false.")
    return words[word]


def json_in(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object: JSON in a cell of a CSV, as it is in JSON Lines."""
    value = row.get(name)
    if value in (None, ""):
        return {}
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise RowError(f"The {name} is not JSON.") from None
    if not isinstance(parsed, dict):
        raise RowError(f"The {name} must be a JSON object.")
    return parsed
