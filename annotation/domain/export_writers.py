"""Writers of export files: rows in, bytes out, a batch in memory at a time.

CSV leaves missing values empty; JSONL and Parquet have null. A text that a spreadsheet would take for a formula, for it
begins with = + - @, a tab or a carriage return, has an apostrophe before it in CSV; the others have it as it was
written. Parquet types every column and needs pyarrow, which is loaded only then.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from annotation.domain.export_columns import Column, ColumnType

BATCH = 20_000
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
Rows = Iterable[tuple[Any, ...]]


def write_csv(path: Path, columns: Sequence[Column], rows: Rows) -> None:
    times = [index for index, column in enumerate(columns) if column.type is ColumnType.TIME]
    texts = [index for index, column in enumerate(columns) if column.type is ColumnType.TEXT]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([column.name for column in columns])
        writer.writerows(_without_formulas(_with_text_times(row, times), texts) for row in rows)


def write_jsonl(path: Path, columns: Sequence[Column], rows: Rows) -> None:
    names = [column.name for column in columns]
    times = [index for index, column in enumerate(columns) if column.type is ColumnType.TIME]
    nested = [index for index, column in enumerate(columns) if column.type is ColumnType.JSON]
    encode = json.JSONEncoder(ensure_ascii=False, default=str).encode
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            values = _with_text_times(row, times)
            for index in nested:
                values[index] = json.loads(values[index] or "null")
            file.write(encode(dict(zip(names, values, strict=True))) + "\n")


def write_parquet(path: Path, columns: Sequence[Column], rows: Rows) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        ColumnType.TEXT: pa.string(),
        ColumnType.JSON: pa.string(),
        ColumnType.INTEGER: pa.int64(),
        ColumnType.BOOLEAN: pa.bool_(),
        ColumnType.TIME: pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema(
        [pa.field(column.name, types[column.type], metadata={"meaning": column.meaning}) for column in columns]
    )
    as_text = [column.type is ColumnType.TEXT for column in columns]
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            series = [
                [None if value is None else str(value) for value in values] if text else values
                for values, text in zip(zip(*batch, strict=True), as_text, strict=True)
            ]
            arrays = [pa.array(values, type=field.type) for values, field in zip(series, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


WRITERS: dict[str, Callable[[Path, Sequence[Column], Rows], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}


def _batches(rows: Rows) -> Iterator[list[tuple[Any, ...]]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def without_formula(value: Any) -> Any:
    """The value of a CSV cell, which a spreadsheet shows and does not compute."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def _without_formulas(values: list[Any], texts: list[int]) -> list[Any]:
    for index in texts:
        values[index] = without_formula(values[index])
    return values


def _with_text_times(row: tuple[Any, ...], times: list[int]) -> list[Any]:
    values = list(row)
    for index in times:
        value = values[index]
        values[index] = value.isoformat() if isinstance(value, datetime) else value
    return values
