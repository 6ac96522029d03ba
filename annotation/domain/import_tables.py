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

from django.utils.translation import gettext as _

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
        raise ErrandError(
            _("'%(file_name)s' is neither .csv nor .jsonl; save the table as one of them.") % {"file_name": file_name}
        )
    try:
        for count, line in enumerate(readers[suffix](path), start=1):
            if count > MOST_LINES:
                raise ErrandError(
                    _("The table has more than %(most_lines)s lines; cut it.") % {"most_lines": f"{MOST_LINES:,}"}
                )
            yield line
    except UnicodeDecodeError as error:
        raise ErrandError(_("The table is not UTF-8 text; save it as UTF-8.")) from error
    except csv.Error as error:
        raise ErrandError(_("The table cannot be read as CSV: %(error)s.") % {"error": error}) from error


def read_csv(path: Path) -> Iterator[Line]:
    csv.field_size_limit(CELL_BYTES)
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=first.count)
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        names = [name.strip() for name in reader.fieldnames or []]
        if not names or len(set(names)) != len(names) or "" in names:
            raise ErrandError(_("The first line of the table must name its columns, each once."))
        reader.fieldnames = names
        for row in reader:
            extra = row.pop(None, None)
            if extra is not None or None in row.values():
                raise ErrandError(
                    _("Line %(line_num)s has another number of columns than the first line.")
                    % {"line_num": reader.line_num}
                )
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
                raise ErrandError(_("Line %(number)s is not JSON.") % {"number": number}) from error
            if not isinstance(row, dict):
                raise ErrandError(_("Line %(number)s is not a JSON object with names and values.") % {"number": number})
            yield Line(number, row)


def text_in(row: Mapping[str, Any], name: str, *, limit: int = 0, default: str | None = None) -> str:
    """A text; numbers are written out. Without a default it must be there."""
    value = row.get(name)
    if value is None or value == "":
        if default is None:
            raise RowError(_("There is no %(name)s.") % {"name": name})
        return default
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise RowError(_("The %(name)s is %(value)s; it must be text.") % {"name": name, "value": repr(value)})
    text = str(value).strip()
    if "\x00" in text or (not text.isprintable() and "\n" not in text and "\t" not in text):
        raise RowError(_("The %(name)s has characters that cannot be stored.") % {"name": name})
    if limit and len(text) > limit:
        raise RowError(
            _("The %(name)s has %(n)s characters; %(limit)s is the most.")
            % {"name": name, "n": len(text), "limit": limit}
        )
    return text


def number_in(row: Mapping[str, Any], name: str, *, default: int | None = None) -> int:
    """A whole number, written as one."""
    value = row.get(name)
    if value is None or value == "":
        if default is None:
            raise RowError(_("There is no %(name)s.") % {"name": name})
        return default
    try:
        number = int(str(value).removesuffix(".0"))
    except ValueError:
        raise RowError(
            _("The %(name)s is %(value)s; it must be a whole number.") % {"name": name, "value": repr(value)}
        ) from None
    if not -(2**31) <= number < 2**31 or isinstance(value, bool):
        raise RowError(
            _("The %(name)s is %(value)s; it must be a whole number.") % {"name": name, "value": repr(value)}
        )
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
        raise RowError(_("The %(name)s is %(word)s; it can be true or false.") % {"name": name, "word": repr(word)})
    return words[word]


def json_in(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object: JSON in a cell of a CSV, as it is in JSON Lines."""
    value = row.get(name)
    if value in (None, ""):
        return {}
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise RowError(_("The %(name)s is not JSON.") % {"name": name}) from None
    if not isinstance(parsed, dict):
        raise RowError(_("The %(name)s must be a JSON object.") % {"name": name})
    return parsed
