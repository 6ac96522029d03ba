"""Rows of answers as the readers yield them, with defaults, for tests of reports."""

from __future__ import annotations

from analysis.domain.answers import AnswerRow


def row(item: int, annotator: str, payload: dict[str, object], **fields: object) -> AnswerRow:
    values: dict[str, object] = {
        "item": item, "feature": item, "annotator": annotator, "payload": payload, "truth": {}, "is_gold_right": None,
        "is_current": True, "is_late_extra": False, "is_simulated": False, "excluded_reason": "", "repeat_of": None,
        "condition": "real", "variant": "", "block": 0, "dictionary": "sae", "other_dictionary": "",
        "other_feature": None,
    }  # fmt: skip
    return AnswerRow(**(values | fields))  # type: ignore[arg-type]
