"""What reviewers settled, for an export: one line per item with its verdict, the majority, and each answer's value."""

from __future__ import annotations

import json
import os
from pathlib import Path

from annotation.domain.adjudication import settled_items
from annotation.models import Study

NAME = "verdicts.jsonl"


def write_verdicts(study: Study, folder: Path) -> list[str]:
    """Write `verdicts.jsonl` where anything was settled; returns the names written."""
    settled = settled_items(study)
    if not settled:
        (folder / NAME).unlink(missing_ok=True)
        return []
    partial = folder / f".{NAME}.part"
    with partial.open("w", encoding="utf-8") as file:
        for one in settled:
            row = {"item": one.item_id, "judge": one.judge, "verdict": one.verdict, "majority": one.majority}
            file.write(json.dumps(row | {"answers": one.answers}, ensure_ascii=False) + "\n")
    os.replace(partial, folder / NAME)
    return [NAME]
