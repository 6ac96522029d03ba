"""Silent scoring of gold and catch items against the accepted answers frozen with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annotation.domain.protocols import questions_right
from annotation.models import Item


def score(item: Item, payload: Mapping[str, Any]) -> bool | None:
    """Whether every question with accepted answers was answered by one of them; None for an ordinary item."""
    right = questions_right(payload, item.accepted)
    return all(right.values()) if right else None
