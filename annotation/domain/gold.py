"""Silent scoring of gold and catch items against the accepted answers frozen with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from annotation.domain.protocols import questions_right
from annotation.models import Item, Study


def score(item: Item, payload: Mapping[str, Any]) -> bool | None:
    """Whether every question with accepted answers was answered by one of them; None for an ordinary item."""
    return score_by(item.accepted, payload)


def score_by(accepted: Mapping[str, Any], payload: Mapping[str, Any]) -> bool | None:
    right = questions_right(payload, accepted)
    return all(right.values()) if right else None


def accepted_in(study: Study) -> Mapping[int, Mapping[str, Any]]:
    """Accepted answers by item; a launched study's are frozen, so they are read once per process."""
    if study.locked_hash:
        return frozen_accepted(study.pk, study.locked_hash, study.version)
    return read_accepted(study.pk)


@lru_cache(maxsize=64)
def frozen_accepted(study_id: int, locked_hash: str, version: str) -> Mapping[int, Mapping[str, Any]]:
    return read_accepted(study_id)


def read_accepted(study_id: int) -> Mapping[int, Mapping[str, Any]]:
    """Many items accept the same, which is kept once."""
    kept: dict[str, Mapping[str, Any]] = {}
    rows = Item.objects.filter(study_id=study_id).exclude(accepted={}).values_list("pk", "accepted")
    return {pk: kept.setdefault(json.dumps(accepted), accepted) for pk, accepted in rows.iterator()}
